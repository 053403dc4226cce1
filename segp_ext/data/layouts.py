"""Reads the layouts that data sets of class folders share: `train/` and `test/`, `train/` alone, and class folders without parts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from segp_ext.config import DataConfig
from segp_ext.data.class_folders import (
    ChooseClasses,
    check_not_above,
    chosen_classes,
    class_folders,
    flat_folders,
    is_class,
    no_class_folders,
    unwrapped,
)
from segp_ext.data.files import SUFFIXES
from segp_ext.data.messages import several
from segp_ext.data.scenario import hold_out
from segp_ext.data.split_lists import read_split_lists
from segp_ext.data.train_test_folders import HELD, TRAIN, part_folder
from segp_ext.data.tree import Tree, check_same_classes, scan


def read_tree(
    base: Path,
    config: DataConfig,
    accepted: str,
    held: Sequence[str] = HELD,
    choose: ChooseClasses = chosen_classes,
) -> Tree:
    """Reads `<base>/{train,test}/<class>/*`, or `<base>/<class>/*` with split lists or a seeded split of every class.

    Args:
        base: the data set's folder.
        config: settings: lists, classes, the share held out.
        accepted: the layouts that messages name.
        held: names for the folder of test images, the preferred one first.
        choose: chooses among the class folders.

    Raises:
        FileNotFoundError: if there are no class folders, or a list is not there.
        ValueError: for a class without images or missing from a part, and for lists that contradict each other.
    """
    tree = Tree(base, {}, {}, "")
    train = part_folder(base, TRAIN)
    if config.train_list is not None:
        read_split_lists(tree, config, accepted, choose)
    elif train is not None and not is_class(base, train):
        check_not_above(base / train, class_folders(base / train))
        found = [name for wanted in held if (name := part_folder(base, (wanted,))) is not None]
        usable = [name for name in found if class_folders(base / name)]
        if usable:
            _read_both_parts(tree, config, choose, train, usable[0])
        else:
            _read_train_alone(tree, config, accepted, choose, train)
            empty = "".join(f"; {name}/ has no class folders and is not used" for name in found)
            tree.layout += f"{empty}{_unused(base, [train])}"
    else:
        place = unwrapped(base)
        split_folders(tree, place, choose(config, place, flat_folders(place, accepted)), config)
        tree.layout = f"{tree.inside(place)}flat {tree.layout}{_unused_lists(base)}"
    if tree.mixed:
        tree.layout += (
            f"; {several(tree.mixed)}: images and several folders of images, learnt as one class each (if these folders are the classes, "
            "remove the images beside them)"
        )
    _check_no_class_is_empty(tree)
    return tree


def _read_both_parts(tree: Tree, config: DataConfig, choose: ChooseClasses, train: str, test: str) -> None:
    """Fills `tree` with the images of two folders of class folders, named `train` and `test` in its base."""
    base = tree.base
    places = {name: unwrapped(base / name) for name in (train, test)}
    parts = {name: class_folders(place) for name, place in places.items()}
    check_same_classes(base, parts[train], parts[test], test)
    classes = choose(config, base, parts[train])
    tree.train, tree.test = (scan(tree, places[part], classes, config.merge_folders) for part in parts)
    shown = [place.relative_to(base).as_posix() for place in places.values()]
    tree.layout = f"{shown[0]}/ and {shown[1]}/ of <class>/ folders{_unused(base, places)}"


def _read_train_alone(tree: Tree, config: DataConfig, accepted: str, choose: ChooseClasses, train: str) -> None:
    """Fills `tree` with the images of the folder `train` in its base, a share of each class held out.

    Raises:
        FileNotFoundError: if there are no class folders in it.
    """
    place = unwrapped(tree.base / train)
    if not class_folders(place):
        raise FileNotFoundError(no_class_folders(tree.base, place, accepted))
    split_folders(tree, place, choose(config, tree.base, class_folders(place)), config)
    tree.layout = f"{tree.inside(place)}{tree.layout}"


def split_folders(tree: Tree, place: Path, classes: Sequence[str], config: DataConfig) -> None:
    """Fills `tree` with the images of the class folders in `place`, a share of each class held out, and says so in its layout.

    Args:
        tree: an empty tree.
        place: the folder of class folders.
        classes: the class folders to read.
        config: settings with `test_fraction` and `merge_folders`.

    Raises:
        ValueError: for a class with fewer than two images.
    """
    images = scan(tree, place, classes, config.merge_folders)
    few = {name: len(files) for name, files in images.items() if len(files) < 2}
    for name, count in few.items():
        more = f" ({len(few) - 1} other folders also hold too few)" if len(few) > 1 else ""
        raise ValueError(
            f"data.root: class folder {name!r} of {str(place)!r} holds {count} image(s){more}; at least 2 are needed to split it; "
            f"accepted endings: {', '.join(sorted(SUFFIXES))}"
        )
    for name, files in images.items():
        tree.train[name], tree.test[name] = hold_out(files, config.test_fraction, seed=0)
    tree.layout = f"<class>/ folders without a split; {100 * config.test_fraction:g} % of each class held out, seed 0"


def _check_no_class_is_empty(tree: Tree) -> None:
    """Refuses classes without training or test images; where images are missing, these are named later.

    Raises:
        ValueError: naming a class folder and the part.
    """
    for part, by_class in (("train", tree.train), ("test", tree.test)):
        empty = [name for name, files in by_class.items() if not files]
        if empty and not tree.missing:
            more = f" (also without: {several(empty[1:])})" if len(empty) > 1 else ""
            raise ValueError(
                f"data.root: class folder {empty[0]!r} has no {part} image in {str(tree.base)!r}{more}; "
                f"accepted endings: {', '.join(sorted(SUFFIXES))}"
            )


def _unused(base: Path, parts: Iterable[str]) -> str:
    """Says which folders beside the parts of a data set are left alone. Folders of test images without a class are not mentioned."""
    others = [
        name
        for name in class_folders(base)
        if name not in parts and (name.lower() not in HELD or class_folders(base / name))
    ]
    return (
        f" ({several(f'{name}/' for name in others)} {'are' if len(others) > 1 else 'is'} not used)" if others else ""
    )


def _unused_lists(base: Path) -> str:
    """Says which files beside the class folders look like the two lists of a split."""
    texts = sorted(file.name for file in base.iterdir() if file.suffix.lower() in (".txt", ".yaml", ".yml"))
    # CUB's train_test_split.txt is of both parts.
    parts = {name: [part for part in ("train", "test") if part in name.lower()] for name in texts}
    train, test = ([name for name in texts if parts[name] == [part]] for part in ("train", "test"))
    if not train or not test:
        return ""
    return f" (a split is there: --data.train_list {train[0]} --data.test_list {test[0]})"
