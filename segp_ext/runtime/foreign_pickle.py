"""What readers of foreign pickles share: the names that a pickle may use, and the error for all other names."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any


class Known:
    """A function that a pickle may call by its name. It has no attributes, and refuses state that a pickle would set on it.

    Args:
        call: the function.
    """

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("state for a name")


def refuse_name(module: str, name: str, expected: str) -> pickle.UnpicklingError:
    """Makes the error for a name that a pickle may not use.

    Args:
        module, name: the name, and the module that it is in.
        expected: what names the pickle may use, as "part of a model".
    """
    return pickle.UnpicklingError(f"it asks for {module}.{name}, which is no {expected}")
