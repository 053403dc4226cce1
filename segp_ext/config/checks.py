"""Checks of single values for all sections of settings. Each error names the setting, the expected value and the given one."""

from __future__ import annotations

import math
import reprlib

_LARGEST = 2**31 - 1
"""Bound of all whole numbers: no larger one makes sense, and the libraries below take no larger one."""


class _Short(reprlib.Repr):
    """Shortens values of unusual length for messages."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 200
        self.maxlist = self.maxdict = 20
        self.maxlevel = 4

    def repr_int(self, value: int, level: int) -> str:
        """Returns a whole number, or its length in bits if Python would not write it out."""
        return str(value) if value.bit_length() < 200 else f"a number of {value.bit_length()} bits"


_SHORT = _Short()


def require(condition: bool, name: str, expected: str, value: object, remedy: str = "") -> None:
    """Raises ValueError without `condition`: "`name` must be `expected`; got `value``remedy`"."""
    if not condition:
        raise ValueError(f"{name} must be {expected}; got {_SHORT.repr(value)}{remedy}")


def require_prompt(name: str, prompt: str) -> None:
    """Refuses a prompt template that lacks {}, or has more braces than it."""
    require(
        prompt.count("{}") == prompt.count("{") == prompt.count("}") == 1,
        name,
        "a string with one {} for the class name and no other braces",
        prompt,
    )


def finite(section: str, name: str, value: float) -> None:
    """Refuses infinite numbers, NaN, and whole numbers above 2^31 - 1."""
    if isinstance(value, int):
        require(value <= _LARGEST, f"{section}.{name}", f"at most {_LARGEST}", value)
    else:
        require(math.isfinite(value), f"{section}.{name}", "a finite number", value)


def positive(section: str, config: object, *names: str) -> None:
    """Refuses settings of a section, by name, that are not above 0."""
    for name in names:
        value = getattr(config, name)
        finite(section, name, value)
        require(value > 0, f"{section}.{name}", "greater than 0", value)


def not_negative(section: str, config: object, *names: str) -> None:
    """Refuses settings of a section, by name, that are below 0."""
    for name in names:
        value = getattr(config, name)
        finite(section, name, value)
        require(value >= 0, f"{section}.{name}", "0 or more", value)


def within(section: str, config: object, low: float, high: float, *names: str) -> None:
    """Refuses settings of a section, by name, outside [low, high]. Beyond such bounds float32 scores overflow or vanish without a word."""
    for name in names:
        value = getattr(config, name)
        require(low <= value <= high, f"{section}.{name}", f"from {low:g} to {high:g}", value)
