"""Finds the class folders of a data set: its root, the folders that it is wrapped in, and the classes that are taken."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from segp_ext.config import DataConfig
from segp_ext.data.class_names import composed
from segp_ext.data.files import holds_images, image_files, is_ignored, loose_images, named_file, read_lines
from segp_ext.data.messages import contents, several
from segp_ext.data.train_test_folders import TRAIN, is_part, part_folder

IMAGES = ("images", "image", "imgs", "img", "frames", "photos", "pictures")
"""Names, in small letters, of folders within a class that hold its images. They say nothing about the class."""
_BESIDE = ("annotation", "annotations", "attributes", "labels", "masks", "metadata", "parts")
"""Names, in small letters, of folders that often stand beside class folders. They are left alone where they hold no image."""

ChooseClasses = Callable[[DataConfig, Path, Sequence[str]], list[str]]
"""Chooses among class folders: (settings, the data set's folder, all class folders) → the folders to take, in order."""


def data_root(config: DataConfig, accepted: str, *inner: str) -> Path:
    """Returns the data set's folder: `data.root`, or the first folder named in `inner` that lies in it.

    Args:
        config: settings with `root`.
        accepted: the layouts that messages name.
        inner: names that a data set's own folder may have below the root.

    Raises:
        FileNotFoundError: if `data.root` is not set or not there.
        NotADirectoryError: if it is a file.
    """
    if config.root is None:
        raise FileNotFoundError(
            f"data.root is not set: give the folder of your images with --data.root; accepted: {accepted}"
        )
    base = Path(os.path.expanduser(config.root))
    if base.exists() and not base.is_dir():
        raise NotADirectoryError(
            f"data.root: {config.root!r} is a file; unpack it if it is an archive; accepted: {accepted}"
        )
    if not base.is_dir():
        raise FileNotFoundError(f"data.root: no folder {config.root!r}; accepted: {accepted}")
    return next((base / name for name in inner if (base / name).is_dir()), base)


def class_folders(part: Path) -> list[str]:
    """Lists the names of the folders in `part`, sorted.

    Hidden folders are left out, and folders of annotations that hold no image.

    Raises:
        ValueError: for a name that is not valid UTF-8.
    """
    names = sorted(entry.name for entry in part.iterdir() if entry.is_dir() and not is_ignored(entry.name))
    for name in names:
        if not name.isprintable() and name.encode(errors="replace").decode() != name:
            raise ValueError(
                f"data.root: class folder {name!r} of {str(part)!r} has a name that is not valid UTF-8; rename it"
            )
    return [name for name in names if name.lower() not in _BESIDE or image_files(part / name)]


def innermost(folder: Path) -> Path:
    """Follows single folders downwards, from `folder` to the first folder that holds images or several folders.

    A single folder that is named like a part is not followed, unless it repeats the name of the folder around it.
    """
    seen = {folder.resolve()}
    while not holds_images(folder):
        folders = class_folders(folder)
        # Kaggle's archives have test_set/test_set.
        part = len(folders) == 1 and is_part(folders[0]) and folders[0] != folder.name
        if len(folders) != 1 or part or (folder / folders[0]).resolve() in seen:
            break
        folder = folder / folders[0]
        seen.add(folder.resolve())
    return folder


def unwrapped(base: Path) -> Path:
    """Returns the folder that holds the class folders: `base`, or a folder that is alone in it (`images/`, an archive's name)."""
    inner = innermost(base)
    return base if holds_images(inner) or not class_folders(inner) else inner


def unwrapped_set(root: Path) -> Path:
    """Returns the folder that holds the parts of a data set: `root`, or a folder that is alone in it."""
    inner = unwrapped(root)
    return inner if part_folder(inner, TRAIN) is not None else root


def is_class(base: Path, folder: str) -> bool:
    """Tells whether a folder that is named like a part is a class.

    It is a class if its images lie at the same depth as in the folders beside it. They may lie in the folder itself, or in one folder of
    `IMAGES`.
    """
    others = [name for name in class_folders(base) if not is_part(name)]
    if holds_images(base / folder):
        return not class_folders(base / folder) and any(holds_images(base / name) for name in others)
    return len(others) > 0 and all(_in_images(base / name) for name in (folder, *others))


def _in_images(folder: Path) -> bool:
    """Tells whether a folder's images lie in its only folder, and that is named as in `IMAGES`."""
    inner = class_folders(folder)
    return len(inner) == 1 and inner[0].lower() in IMAGES and holds_images(folder / inner[0])


def flat_folders(base: Path, accepted: str, listed: bool = False) -> list[str]:
    """Lists the class folders of a layout without parts, `<base>/<class>/*`.

    Args:
        base: the folder.
        accepted: the layouts that messages name.
        listed: whether lists choose the split.

    Raises:
        FileNotFoundError: if there is no folder.
        ValueError: if a folder is a part, or a data set of its own.
    """
    folders = class_folders(base)
    if not folders:
        raise FileNotFoundError(no_class_folders(base, base, accepted))
    for name in folders:
        if is_part(name) and not is_class(base, name):
            wrong = (
                "but data.train_list and data.test_list are for <root>/<class>/* alone" if listed else "but no train/"
            )
            raise ValueError(f"data.root: {str(base)!r} has a folder {name!r} {wrong}; accepted: {accepted}")
    check_not_above(base, folders)
    return folders


def check_not_above(base: Path, folders: Sequence[str]) -> None:
    """Refuses data sets that were taken for classes, as when `data.root` is the folder above the data set.

    Raises:
        ValueError: naming the first folder with a `train/` of its own.
    """
    for name in folders:
        inner = part_folder(base / name, TRAIN)
        if inner is not None and class_folders(base / name / inner):
            raise ValueError(
                f"data.root: folder {name!r} of {str(base)!r} holds {inner}/, so it is a data set, not a class; "
                f"give {str(base / name)!r} as data.root"
            )


def no_class_folders(base: Path, place: Path, accepted: str) -> str:
    """Words the error for a folder without class folders. Where images lie in it, their classes may be told by their names.

    Args:
        base: the data set's folder, whose contents the message shows.
        place: the folder without class folders.
        accepted: the layouts that the message names.
    """
    loose = loose_images(place)
    hint = ""
    if loose:
        hint = (
            f" {len(loose)} images lie in {str(place)!r} itself ({loose[0].name} ...). If their names or a list tell their classes, move "
            "them to one folder per class; --data.train_list and --data.test_list can then choose the split;"
        )
    return f"data.root: no class folders in {str(place)!r}; there: {contents(base)};{hint} accepted: {accepted}"


def chosen_classes(config: DataConfig, base: Path, folders: Sequence[str]) -> list[str]:
    """Returns the class folders to take: all folders, or the folders that the file `data.class_list` names, in its order.

    Args:
        config: settings with `class_list`.
        base: the data set's folder, where the file may lie.
        folders: all class folders.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it names a class twice, an unknown one, or none.
    """
    if config.class_list is None:
        return list(folders)
    path = named_file("data.class_list", config.class_list, base)
    known = {composed(name): name for name in folders}
    # Lists of ImageNet classes often have the class's name after its folder.
    chosen = [
        known.get(composed(line)) or known.get(composed(line.split()[0]), line.split()[0]) for line in read_lines(path)
    ]
    repeated = [name for name, times in Counter(chosen).items() if times > 1]
    if repeated:
        raise ValueError(f"data.class_list: {path} names {several(repeated)} more than once")
    absent = [name for name in chosen if name not in folders]
    if absent or not chosen:
        raise ValueError(
            f"data.class_list: {path} names {several(absent) or 'no class'}, but the class folders of {base} are {several(folders)}. The "
            "list must have one class folder per line, and nothing before it: no header, number or comment"
        )
    return chosen
