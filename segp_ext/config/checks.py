"""Checks of single values that the sections of settings share; each error names the setting and what came."""

from __future__ import annotations

import math
import reprlib


class _Short(reprlib.Repr):
    """What came, for messages: whole where it is of usual length."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 200
        self.maxlist = self.maxdict = 20
        self.maxlevel = 4

    def repr_int(self, value: int, level: int) -> str:
        """A number, or how long it is where Python would not write it out."""
        return str(value) if value.bit_length() < 200 else f"a number of {value.bit_length()} bits"


_SHORT = _Short()
_LARGEST = 2**31 - 1
"""No count here can sensibly be larger, and what they are handed to takes no larger ones."""


def require(condition: bool, field_name: str, expected: str, value: object, remedy: str = "") -> None:
    if not condition:
        raise ValueError(f"{field_name} must be {expected}; got {_SHORT.repr(value)}{remedy}")


def finite(section: str, name: str, value: float) -> None:
    if isinstance(value, int):
        require(value <= _LARGEST, f"{section}.{name}", f"at most {_LARGEST}", value)
    else:
        require(math.isfinite(value), f"{section}.{name}", "a finite number", value)


def positive(section: str, config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        finite(section, name, value)
        require(value > 0, f"{section}.{name}", "greater than 0", value)


def within(section: str, config: object, low: float, high: float, *names: str) -> None:
    """Beyond these bounds float32 scores overflow or vanish, and what depends on them does nothing."""
    for name in names:
        value = getattr(config, name)
        require(low <= value <= high, f"{section}.{name}", f"from {low:g} to {high:g}", value)


def not_negative(section: str, config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        finite(section, name, value)
        require(value >= 0, f"{section}.{name}", "0 or more", value)
