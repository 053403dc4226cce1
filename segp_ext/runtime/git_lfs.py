"""Files that Git LFS keeps elsewhere: a checkout made without it has small texts in their place."""

from __future__ import annotations

from pathlib import Path

_FIRST = b"version https://git-lfs.github.com/spec/"


def hint(content: bytes) -> str:
    """What to add to the error for a file that begins like this; nothing if it is no pointer of Git LFS."""
    return (
        "; it is a pointer of Git LFS, and the file itself was not fetched: git lfs pull"
        if content.startswith(_FIRST)
        else ""
    )


def hint_for(file: Path) -> str:
    """The same for a file, which may not be readable either."""
    try:
        with open(file, "rb") as opened:
            return hint(opened.read(len(_FIRST)))
    except OSError:
        return ""
