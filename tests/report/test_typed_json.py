"""Dataclasses from JSON and back."""

from dataclasses import dataclass, field

import pytest

from segp_ext.report.typed_json import WrongEntryError, plain, typed


@dataclass
class Part:
    size: int


@dataclass
class Whole:
    name: str
    part: Part | None
    parts: list[Part]
    by_name: dict[str, Part] = field(default_factory=dict)


def test_there_and_back():
    for part in (None, Part(3)):
        made = Whole("a", part, [Part(1)], {"b": Part(2)})
        assert typed(Whole, plain(made), "") == made


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": 3}, "name must be a string; got 3"),
        ({"part": {"size": "x"}}, "part.size must be a whole number; got 'x'"),
        ({"part": 5}, "part must be an object; got 5"),
        ({"parts": [{}]}, "parts.size is missing"),
        ({"more": 1}, "more is unknown"),
        ({"by_name": {"b": None}}, "by_name.b must be an object; got None"),
    ],
)
def test_what_does_not_fit_is_named(changed, message):
    with pytest.raises(WrongEntryError) as error:
        typed(Whole, {**plain(Whole("a", None, [])), **changed}, "")
    assert str(error.value) == message
