"""Turns dataclasses into what JSON can hold, and JSON into dataclasses, with the type of every entry checked."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args, get_origin, get_type_hints

from segp_ext.config import fits


class WrongEntryError(Exception):
    """An entry of a JSON file that is missing, unknown or of the wrong kind."""


def plain(value: Any) -> Any:
    """Turns a value into what JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return value


def typed(kind: Any, value: Any, place: str) -> Any:
    """Turns a value of JSON into a field's type; objects become dataclasses where the type is one.

    Args:
        kind: The type.
        value: The value that JSON holds.
        place: Name of the entry, for messages; empty for the whole file.

    Raises:
        WrongEntryError: Naming the entry that is missing, unknown or of another type.
    """
    inside = get_args(kind)
    made = next((part for part in inside if dataclasses.is_dataclass(part)), None)
    if made is not None and type(None) in inside:
        return None if value is None else typed(made, value, place)
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        needed = {f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING}
        if not isinstance(value, dict):
            raise WrongEntryError(f"{place or 'the file'} must be an object; got {value!r}")
        inner = {name: f"{place}.{name}" if place else name for name in {*needed, *hints, *value}}
        for name in sorted(needed - value.keys()):
            raise WrongEntryError(f"{inner[name]} is missing")
        for name in sorted(value.keys() - hints.keys()):
            raise WrongEntryError(f"{inner[name]} is unknown")
        return kind(**{name: typed(hints[name], entry, inner[name]) for name, entry in value.items()})  # type: ignore[operator]
    if get_origin(kind) is list and isinstance(value, list):
        return [typed(inside[0], entry, place) for entry in value]
    if get_origin(kind) is dict and isinstance(value, dict):
        return {key: typed(inside[1], entry, f"{place}.{key}") for key, entry in value.items()}
    if not fits(value, kind):
        raise WrongEntryError(f"{place} must be {in_words(kind)}; got {value!r}")
    return value


_WORDS: dict[Any, str] = {
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


def in_words(kind: Any) -> str:
    """Names a field's type in an error."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    origin = get_origin(kind)
    return _WORDS[origin or kind] if (origin or kind) in _WORDS else " or ".join(map(in_words, get_args(kind)))
