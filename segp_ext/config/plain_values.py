"""Settings as nested plain values, as YAML and JSON hold them: checked, built into dataclasses, and their types in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from functools import cache
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from segp_ext.config.checks import require
from segp_ext.config.hints import close_names
from segp_ext.config.setting import sections

_SECTION = "a group of settings, {name: value, ...}"
_type_hints = cache(get_type_hints)  # the original reads all annotations of a class anew


def from_dict(cls: type, values: dict[str, Any], prefix: str = "") -> Any:
    """Builds a dataclass of settings from nested plain values, as `dataclasses.asdict` gives them.

    Args:
        cls: the dataclass.
        values: its settings; missing settings take their defaults.
        prefix: dotted name of the section that `cls` is, with a dot at its end, for messages.

    Raises:
        ValueError: for a setting that does not exist, has the wrong type, or has a value that its class refuses.
    """
    check_settings(cls, values, prefix)
    inner = sections(cls)
    return cls(**{name: from_dict(inner[name], value) if name in inner else value for name, value in values.items()})


def check_settings(cls: type, values: dict[str, Any], prefix: str = "", known: Collection[str] = ()) -> None:
    """Checks the names and types of nested plain values, which may be incomplete, without building anything.

    Args:
        cls: the dataclass whose settings `values` holds.
        values: settings by name.
        prefix: as for `from_dict`.
        known: dotted names among which a hint for an unknown name is sought; by default the names of `cls`.

    Raises:
        ValueError: for a setting that does not exist, with close names, or that has the wrong type.
    """
    names = [f.name for f in dataclasses.fields(cls)]
    known = known or [f"{prefix}{name}" for name in setting_types(cls)]
    for name, value in values.items():
        if name not in names:
            close = close_names(f"{prefix}{name}", known)
            hint = f"; close: {', '.join(close)}" if close else ""
            raise ValueError(f"no such setting: {prefix}{name}{hint}; known here: {', '.join(names)}")
        section, expected = sections(cls).get(name), _type_hints(cls)[name]
        right = fits(value, dict if section else expected)
        as_strings = [*map(str, value)] if isinstance(value, list) else str(value)
        remedy = " (put such a string in quotes)" if value is not None and fits(as_strings, expected) else ""
        require(right, f"{prefix}{name}", _SECTION if section else type_in_words(expected), value, remedy)
        if section:
            check_settings(section, value, f"{prefix}{name}.", known)


def dotted(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested settings in one flat dictionary by dotted name, each name after `prefix`."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


@cache
def setting_types(cls: type) -> Mapping[str, Any]:
    """Returns the types of all settings of a dataclass by dotted name; a section has the type dict."""
    inner, hints = sections(cls), _type_hints(cls)
    own = {f.name: dict if f.name in inner else hints[f.name] for f in dataclasses.fields(cls)}
    inside = {
        f"{section}.{name}": hint for section, kind in inner.items() for name, hint in setting_types(kind).items()
    }
    return MappingProxyType(own | inside)


def fits(value: Any, expected: Any) -> bool:
    """Tells whether a plain value has a type that settings and results use. A whole number fits float; true and false fit only bool."""
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
    str: "a string",
    NoneType: "null",
    list[str]: "a list of strings, [a, b]",
    list[int]: "a list of whole numbers, [3, 2]",
    list[dict[str, Any]]: "a list of groups of settings, [{name: value, ...}, ...]",
}


def type_in_words(expected: Any) -> str:
    """Returns the type of a setting as messages and help say it: "a whole number or null"."""
    if get_origin(expected) in (Union, UnionType):
        return " or ".join(map(type_in_words, get_args(expected)))
    if get_origin(expected) is Literal:
        return f"one of {', '.join(map(str, get_args(expected)))}"
    return _WORDS[expected]
