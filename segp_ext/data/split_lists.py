"""Splits a tree of class folders into training and test images by two lists, `data.train_list` and `data.test_list`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segp_ext.config import DataConfig
from segp_ext.data.class_folders import ChooseClasses, flat_folders, unwrapped
from segp_ext.data.class_names import class_name, composed
from segp_ext.data.files import SUFFIXES, named_file
from segp_ext.data.list_lines import header_columns, labels_in, list_lines, names_image, readings
from segp_ext.data.messages import contents, several
from segp_ext.data.tree import Tree, check_depth, check_same_classes, scan


class _ImageFinder:
    """Finds the images that lists name. Lists are written from different places, with and without endings.

    Args:
        images: (class folder, file) of each image, by path from the data set's folder.
    """

    def __init__(self, images: dict[str, tuple[str, Path]]) -> None:
        self.images = {composed(path): image for path, image in images.items()} | images
        stems: dict[str, list[str]] = {}
        self.folders: set[str] = set()
        for path in images:
            stems.setdefault(composed(path.rpartition(".")[0]), []).append(path)
            above = composed(path).rpartition("/")[0]
            while above and above not in self.folders:
                self.folders.add(above)
                above = above.rpartition("/")[0]
        self.stems = {stem: paths[0] for stem, paths in stems.items() if len(paths) == 1}

    def find(self, candidates: Sequence[str]) -> tuple[str, tuple[str, Path]] | None:
        """Returns the first candidate that names an image, with or without its leading folders, and that image.

        A candidate may name no image, but look like an image of a folder that is there. Then the image is missing, and the search ends:
        a shorter candidate would name another image.
        """
        for text in candidates:
            steps = [step for step in text.split("/") if step not in ("", ".")]
            for start in range(max(1, len(steps) - 1)):
                tail = "/".join(steps[start:])
                for path in (tail, composed(tail)):
                    if path in self.images or path in self.stems:
                        return text, self.images[self.stems.get(path, path)]
                if names_image(tail) and len(steps) - start > 1 and composed(tail.rpartition("/")[0]) in self.folders:
                    return None
        return None


@dataclass
class _ListedPart:
    """What one list names.

    Attributes:
        source: the setting and the list's path, for messages.
        headed: whether the list has a header.
        images: class folder by image.
        labels: label by image, for each column of labels.
    """

    source: str
    headed: bool
    images: dict[Path, str] = field(default_factory=dict)
    labels: list[dict[Path, str]] = field(default_factory=list)


def read_split_lists(tree: Tree, config: DataConfig, accepted: str, choose: ChooseClasses) -> None:
    """Fills `tree` with the images that `data.train_list` and `data.test_list` name.

    Args:
        tree: an empty tree, whose base holds the class folders.
        config: settings with both lists.
        accepted: the layouts that messages name.
        choose: chooses among the class folders that the lists name.

    Raises:
        FileNotFoundError: if a list or the class folders are not there.
        ValueError: for a list that is damaged, names none of the images, or contradicts the other list or the folders.
    """
    assert config.train_list is not None and config.test_list is not None
    paths = {
        "train": named_file("data.train_list", config.train_list, tree.base),
        "test": named_file("data.test_list", config.test_list, tree.base),
    }
    place = unwrapped(tree.base)
    folders = flat_folders(place, accepted, listed=True)
    images = {
        file.relative_to(place).as_posix(): (name, file)
        for name, files in scan(tree, place, folders, True).items()
        for file in files
    }
    tree.stray, tree.missing = [], []  # what no list names is not part of the data set
    finder = _ImageFinder(images)
    listed: dict[str, dict[Path, str]] = {}
    for part, path in paths.items():
        found = _read_list(tree, f"data.{part}_list", path, finder)
        for labels in found.labels:
            _check_labels(found, labels, folders)
        listed[part] = found.images
    _check_both(tree, paths, listed, place)
    named = {part: sorted(set(files.values())) for part, files in listed.items()}
    for name in sorted({*named["train"], *named["test"]}):
        check_depth(tree, name, place / name, config.merge_folders)
    if not tree.missing:
        check_same_classes(tree.base, named["train"], named["test"], "test")
    classes = choose(config, tree.base, sorted({*named["train"], *named["test"]}))
    for part, target in (("train", tree.train), ("test", tree.test)):
        target.update({name: [] for name in classes})
        for file, name in sorted(listed[part].items()):
            if name in target:
                target[name].append(file)
    tree.layout = f"{tree.inside(place)}flat <class>/ folders, split by {paths['train'].name} and {paths['test'].name}"


def _read_list(tree: Tree, setting: str, path: Path, finder: _ImageFinder) -> _ListedPart:
    """Matches the lines of one list with images. Lines that name no image are noted in `tree`.

    Raises:
        ValueError: naming the setting, if the file is not a list.
    """
    try:
        lines = list_lines(path)
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from error
    header = header_columns(lines[0])
    part = _ListedPart(f"{setting}: {path}", bool(header))
    for line in lines[1:] if header else lines:
        candidates = readings(line) or [line]  # a line of quotes alone
        match = finder.find(candidates)
        if match is None:
            shown = next((text for text in candidates if re.search(r"\.\w+$", text)), candidates[0])
            ending = Path(shown).suffix.lower()
            other = ending != "" and ending not in SUFFIXES  # published lists hold a stray script
            (tree.stray if other else tree.missing).append(f"{shown} (in {path.name})")
            continue
        text, (name, file) = match
        part.images[file] = name
        for number, label in enumerate(labels_in(line, text, header)):
            if number == len(part.labels):
                part.labels.append({})
            part.labels[number][file] = label
    return part


def _check_labels(part: _ListedPart, labels: dict[Path, str], folders: Sequence[str]) -> None:
    """Refuses a list whose labels tell other classes than the folders. The folders would be learnt, against the list.

    Args:
        part: what the list names.
        labels: label by image, one column of the list's.
        folders: all class folders.

    Raises:
        ValueError: naming an image, its label and its folder, and what to do.
    """
    known = {class_name(composed(name)).lower(): name for name in folders}
    values = set(labels.values())
    # One value for all images is not a label, nor are values that all differ, such as numbers of the lines.
    alike = len(values) == 1
    told = part.headed or len(values) < len(labels) or (len(folders) == 1 and not all(map(str.isdecimal, values)))
    first_in: dict[str, Path] = {}
    first_of: dict[str, Path] = {}
    for file, label in labels.items():
        folder = part.images[file]
        here, there = first_in.setdefault(folder, file), first_of.setdefault(label, file)
        named = folder if label.isdecimal() else known.get(class_name(composed(label)).lower(), folder)
        if named != folder:
            also = ""
        elif told and labels[here] != label:
            also = f", and {here} the label {labels[here]!r}"
        elif told and part.images[there] != folder and not alike:
            also = f", as {there} of the folder {part.images[there]!r}"
        else:
            continue
        raise ValueError(
            f"{part.source} gives {file} the label {label!r}{also}, but the class of an image is its folder, here {folder!r}. Put the "
            "images of each class into a folder of its own. If these labels are not the classes, take them out of the list"
        )


def _check_both(tree: Tree, paths: dict[str, Path], listed: dict[str, dict[Path, str]], place: Path) -> None:
    """Refuses lists that share images, and a list that names none of the images in `place`.

    Raises:
        ValueError: naming the lists, and some of the images.
    """
    both = sorted(listed["train"].keys() & listed["test"].keys())
    if both:
        raise ValueError(
            f"data.train_list and data.test_list share {len(both)} image(s): {several(both)}; a split may not overlap"
        )
    empty = next((part for part in ("train", "test") if not listed[part]), None)
    if empty is not None:
        raise ValueError(
            f"data.{empty}_list: none of the images that {paths[empty]} names is in {place}; named: "
            f"{several(tree.missing + tree.stray) or 'nothing but column names'}; there: {contents(place)}"
        )
