"""What the commands show while they work: progress bars, and warnings and errors in one line."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
_USUAL_FORMAT = warnings.formatwarning


def progress(items: Iterable[T], description: str, total: int | None = None, initial: int = 0) -> tqdm[T]:
    """Wraps `items` in a bar that vanishes when done; `initial` of them are done already.

    There is none where standard error is no terminal, nor in processes but the main one.
    """
    shown = sys.stderr.isatty() and os.environ.get("RANK", "0") == "0"
    return tqdm(items, description, total, leave=False, dynamic_ncols=True, disable=not shown, initial=initial)


def plain_warnings() -> None:
    """Lets this package's warnings be a line each, without the place in its code; for commands."""
    warnings.formatwarning = _formatted


def _formatted(message: Warning | str, category: type[Warning], *place: Any, **line: Any) -> str:
    return f"warning: {message}\n" if category is RuntimeWarning else _USUAL_FORMAT(message, category, *place, **line)


def first_line(error: BaseException) -> str:
    """An exception's first line of text, or its type where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
