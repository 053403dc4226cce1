"""Reads the split files of CoOp, `split_zhou_<Name>.json`: the images of a data set's training, validation and test parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segp_ext.data.files import read_json
from segp_ext.data.image_lists import ImageList, ImageLists
from segp_ext.data.messages import several

_KEYS = {"train": "train", "validation": "val", "test": "test"}
"""The file's key of each part."""


def read_split_zhou(path: Path) -> ImageLists:
    """Reads `{"train": [[path, label, class name], ...], "val": ..., "test": ...}`. The labels order the classes, which go by their names.

    An empty "val" counts as no validation part.

    Raises:
        ValueError: naming the file and its fault: no such object, an entry of another form, or labels and names that contradict.
    """
    content = read_json(path)
    keys = list(_KEYS.values())
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        holds = f"the keys {several(content)}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise ValueError(f"{path} must hold the lists {', '.join(keys)}; it holds {holds}")
    names: dict[int, str] = {}
    parts = {part: ImageList(path.name) for part, key in _KEYS.items() if content[key] or part != "validation"}
    for part, listed in parts.items():
        for number, entry in enumerate(content[_KEYS[part]]):
            file, label, name = _checked(entry, f"{path}: entry {number} of {_KEYS[part]}")
            if names.setdefault(label, name) != name:
                raise ValueError(f"{path}: label {label} has two class names, {names[label]!r} and {name!r}")
            listed.images.append((file, name))
    classes = [names[label] for label in sorted(names)]
    repeated = sorted({name for name in classes if classes.count(name) > 1})
    if repeated:
        raise ValueError(f"{path}: class name {several(repeated)} has several labels")
    return ImageLists(classes, parts, f"{path.name} (CoOp's)")


def _checked(entry: Any, where: str) -> tuple[str, int, str]:
    """Returns path, label and class name of an entry.

    Raises:
        ValueError: naming the place, if the entry has another form.
    """
    match entry:
        case [str(file), int(label), str(name)] if not isinstance(label, bool):
            return file, label, name
    raise ValueError(f"{where} must be [path, label, class name]; got {str(entry)[:80]}")
