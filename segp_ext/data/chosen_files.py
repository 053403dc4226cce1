"""Finds the image files that a user names: files, folders, patterns, and lists of paths on standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from segp_ext.data.files import SUFFIXES, image_files
from segp_ext.data.messages import several

LIST = "-"
"""What stands for a list of paths on standard input, one path a line."""


def chosen_files(arguments: Iterable[str], standard_input: BinaryIO) -> list[Path]:
    """Lists the image files that arguments name, in the order of the arguments; the files of a folder are sorted.

    Args:
        arguments: each a file, a folder, a pattern that the shell left alone, or `LIST`. A folder gives its images at any depth, hidden
            ones left out. A folder that matches a pattern does so too. A file is taken whatever its ending.
        standard_input: holds the list of paths, one a line. Empty lines are skipped. A line may be all that an argument may be.

    Raises:
        ValueError: naming the arguments and lines that name no image: a path that is not there, an empty folder, a folder that may not
            be read, an address.
    """
    found: list[Path] = []
    troubles: list[object] = []
    for text in arguments:
        lines = _lines(standard_input) if text == LIST else [text]
        named = False
        for line in lines:
            named = True
            try:
                found += _files_of(line)
            except (OSError, ValueError) as error:
                troubles.append(error)
        if not named:
            troubles.append("no path on standard input")
    if troubles:
        raise ValueError(several(troubles))
    return found


def _lines(stream: BinaryIO) -> Iterator[str]:
    for line in stream:
        if path := line.rstrip(b"\r\n"):
            yield os.fsdecode(path)


def _files_of(text: str) -> list[Path]:
    """Lists the files that one argument names.

    Raises:
        OSError: for a folder that may not be read.
        ValueError: for an argument that names no image.
    """
    if not text:
        raise ValueError("a path must not be empty; . is the folder where you are")
    path = Path(os.path.expanduser(text))
    if path.is_dir():
        found, none = image_files(path), f"no image in the folder {text}"
    elif path.is_file():
        return [path]
    elif path.exists():
        raise ValueError(f"{text} is neither a file nor a folder")
    elif "://" in text:
        raise ValueError(f"{text} is an address; download it, and give the file")
    elif glob.has_magic(text):
        matched = sorted(map(Path, glob.glob(str(path), recursive=True)))
        each = [file for match in matched for file in (image_files(match) if match.is_dir() else [match])]
        found, none = [*dict.fromkeys(each)], f"no file matches {text}"
    else:
        raise ValueError(f"there is no file or folder {text}")
    if not found:
        raise ValueError(f"{none} (known endings: {', '.join(sorted(SUFFIXES))})")
    return found
