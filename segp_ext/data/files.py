"""Finds the files of a data set: image files by their endings, hidden files left out, and text files by their settings."""

from __future__ import annotations

import codecs
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".png",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".avif",
        ".jp2",
        ".j2k",
        ".jpx",
        ".ico",
        ".tga",
        ".heic",
        ".heif",
    }
)
"""Endings of image files, in small letters. Files with other endings are left alone."""

_LEFT_BEHIND = frozenset(
    {
        "__macosx",
        "@eadir",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
        "lost+found",
        "__pycache__",
        "$recycle.bin",
        "system volume information",
        "#recycle",
        "@recycle",
        "#snapshot",
        "@recently-snapshot",
    }
)
"""What file managers, archivers, disks and storage servers leave behind, in small letters. Some of these folders hold deleted images."""


def is_ignored(name: str) -> bool:
    """Tells whether a file or folder is hidden, or was left behind by a program."""
    return name.startswith(".") or name.lower() in _LEFT_BEHIND


def is_image(file: Path) -> bool:
    """Tells whether a file's ending, in any capitals, is that of an image."""
    return file.suffix.lower() in SUFFIXES


def all_files(top: Path) -> list[Path]:
    """Lists all files in a folder, at any depth and through links, sorted. Hidden files and folders are left out.

    Raises:
        OSError: for a folder that may not be read.
    """
    found: list[Path] = []
    seen: set[str] = set()  # links can lead back
    folders = [str(top)]
    while folders:
        place = folders.pop()
        real = os.path.realpath(place)
        if real in seen:
            continue
        seen.add(real)
        with os.scandir(place) as entries:
            for entry in entries:
                if is_ignored(entry.name):
                    continue
                if entry.is_dir():
                    folders.append(entry.path)
                else:
                    found.append(Path(entry.path))
    return sorted(found)


def image_files(folder: Path) -> list[Path]:
    """Lists all image files in a folder, by their endings, at any depth, sorted. Hidden files and folders are left out."""
    return [file for file in all_files(folder) if is_image(file)]


def loose_images(folder: Path) -> list[Path]:
    """Lists the images that lie in a folder itself, not below it, sorted."""
    return sorted(file for file in folder.iterdir() if is_image(file) and file.is_file())


def holds_images(folder: Path) -> bool:
    """Tells whether an image lies in a folder itself, not below it."""
    return any(is_image(file) and file.is_file() for file in folder.iterdir())


def read_lines(path: Path) -> list[str]:
    """Reads the lines of a text file, stripped, without empty ones.

    The file may be UTF-8, UTF-16 with a byte-order mark, or else Latin-1.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a text file.
    """
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in content:
        raise ValueError(f"{path} is not a text file: it holds zero bytes")
    else:
        encoding = "utf-8-sig"
    try:
        lines = content.decode(encoding).splitlines()
    except UnicodeDecodeError as error:
        if encoding == "utf-16":
            raise ValueError(f"{path} is not a text file: {error}") from error
        lines = content.decode("latin-1").splitlines()
    return [line.strip() for line in lines if line.strip()]


def read_json(path: Path) -> Any:
    """Reads a JSON file in UTF-8, with or without a byte-order mark.

    Raises:
        OSError: if the file cannot be read.
        ValueError: naming the file, if it is not JSON, or a name stands twice in one group, of which one value would be lost.
    """

    def group(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
            raise ValueError(f"{twice!r} stands there twice")
        return found

    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=group)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from error


def leads_out(path: str) -> bool:
    """Tells whether a path that a list names is empty, absolute, or climbs out of the folder that it starts from."""
    steps = path.replace("\\", "/").split("/")
    return steps[0] == "" or ".." in steps


def named_file(setting: str, name: str, base: Path) -> Path:
    """Finds the file that a setting names: from the working directory (`~` is the home folder), or else from the data set's folder.

    Args:
        setting: the setting, for the message.
        name: its value.
        base: the data set's folder.

    Raises:
        FileNotFoundError: if there is no such file in either place.
    """
    for path in (Path(os.path.expanduser(name)), base / name):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{setting}: no file {name!r} in the working directory or in {base}")
