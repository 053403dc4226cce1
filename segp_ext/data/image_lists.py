"""Collects the images of a data set whose own lists name each image, its class and its part."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from segp_ext.config import DataConfig
from segp_ext.data.class_folders import chosen_classes
from segp_ext.data.files import leads_out
from segp_ext.data.tree import Tree


@dataclass
class ImageList:
    """One part of a data set, as a list names it.

    Attributes:
        source: the list's path from the data set's folder, for messages.
        images: path of each image, from the folder of images, and its class.
    """

    source: str
    images: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class ImageLists:
    """The lists of a data set.

    Attributes:
        classes: all classes, in the data set's own order.
        parts: the lists by part: train, test and, where it is published, validation.
        layout: one line about them.
    """

    classes: list[str]
    parts: dict[str, ImageList]
    layout: str


def listed_tree(base: Path, images: Path, lists: ImageLists, config: DataConfig) -> Tree:
    """Collects the listed images of the classes that the settings choose, and notes which ones are missing.

    What no list names is left alone.

    Args:
        base: the data set's folder.
        images: the folder from which lists name images.
        lists: the lists; their images are of their classes.
        config: settings with `class_list`.

    Raises:
        FileNotFoundError: if there is no file `data.class_list`.
        ValueError: naming a list that is empty, names an image outside of the folder, or one that was named before.
    """
    classes = chosen_classes(config, base, lists.classes)
    tree = Tree(base, {}, {}, lists.layout)
    found = {"train": tree.train, "test": tree.test, "validation": tree.validation}
    named: dict[str, str] = {}
    for part, listed in lists.parts.items():
        if not listed.images:
            raise ValueError(f"{base / listed.source} names no {part} image")
        found[part].update({name: [] for name in classes})
        for file, name in listed.images:
            if leads_out(file):
                raise ValueError(f"{base / listed.source}: {file!r} is not a path of an image in {images}")
            if file in named:
                raise ValueError(f"{base / listed.source} names {file}, which {named[file]} named before")
            named[file] = listed.source
            if name not in found[part]:
                continue
            if (images / file).is_file():
                found[part][name].append(images / file)
            else:
                tree.missing.append(f"{(images / file).relative_to(base).as_posix()} (in {listed.source})")
    return tree
