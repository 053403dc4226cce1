"""Recognises pointers of Git LFS: small text files that a checkout without it has in place of large files."""

from __future__ import annotations

from pathlib import Path

_FIRST = b"version https://git-lfs.github.com/spec/"


def hint(content: bytes) -> str:
    """Returns what to add to an error about a file with this content; an empty string if it is no pointer of Git LFS."""
    return (
        "; it is a pointer of Git LFS, and the file itself was not fetched: git lfs pull"
        if content.startswith(_FIRST)
        else ""
    )


def hint_for(file: Path) -> str:
    """Does what `hint` does, for a file that may be unreadable."""
    try:
        with open(file, "rb") as opened:
            return hint(opened.read(len(_FIRST)))
    except OSError:
        return ""
