"""Builds the phrases of messages about a data set: a few of many things, and the entries of a folder."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path


def several(items: Iterable[object], limit: int = 3) -> str:
    """Joins the first `limit` items and counts the rest: "a, b, c and 4 more"."""
    texts = [str(item) for item in items]
    return ", ".join(texts[:limit]) + (f" and {len(texts) - limit} more" if len(texts) > limit else "")


def without_settings(error: str) -> str:
    """Returns an error about a data set for a command that has no settings of data sets."""
    return re.sub(r"; --data\.train_list and .* choose the split", "", error).removeprefix("data.root: ")


def contents(folder: Path) -> str:
    """Names the first few entries of a folder, or says "nothing"."""
    entries = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in folder.iterdir())
    return several(entries, 6) or "nothing"
