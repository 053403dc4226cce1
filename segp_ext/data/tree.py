"""Collects the images of class folders in a tree, checks the tree, and makes a `Collection` of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from segp_ext.config import DataConfig
from segp_ext.data.class_folders import class_folders, innermost
from segp_ext.data.class_names import composed, names_from_file
from segp_ext.data.decoding import open_image
from segp_ext.data.files import all_files, holds_images, image_files, is_image, loose_images
from segp_ext.data.messages import several
from segp_ext.data.scenario import Collection
from segp_ext.data.train_test_folders import is_part

BROKEN = " (a broken link, or no file)"
"""What follows the name of such a file in `Tree.missing`."""


@dataclass
class Tree:
    """Images by class folder, as they are on disk. Where images lie in no class folders, the data set's own class names stand for these.

    Attributes:
        base: the data set's folder.
        train: training images by class folder.
        test: test images by class folder.
        layout: one line about the layout found, as in `Collection`.
        missing: listed or linked images that are not there, as in `Collection`.
        stray: files that are not images, or lie in no class folder, as in `Collection`.
        mixed: class folders that hold images and, beside them, several folders of images.
        validation: published validation images by class folder; empty without such a part.
    """

    base: Path
    train: dict[str, list[Path]]
    test: dict[str, list[Path]]
    layout: str
    missing: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)
    validation: dict[str, list[Path]] = field(default_factory=dict)

    def inside(self, place: Path) -> str:
        """Says, at the start of a layout, which folder below the base the class folders lie in; empty if it is the base."""
        return "" if place == self.base else f"{place.relative_to(self.base).as_posix()}/ of "


def scan(tree: Tree, part: Path, classes: Sequence[str], merge: bool) -> dict[str, list[Path]]:
    """Collects the images of each class folder in `part`, at any depth, and notes in `tree` what else lies there.

    Args:
        tree: takes the notes (`missing`, `stray`, `mixed`).
        part: folder of class folders.
        classes: the class folders to read.
        merge: whether folders of images below a class folder belong to that class.

    Returns:
        The images by class folder.

    Raises:
        ValueError: if a class folder holds several folders of images instead of images.
    """
    found: dict[str, list[Path]] = {}
    tree.stray += [f"{file.relative_to(tree.base).as_posix()} (in no class folder)" for file in loose_images(part)]
    written = {composed(name): name for name in class_folders(part)}
    for name in classes:
        found[name] = []
        place = part / (name if (part / name).is_dir() else written.get(composed(name), name))
        check_depth(tree, name, place, merge)
        for file in all_files(place):
            if not is_image(file):
                tree.stray.append(file.relative_to(tree.base).as_posix())
            elif file.is_file():
                found[name].append(file)
            else:
                tree.missing.append(f"{file.relative_to(tree.base).as_posix()}{BROKEN}")
    return found


def check_depth(tree: Tree, name: str, folder: Path, merge: bool) -> None:
    """Refuses a class folder that holds several folders of images and no image itself: these folders may be the classes.

    A folder that holds both is noted in `tree.mixed`.

    Args:
        tree: takes the note.
        name: the class folder's name.
        folder: its path.
        merge: whether all images below a class folder belong to that class; then nothing is checked.

    Raises:
        ValueError: naming the folder and what may be meant.
    """
    if merge:
        return
    inner = innermost(folder)
    below = [entry for entry in class_folders(inner) if image_files(inner / entry)]
    if len(below) < 2:
        return
    if holds_images(inner):
        tree.mixed += [] if name in tree.mixed else [name]
        return
    place = inner.relative_to(tree.base)
    if all(map(is_part, below)):
        raise ValueError(
            f"data.root: folder {place.as_posix()!r} of {str(tree.base)!r} holds the parts {several(below)}. They must stand above "
            f"the classes: move images to {below[0]}/<class>/ and so on"
        )
    remedy = (
        f"move them into {str(folder.parent)!r}" if is_part(place.parts[0]) else f"give {str(inner)!r} as data.root"
    )
    raise ValueError(
        f"data.root: folder {place.as_posix()!r} of {str(tree.base)!r} holds no image itself, but {len(below)} folders of images "
        f"({several(below)}). If these are all classes, {remedy}; classes in several places must be moved into one folder. If all of "
        f"them belong to the class {name!r}, add --data.merge_folders true"
    )


def check_same_classes(base: Path, train: Sequence[str], test: Sequence[str], held: str) -> None:
    """Refuses parts of different classes.

    Args:
        base: the data set's folder, for the message.
        train: class folders of the training images.
        test: class folders of the test images.
        held: name of the test images' folder, for the message.

    Raises:
        ValueError: naming a class folder that one part lacks.
    """
    parts = {there: {composed(name): name for name in names} for there, names in (("train", train), (held, test))}
    for there, absent in (("train", held), (held, "train")):
        names = [name for text, name in parts[there].items() if text not in parts[absent]]
        if names:
            first, *others = sorted(names)
            more = f" (nor are {several(others)})" if others else ""
            raise ValueError(
                f"data.root: class folder {first!r} is in {there}/ but not in {absent}/ of {str(base)!r}{more}; "
                "train and test need the same classes"
            )


def open_member(path: Path) -> Image.Image:
    """Reads an image of a data set as RGB.

    Raises:
        ValueError: naming the file, and what helps, if it cannot be read as an image.
    """
    try:
        return open_image(path)
    except ValueError as error:
        raise ValueError(
            f"{error}; python -m segp_ext.doctor lists all such files; --data.unreadable skip leaves them out"
        ) from error


def tree_collection(tree: Tree, name: str, label: str, config: DataConfig, namer: Callable[[str], str]) -> Collection:
    """Makes a data set of a tree.

    Args:
        tree: the files and folders on disk.
        name: the data set's name in results.
        label: its name at the start of `layout`.
        config: settings with `names_file`, which goes before `namer`.
        namer: class folder → class name.

    Raises:
        ValueError: for a class whose name would be empty.
    """
    folders = list(tree.train)
    named = {f: namer(f) for f in folders} if config.names_file is None else names_from_file(config, tree.base, folders)
    names = {folder: composed(text).strip() for folder, text in named.items()}
    for folder, text in names.items():
        if not text:
            raise ValueError(
                f"data.root: class folder {folder!r} of {str(tree.base)!r} gives an empty class name; rename it, or give names with "
                "--data.names_file"
            )

    def fingerprint(path: Path) -> str:
        return f"{path.relative_to(tree.base).as_posix()}:{path.stat().st_size}"

    return Collection(
        name=name,
        class_names=[names[f] for f in folders],
        train=[list(tree.train[f]) for f in folders],
        test=[list(tree.test[f]) for f in folders],
        opener=open_member,
        fingerprint=fingerprint,
        layout=f"{label}: {tree.layout}",
        missing=tree.missing,
        stray=tree.stray,
        validation=[list(tree.validation[f]) for f in folders] if tree.validation else None,
    )
