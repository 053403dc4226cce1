"""Settings as nested plain values, as YAML and JSON hold them: built into dataclasses, checked, and their types in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from functools import cache
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from segp_ext.config.checks import require
from segp_ext.config.hints import close_names


def from_dict(cls: type, values: dict[str, Any], prefix: str = "") -> Any:
    """Builds a config dataclass from nested plain values, as `dataclasses.asdict` gives them.

    Raises:
        ValueError: for a field that does not exist, has the wrong type, or has a value that its class refuses.
    """
    check_settings(cls, values, prefix)
    groups = _groups(cls)
    return cls(**{name: from_dict(groups[name], value) if name in groups else value for name, value in values.items()})


def check_settings(cls: type, values: dict[str, Any], prefix: str = "", known: Collection[str] = ()) -> None:
    """Checks names and types of nested plain values, which need not be all, without building anything.

    A name that does not exist is an error with what it may mean, of `known` dotted names, which are those of `cls` by default.

    Raises:
        ValueError: for a field of `cls` that does not exist or has the wrong type.
    """
    names = [f.name for f in dataclasses.fields(cls)]
    known = known or [f"{prefix}{name}" for name in setting_types(cls)]
    for name, value in values.items():
        if name not in names:
            close = close_names(f"{prefix}{name}", known)
            hint = f"; close: {', '.join(close)}" if close else ""
            raise ValueError(f"no such setting: {prefix}{name}{hint}; known here: {', '.join(names)}")
        group, hint = _groups(cls).get(name), _type_hints(cls)[name]
        right = fits(value, dict if group else hint)
        as_text = [*map(str, value)] if isinstance(value, list) else str(value)
        remedy = " (a text like this needs quotes)" if value is not None and fits(as_text, hint) else ""
        require(right, f"{prefix}{name}", _GROUP if group else type_in_words(hint), value, remedy)
        if group:
            check_settings(group, value, f"{prefix}{name}.", known)


def dotted(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted names."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


@cache
def setting_types(cls: type) -> Mapping[str, Any]:
    """The types of all settings of a config dataclass by dotted name, and of its groups, which are dict."""
    groups, hints = _groups(cls), _type_hints(cls)
    own = {f.name: dict if f.name in groups else hints[f.name] for f in dataclasses.fields(cls)}
    inside = {f"{group}.{name}": hint for group, kind in groups.items() for name, hint in setting_types(kind).items()}
    return MappingProxyType(own | inside)


_GROUP = "a group of settings, {name: value, ...}"
_type_hints = cache(get_type_hints)  # which reads all of a class's annotations anew


@cache
def _groups(cls: type) -> Mapping[str, type]:
    """The fields of a config dataclass that hold settings of their own, with their classes."""
    found: dict[str, Any] = {f.name: f.default_factory for f in dataclasses.fields(cls)}
    return {name: kind for name, kind in found.items() if isinstance(kind, type) and dataclasses.is_dataclass(kind)}


def fits(value: Any, expected: Any) -> bool:
    """Whether a plain value is of a type, as settings and results have them."""
    if expected is Any:
        return True
    if get_origin(expected) is Literal:
        return value in get_args(expected)
    if get_origin(expected) in (Union, UnionType):
        return any(fits(value, option) for option in get_args(expected))
    if get_origin(expected) is list:
        return isinstance(value, list) and all(fits(item, get_args(expected)[0]) for item in value)
    if expected is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, get_origin(expected) or expected) and (expected is bool or not isinstance(value, bool))


_WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    NoneType: "null",
    list[str]: "a list of texts, [a, b]",
}


def type_in_words(expected: Any) -> str:
    if get_origin(expected) in (Union, UnionType):
        return " or ".join(map(type_in_words, get_args(expected)))
    if get_origin(expected) is Literal:
        return f"one of {', '.join(map(str, get_args(expected)))}"
    return _WORDS[expected]
