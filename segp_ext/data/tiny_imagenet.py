"""Reads Tiny-ImageNet as its archive has it, with the classes of its validation images in an annotations file."""

from __future__ import annotations

from pathlib import Path

from segp_ext.config import DataConfig
from segp_ext.data.class_folders import chosen_classes, class_folders
from segp_ext.data.files import read_lines
from segp_ext.data.tree import Tree, check_same_classes, scan


def is_tiny_imagenet(base: Path) -> bool:
    """Tells whether a folder has `val/images` and `val/val_annotations.txt`."""
    return all((base / "val" / name).exists() for name in ("images", "val_annotations.txt"))


def read_tiny_imagenet(base: Path, config: DataConfig) -> Tree:
    """Reads `train/<wnid>/images/*`, and `val/images/*` with their classes in `val/val_annotations.txt`.

    Raises:
        FileNotFoundError: if there is no `train/`.
        ValueError: for a damaged annotations file, a class that one part lacks, or a class without training images.
    """
    tree = Tree(base, {}, {}, "train/<wnid>/ folders and val/ with val_annotations.txt (Tiny-ImageNet)")
    if not (base / "train").is_dir():
        raise FileNotFoundError(f"data.root: {str(base)!r} has val/val_annotations.txt but no train/")
    held = _annotated_images(tree, base / "val")
    folders = class_folders(base / "train")
    check_same_classes(base, folders, sorted(held), "val")
    classes = chosen_classes(config, base, folders)
    tree.train = scan(tree, base / "train", classes, True)
    tree.stray = [file for file in tree.stray if not file.endswith("_boxes.txt")]  # part of the archive
    tree.test = {name: sorted(held[name]) for name in classes}
    for name, files in tree.train.items():
        if not files:
            raise ValueError(f"data.root: class folder {name!r} has no train image in {str(base)!r}")
    return tree


def _annotated_images(tree: Tree, val: Path) -> dict[str, list[Path]]:
    """Reads `val_annotations.txt` in the folder `val`. Images that are not there are noted in `tree`.

    Returns:
        The images by class.

    Raises:
        ValueError: naming a line that is damaged, or names an image again.
    """
    annotations = val / "val_annotations.txt"
    held: dict[str, list[Path]] = {}
    annotated: set[Path] = set()
    for number, line in enumerate(read_lines(annotations), start=1):
        columns = line.split()
        if len(columns) < 2:
            raise ValueError(f"{annotations}, line {number}: a file and a class are needed; got {line!r}")
        file = val / "images" / columns[0]
        if Path(columns[0]).name != columns[0] or columns[0] == ".." or file in annotated:
            what = "was named before" if file in annotated else "is not a file's name"
            raise ValueError(f"{annotations}, line {number}: {columns[0]!r} {what}")
        annotated.add(file)
        held.setdefault(columns[1], [])
        if file.is_file():
            held[columns[1]].append(file)
        else:
            tree.missing.append(f"val/images/{columns[0]} (in {annotations.name})")
    return held
