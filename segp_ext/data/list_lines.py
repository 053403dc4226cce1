"""Reads list files, which name images line by line, in the forms that people write them: paths, columns, headers, labels, YAML."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from segp_ext.data.files import SUFFIXES, read_lines

# A listed path ends with the first image ending that a separator or the line's end follows: paths may hold spaces themselves.
_LISTED = re.compile(rf"[\"']?(.*?(?:{'|'.join(map(re.escape, sorted(SUFFIXES)))}))(?:[\s,;|\"']|$)", re.IGNORECASE)
_SEPARATOR = re.compile(r"[\t,;|]")
_LABELS = frozenset({"label", "labels", "class", "classes", "class_id", "class_name", "category", "target"})
"""Names that lists give to a column of labels, in small letters."""


def list_lines(path: Path) -> list[str]:
    """Reads the lines of a list file without comments, or the list `data` of a YAML file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a list, or an empty one.
    """
    if path.suffix.lower() in (".yaml", ".yml"):
        lines = _yaml_entries(path)
    else:
        lines = [line for line in read_lines(path) if not line.startswith(("#", "//"))]
        if lines and (path.suffix.lower() == ".json" or lines[0][0] in "[{<"):
            looks = "markup (HTML or XML)" if lines[0][0] == "<" else "JSON"
            raise ValueError(
                f"{path} looks like {looks}; a list has one path per line, or is a YAML file with a list of paths under data:"
            )
    if not lines:
        raise ValueError(f"{path} is empty; a list names one image per line")
    return lines


def _yaml_entries(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        depth = 0
        for event in yaml.parse(text, loader):  # composing would end the process for want of stack
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > 20:
                raise ValueError("its lists are nested more than 20 deep")
        content = yaml.load(text, loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path} is not a YAML file: {error}") from error
    entries = content.get("data") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
        raise ValueError(f"{path} must hold a list of paths under data:")
    return [entry.strip() for entry in entries if entry.strip()]


def _bare(text: str) -> str:
    """Takes the quotes off a column, and writes the separators of folders as `/`."""
    return text.strip("\"' ").replace("\\", "/")


def names_image(text: str) -> bool:
    """Tells whether a string ends like an image file's name."""
    return os.path.splitext(text)[1].lower() in SUFFIXES


def readings(line: str) -> list[str]:
    """Lists the paths that a line may mean, the longest first, as names may hold spaces and endings.

    A path may be the whole line or a column. It may be the line without its last or first word, or the line up to an image's ending. It
    may also be the first or the last word.
    """
    ended = _LISTED.match(line)
    columns = _SEPARATOR.split(line)
    images = [column for column in columns if names_image(_bare(column))]
    whole = [line] if len(images) < 2 else []  # two may be an image and its mask
    without_first, without_last = line.split(None, 1)[1:], line.rsplit(None, 1)[0]  # paths may hold spaces
    first, last = line.split()[0], line.split()[-1]
    found = [*whole, *images, without_last, *without_first, *([ended[1]] if ended else []), *columns, first, last]
    return list(dict.fromkeys(_bare(text) for text in found if _bare(text)))


def header_columns(line: str) -> list[str]:
    """Returns the names of columns, in small letters, if a list's first line is a header; else an empty list.

    A header holds no path: no text with a folder or an image's ending.
    """
    if any("/" in text or names_image(text) for text in readings(line)):
        return []
    columns = _SEPARATOR.split(line)
    return [_bare(column).lower() for column in (columns if len(columns) > 1 else line.split())]


def labels_in(line: str, path: str, header: Sequence[str]) -> list[str]:
    """Finds the labels that a list's line gives to an image: columns that the header calls labels, or the one column beside the path.

    Args:
        line: the line.
        path: the image's path, as the line has it.
        header: names of the columns, empty if the list has no header.
    """
    columns = _SEPARATOR.split(line)
    if len(columns) == 1:  # paths may hold spaces
        pairs = (line.rsplit(None, 1), line.split(None, 1))
        columns = next((pair for pair in pairs if len(pair) == 2 and path in map(_bare, pair)), columns)
    columns = [_bare(column) for column in columns]
    if len(columns) == len(header):
        return [column for column, name in zip(columns, header, strict=True) if name in _LABELS]
    others = [column for column in columns if column != path]
    return others if len(columns) == 2 and not header and not any(map(names_image, others)) else []
