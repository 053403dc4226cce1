"""Reads a user's own folder of images, `data.name` folder: recognises its layout and names its classes."""

from __future__ import annotations

from collections.abc import Callable

from segp_ext.config import DataConfig
from segp_ext.data.class_folders import data_root, unwrapped_set
from segp_ext.data.class_names import class_name
from segp_ext.data.imagenet import is_wnid, wnid_names
from segp_ext.data.layouts import read_tree
from segp_ext.data.scenario import Collection
from segp_ext.data.tiny_imagenet import is_tiny_imagenet, read_tiny_imagenet
from segp_ext.data.tree import Tree, tree_collection

LAYOUTS = (
    "<root>/train/<class>/* with <root>/test/<class>/* (or val, valid, validation, eval, dev), <root>/<class>/* or <root>/train/<class>/* "
    "alone (split by --data.test_fraction; <root>/<class>/* also by --data.train_list and --data.test_list), or <root>/train/<wnid>/ with "
    "<root>/val/val_annotations.txt"
)
"""The layouts that are taken, for messages."""


def folder(config: DataConfig) -> Collection:
    """Finds a user's own images in `data.root`; see `LAYOUTS`.

    Raises:
        FileNotFoundError: if the folder does not exist or holds no class folders.
        ValueError: for a class with no image, fewer than two in the unsplit layout, or one missing from a part.
    """
    root = data_root(config, LAYOUTS)
    base = unwrapped_set(root)
    annotated = config.train_list is None and is_tiny_imagenet(base)
    tree = read_tiny_imagenet(base, config) if annotated else read_tree(base, config, LAYOUTS)
    tree.layout = tree.layout if base == root else f"{base.relative_to(root).as_posix()}/ with {tree.layout}"
    return tree_collection(tree, root.resolve().name, "folder", config, namer(config, tree))


def namer(config: DataConfig, tree: Tree) -> Callable[[str], str]:
    """Returns the function that turns a class folder of a tree into a class name, as `data.names` says."""
    if config.names == "folders":
        return str
    return wnid_names(tree.base) if all(map(is_wnid, tree.train)) else class_name
