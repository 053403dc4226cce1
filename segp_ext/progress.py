"""Progress bars: one look everywhere, silent when standard error is not a terminal and in all processes but the main one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], description: str, total: int | None = None) -> tqdm[T]:
    """Wraps `items` in a bar that vanishes when done."""
    shown = sys.stderr.isatty() and os.environ.get("RANK", "0") == "0"
    return tqdm(items, description, total=total, leave=False, dynamic_ncols=True, disable=not shown)
