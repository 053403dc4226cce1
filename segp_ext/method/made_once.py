"""Objects that are made once, and made anew when their sources change."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

Made = TypeVar("Made")


class MadeOnce(Generic[Made]):
    """Keeps one object together with its sources."""

    def __init__(self) -> None:
        self._kept: tuple[Any, Made] | None = None

    def get(self, made_from: Any, make: Callable[[], Made]) -> Made:
        """Returns the thing kept if it was made from an equal `made_from`; otherwise calls `make` and keeps its answer."""
        kept = self._kept
        if kept is None or kept[0] != made_from:
            kept = self._kept = made_from, make()
        return kept[1]
