"""The part that readers of foreign pickles share: the names that a pickle may use, and a refusal of all others."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any


class Known:
    """A name that a pickle may use. Without attributes, and deaf to state that a pickle would set on it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("state for a name")


def refuse_name(module: str, name: str, expected: str) -> pickle.UnpicklingError:
    """The error for a name that a pickle may not use."""
    return pickle.UnpicklingError(f"it asks for {module}.{name}, which is no {expected}")
