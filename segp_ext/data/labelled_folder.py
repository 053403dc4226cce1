"""Reads a folder whose class folders label its images, and finds these classes among a learner's."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segp_ext.config import DataConfig
from segp_ext.data.class_folders import check_not_above, class_folders, flat_folders, is_class, unwrapped, unwrapped_set
from segp_ext.data.class_names import composed, names_from_file
from segp_ext.data.files import SUFFIXES
from segp_ext.data.folder import LAYOUTS, namer
from segp_ext.data.messages import contents, several, without_settings
from segp_ext.data.tiny_imagenet import is_tiny_imagenet, read_tiny_imagenet
from segp_ext.data.train_test_folders import HELD, TRAIN, part_folder
from segp_ext.data.tree import BROKEN, Tree, scan

_NEEDED = "FOLDER/<class>/*, or FOLDER/train/<class>/* and FOLDER/test/<class>/*, of which one is enough"
"""What a folder must hold, for messages."""


@dataclass(frozen=True)
class LabelledFolder:
    """Images labelled by class folders.

    Attributes:
        base: The folder that relative names of files begin at.
        layout: One line about the layout found.
        folders: Names of the class folders that hold an image.
        names: Their class names.
        files: The images, class by class.
        label: Class of each image, a place in `folders`.
        missing: Images that are linked but not there, by name within `base`.
    """

    base: Path
    layout: str
    folders: list[str]
    names: list[str]
    files: list[Path]
    label: list[int]
    missing: list[str]

    def inside(self, file: Path) -> str:
        """Returns an image's name within `base`."""
        return file.relative_to(self.base).as_posix()


def read_labelled_folder(root: Path, *, all_parts: bool, names_file: str | None = None) -> LabelledFolder:
    """Lists the images of a folder with their classes, without opening one.

    Taken are `<root>/<class>/*` at any depth, and `train/` and `test/` (or val and the like) with class folders in them.

    Args:
        root: The folder.
        all_parts: Whether the images of all parts are taken. Else the test part is, or the training part where no other has class folders.
        names_file: JSON file of class names by class folder; None makes names of the folders' names.

    Raises:
        FileNotFoundError: If the folder is not there or holds no class folder.
        NotADirectoryError: If it is a file.
        ValueError: If it holds no image, or two folders of one class name.
    """
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(f"{root} is a file; a folder of class folders is needed, {root.name}/<class>/*")
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}")
    config = DataConfig(name="folder", root=os.fspath(root), names_file=names_file, merge_folders=True)
    try:
        tree, found = _read(unwrapped_set(root), config, all_parts)
        named = _names(tree, config, [*found])
    except (FileNotFoundError, ValueError) as error:
        raise type(error)(_as_options(str(error))) from error
    if tree.stray:
        warnings.warn(
            f"{len(tree.stray)} file(s) of {root} are left alone: no ending of an image, or in no class folder: {several(tree.stray)}",
            RuntimeWarning,
            stacklevel=2,
        )
    taken = [name for name, files in found.items() if files]
    if not taken and not tree.missing:
        raise ValueError(
            f"no image in the class folders of {root} ({several(found)}; known endings: {', '.join(sorted(SUFFIXES))})"
        )
    names = [named[name] for name in taken]
    for place, name in enumerate(names):
        if name in names[:place]:
            first = taken[names.index(name)]
            raise ValueError(
                f"the class folders {first!r} and {taken[place]!r} of {root} have one class name, {name!r}; names must differ"
            )
    files = [file for name in taken for file in found[name]]
    label = [place for place, name in enumerate(taken) for _ in found[name]]
    return LabelledFolder(
        tree.base, tree.layout, taken, names, files, label, [name.removesuffix(BROKEN) for name in tree.missing]
    )


def _as_options(error: str) -> str:
    """Returns an error of a data set's settings for a command that has none of them."""
    needed = f"needed: {_NEEDED}"
    return (
        without_settings(error).replace(f"accepted: {LAYOUTS}", needed).replace("data.names_file: ", "--names_file: ")
    )


def _read(base: Path, config: DataConfig, all_parts: bool) -> tuple[Tree, dict[str, list[Path]]]:
    """Returns the tree's notes, and its images by class folder."""
    if is_tiny_imagenet(base):
        tree = read_tiny_imagenet(base, config)
        parts = [tree.train, tree.test] if all_parts else [tree.test]
        return tree, _joined(parts)
    tree = Tree(base, {}, {}, "")
    found = [name for names in (TRAIN, HELD) for wanted in names if (name := part_folder(base, (wanted,))) is not None]
    usable = [name for name in found if not is_class(base, name) and class_folders(base / name)]
    if not usable:
        if found and not any(is_class(base, name) for name in found):
            raise FileNotFoundError(
                f"{several(f'{name}/' for name in found)} of {str(base)!r} holds no class folder; there: {contents(base)}"
            )
        place = unwrapped(base)
        tree.layout = f"{tree.inside(place)}<class>/ folders"
        return tree, scan(tree, place, flat_folders(place, LAYOUTS), merge=True)
    held = [name for name in usable if name.lower() in HELD]
    parts_read = usable if all_parts else (held or usable)[:1]
    read = []
    for name in parts_read:
        place = unwrapped(base / name)
        classes = class_folders(place)
        check_not_above(place, classes)
        read.append(scan(tree, place, classes, merge=True))
    tree.layout = f"{' and '.join(f'{name}/' for name in parts_read)} of <class>/ folders"
    return tree, _joined(read)


def _joined(parts: Sequence[dict[str, list[Path]]]) -> dict[str, list[Path]]:
    """Joins the images of several parts by class folder."""
    names = sorted({name for part in parts for name in part})
    return {name: [file for part in parts for file in part.get(name, [])] for name in names}


def _names(tree: Tree, config: DataConfig, folders: list[str]) -> dict[str, str]:
    """Returns the class name of each class folder."""
    if config.names_file is not None:
        return {name: composed(text).strip() for name, text in names_from_file(config, tree.base, folders).items()}
    make = namer(config, Tree(tree.base, {name: [] for name in folders}, {}, ""))
    return {name: composed(make(name)) for name in folders}


def places_among(folder: LabelledFolder, learnt: Sequence[str]) -> list[int | None]:
    """Finds the class of each class folder among the learnt ones: by its class name, or else by the folder's own name.

    Args:
        folder: The folder's classes.
        learnt: Names of the learnt classes.

    Returns:
        For each of `folder.folders` the place in `learnt`, or None for a class that was not learnt.

    Raises:
        ValueError: If no class is a learnt one, or a name differs from a learnt one in capitals alone.
    """
    known = {composed(name): place for place, name in enumerate(learnt)}
    without_capitals = {name.casefold(): name for name in known}
    places: list[int | None] = []
    for own, name in zip(folder.folders, folder.names, strict=True):
        place = known.get(name, known.get(composed(own)))
        if place is None and name.casefold() in without_capitals:
            raise ValueError(
                f"class folder {own!r} of {folder.base} differs from the learnt class {without_capitals[name.casefold()]!r} in capitals "
                "alone; rename it, or give names with --names_file"
            )
        places.append(place)
    taken = [place for place in places if place is not None]
    if len({*taken}) < len(taken):
        twice = next(place for place in taken if taken.count(place) > 1)
        both = [own for own, place in zip(folder.folders, places, strict=True) if place == twice]
        raise ValueError(f"the class folders {several(both)} of {folder.base} are one learnt class, {learnt[twice]!r}")
    if not taken:
        raise ValueError(
            f"no class folder of {folder.base} is named like a learnt class: the folders are {several(folder.folders)}, the learner knows "
            f"{several(learnt)}; --names_file FILE gives the folders other names"
        )
    return places
