"""Makes class names: from the names of class folders, or from the JSON file `data.names_file`."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

from segp_ext.config import DataConfig
from segp_ext.data.files import named_file, read_json
from segp_ext.data.messages import several


def composed(text: str) -> str:
    """Returns a name in Unicode's composed form (NFC). Accents then compare as equal, whoever wrote them.

    macOS writes é as a letter and an accent, other systems as one letter.
    """
    return unicodedata.normalize("NFC", text)


def class_name(folder: str) -> str:
    """Turns a folder's name into a class name: underscores become spaces."""
    return " ".join(folder.replace("_", " ").split())


def names_from_file(config: DataConfig, base: Path, folders: Sequence[str]) -> dict[str, str]:
    """Reads the class name of each folder from the JSON file `data.names_file`.

    A class may have a list of names; the first is taken.

    Args:
        config: settings with `names_file`.
        base: the data set's folder, where the file may lie.
        folders: the class folders that need a name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a JSON file of names by folder, or lacks a folder.
    """
    assert config.names_file is not None
    path = named_file("data.names_file", config.names_file, base)
    try:
        given = read_json(path)
    except ValueError as error:
        raise ValueError(f"data.names_file: {error}") from error
    if not isinstance(given, dict):
        form = '{"folder": "name", ...}'
        raise ValueError(
            f"data.names_file: {path} must hold names by class folder, {form}; it holds a {type(given).__name__}"
        )
    first = {composed(folder): name[0] if isinstance(name, list) and name else name for folder, name in given.items()}
    named = {folder: first.get(composed(folder), "") for folder in folders}
    unnamed = [folder for folder, name in named.items() if not isinstance(name, str) or not name.strip()]
    if unnamed:
        raise ValueError(
            f"data.names_file: {path} has no name (a string, or a list of strings) for class folder {several(unnamed)}"
        )
    return named
