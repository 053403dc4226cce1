"""`setting`, which declares one field of a section together with the facts about it, and the functions that read these facts."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from types import MappingProxyType
from typing import Any, TypeVar

Value = TypeVar("Value")
_FACTS = "facts"


@dataclass(frozen=True)
class Facts:
    """Facts about one setting beside its type, its default and its meaning.

    A setting of the method has exactly one of `paper` and `ours`.

    Attributes:
        paper: where the paper states the default: section, equation, table or figure.
        ours: what the setting is for, if the paper is silent about it or the setting goes beyond the paper.
        measured: file of this project with the measurement behind `ours`; empty without one.
        resume: whether the setting may change when a run resumes. The change affects results only by rounding.
        protocol: whether a protocol sets the setting. Another value then adds "+changed" to the id of a result.
        short_help: whether `--help` shows the setting; `--help all` shows every setting.
    """

    paper: str = ""
    ours: str = ""
    measured: str = ""
    resume: bool = False
    protocol: bool = False
    short_help: bool = False


def setting(
    default: Value,
    *,
    paper: str = "",
    ours: str = "",
    measured: str = "",
    resume: bool = False,
    protocol: bool = False,
    short_help: bool = False,
) -> Value:
    """Declares a field of a section of settings. The docstring below the field says what the setting means.

    Args:
        default: the default value; every instance gets its own copy of a list.
        paper: see `Facts`, like the others.
        ours: see `Facts`.
        measured: see `Facts`.
        resume: see `Facts`.
        protocol: see `Facts`.
        short_help: see `Facts`.

    Returns:
        The field for `dataclasses.dataclass`, typed as its value.
    """
    facts = {_FACTS: Facts(paper, ours, measured, resume, protocol, short_help)}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=facts)  # type: ignore[return-value]
    return field(default=default, metadata=facts)


@cache
def sections(cls: type) -> Mapping[str, type]:
    """Returns the sections of a dataclass of settings by name: the fields that are dataclasses themselves."""
    found: dict[str, Any] = {f.name: f.default_factory for f in dataclasses.fields(cls)}
    return MappingProxyType(
        {name: kind for name, kind in found.items() if isinstance(kind, type) and dataclasses.is_dataclass(kind)}
    )


@cache
def facts_of(cls: type) -> Mapping[str, Facts]:
    """Returns the facts about every setting of a dataclass by dotted name; empty facts for a field without `setting`."""
    own = {f.name: f.metadata.get(_FACTS, Facts()) for f in dataclasses.fields(cls) if f.name not in sections(cls)}
    inside = {f"{name}.{key}": facts for name, kind in sections(cls).items() for key, facts in facts_of(kind).items()}
    return MappingProxyType(own | inside)


@cache
def meanings(cls: type) -> Mapping[str, str]:
    """Returns the docstrings of a dataclass and below its fields, by dotted name, with sections under their own names.

    The docstring of `cls` itself has the name "". The source is read, as Python keeps no docstrings of fields; without a source the
    mapping is empty.
    """
    found: dict[str, str] = {}
    for kind in reversed(cls.__mro__):
        if dataclasses.is_dataclass(kind):
            try:
                tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
            except OSError:
                continue
            body: list[ast.stmt] = tree.body[0].body  # type: ignore[attr-defined]
            found[""] = ast.get_docstring(tree.body[0]) or ""  # type: ignore[arg-type]
            for statement, below in pairwise(body):
                match statement, below:
                    case (
                        ast.AnnAssign(target=ast.Name(id=name)),
                        ast.Expr(value=ast.Constant(value=str(text))),
                    ):
                        found[name] = text
    for name, kind in sections(cls).items():
        found |= {f"{name}.{key}".rstrip("."): text for key, text in meanings(kind).items()}
    return MappingProxyType(found)
