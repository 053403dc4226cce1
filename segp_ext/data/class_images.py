"""Reads all images of a folder by class, to learn them: nothing is split off, and no class is refused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection as Some
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from segp_ext.config import DataConfig
from segp_ext.data.class_folders import class_folders, data_root, flat_folders, is_class, unwrapped, unwrapped_set
from segp_ext.data.decoding import open_image
from segp_ext.data.folder import namer
from segp_ext.data.messages import without_settings
from segp_ext.data.scenario import LabelledImages
from segp_ext.data.train_test_folders import TRAIN, part_folder
from segp_ext.data.tree import Tree, scan, tree_collection

_LAYOUTS = "<folder>/<class>/*, or <folder>/train/<class>/*"
"""The layouts that are taken, for messages."""


@dataclass(frozen=True)
class ClassImages:
    """The images of a folder by class.

    Attributes:
        files: Image files by class name, in the order of the folders' names.
        stray: Files that are not images, or lie in no class folder, by path in the folder.
    """

    files: dict[str, list[Path]]
    stray: list[str]

    def only(self, names: Some[str]) -> ClassImages:
        """Returns the images of some classes."""
        return ClassImages({name: files for name, files in self.files.items() if name in names}, self.stray)

    def data_set(self) -> LabelledImages:
        """Returns the images as a data set, whose labels are places in the list of names."""
        files = [file for of_class in self.files.values() for file in of_class]
        labels = [label for label, of_class in enumerate(self.files.values()) for _ in of_class]
        return LabelledImages(files, labels, _open)

    def digest(self) -> str:
        """Returns a SHA-256 that changes with names, paths, sizes and times of files."""
        parts = [*self.files]
        for file in (file for of_class in self.files.values() for file in of_class):
            found = file.stat()
            parts.append(f"{file.resolve()}:{found.st_size}:{found.st_mtime_ns}")
        return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()


def _open(path: Path) -> Image.Image:
    """Reads an image as RGB.

    Raises:
        ValueError: naming the file, and what helps, if it cannot be read as an image.
    """
    try:
        return open_image(path)
    except ValueError as error:
        raise ValueError(f"{error}; mend the file, or take it out of its folder") from error


def class_images(root: Path, names: Literal["spaces", "folders"] = "spaces") -> ClassImages:
    """Finds the class folders in `root`: `<class>/*`, or `train/<class>/*` where there is such a part.

    Args:
        root: The folder.
        names: How class names are made of folders' names, as `data.names`.

    Raises:
        FileNotFoundError: If there is no such folder, or no class folder in it.
        ValueError: If folders may be meant in two ways, or two of them give the same name.
    """
    if not Path(os.path.expanduser(root)).is_dir():
        raise FileNotFoundError(f"no folder {str(root)!r}")
    try:
        return _read(root, DataConfig(name="folder", root=str(root), names=names))
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(without_settings(str(error))) from error


def _read(root: Path, config: DataConfig) -> ClassImages:
    base = unwrapped_set(data_root(config, _LAYOUTS))
    train = part_folder(base, TRAIN)
    parted = train is not None and not is_class(base, train)
    place = unwrapped(base / train if parted and train is not None else base)
    folders = class_folders(place) if parted else flat_folders(place, _LAYOUTS)
    tree = Tree(base, {}, {}, "")
    tree.train = scan(tree, place, folders, merge=False)
    tree.test = {name: [] for name in folders}
    found = tree_collection(tree, root.name, "folder", config, namer(config, tree))
    if tree.missing:
        raise FileNotFoundError(f"{root} lacks {len(tree.missing)} image(s) that links name, such as {tree.missing[0]}")
    files: dict[str, list[Path]] = {}
    for name, of_class in zip(found.class_names, found.train, strict=True):
        if name in files:
            raise ValueError(f"two class folders of {root} give the name {name!r}; rename one of them")
        files[name] = of_class
    return ClassImages(files, tree.stray)
