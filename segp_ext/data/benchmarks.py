"""Reads the five benchmarks of class-incremental CLIP, in the layouts that their users have on disk.

Every function reads `data.root` and says in `Collection.layout` what it found. FileNotFoundError and ValueError name the
layouts that are taken, and what is there.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from segp_ext.config import DataConfig
from segp_ext.data.array_pickle import read_arrays
from segp_ext.data.class_folders import chosen_classes, class_folders, data_root
from segp_ext.data.class_names import class_name
from segp_ext.data.files import read_lines
from segp_ext.data.imagenet import imagenet_names
from segp_ext.data.layouts import read_tree
from segp_ext.data.messages import contents, several
from segp_ext.data.scenario import Collection, PixelArray
from segp_ext.data.tree import Tree, tree_collection

CIFAR100 = "<root>/cifar-100-python/ with train, test and meta (torchvision's), or that folder itself"
IMAGENET_R = (
    "<root>/{train,test}/<wnid>/*, <root>/{train,val}/<wnid>/*, or <root>/<wnid>/* with --data.train_list and --data.test_list "
    "(without them it is split by --data.test_fraction); <root>/imagenet-r likewise"
)
IMAGENET100 = "ILSVRC's <root>/{train,val}/<wnid>/*, whole or already restricted to 100 classes"
CUB200 = (
    "<root>/CUB_200_2011 (or that folder itself) with images/, images.txt, image_class_labels.txt and train_test_split.txt, or "
    "<root>/train/<class>/* with <root>/test/<class>/* (or val)"
)
UCF101 = "frames in <root>/train/<class>/* with <root>/test/<class>/* (or val)"


# -- CIFAR100 ------------------------------------------------------------------------------------------------------------------


def cifar100(config: DataConfig) -> Collection:
    """Reads CIFAR100's Python pickles without running anything in them. Class names come from `meta`, in the order of labels."""
    if config.download and config.root is not None:
        _download_cifar100(Path(os.path.expanduser(config.root)))
    base = data_root(config, CIFAR100, "cifar-100-python")
    absent = [name for name in ("meta", "train", "test") if not (base / name).is_file()]
    if absent:
        raise FileNotFoundError(
            f"data.root: no CIFAR100 in {config.root!r}: {several(absent)} not found in {base}; there: {contents(base)}; "
            f"accepted: {CIFAR100}. --data.download true fetches it"
        )
    names = read_arrays(base / "meta").get("fine_label_names")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{base / 'meta'} is not CIFAR100's: fine_label_names must be a list of strings")
    pixels: list[np.ndarray] = []
    parts: list[list[list[int]]] = []
    start = 0
    for part in ("train", "test"):
        images, labels = _cifar_part(base / part, len(names))
        parts.append([(start + np.flatnonzero(labels == c)).tolist() for c in range(len(names))])
        pixels.append(images)
        start += len(images)
    rows = PixelArray(np.concatenate(pixels))
    return Collection(
        name="cifar100",
        class_names=[class_name(name) for name in names] if config.names == "spaces" else names,
        train=parts[0],
        test=parts[1],
        opener=rows.open,
        fingerprint=rows.fingerprint,
        layout="CIFAR100: cifar-100-python/ pickles (train, test, meta)",
    )


def _cifar_part(path: Path, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads one pickle: pixels uint8 `[N, 3, 32, 32]` and labels int64 `[N]`.

    Raises:
        ValueError: naming the file, if it holds anything else, or a label of no class.
    """
    content = read_arrays(path)
    data, labels = content.get("data"), np.asarray(content.get("fine_labels", []))
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != 3072:
        raise ValueError(f"{path} is not CIFAR100's: data must be uint8 [N, 3072]")
    if labels.shape != (len(data),) or labels.dtype.kind not in "iu":
        raise ValueError(f"{path} is not CIFAR100's: fine_labels must be {len(data)} integers, one per image")
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(f"{path}: labels must be from 0 to {classes - 1}; got {labels.min()} to {labels.max()}")
    return data.reshape(-1, 3, 32, 32), labels.astype(np.int64)


def _download_cifar100(root: Path) -> None:
    """Fetches the archive that torchvision names, checks it and unpacks it. torchvision's own reader, which unpickles, is not run."""
    from torchvision import datasets
    from torchvision.datasets.utils import download_and_extract_archive

    source = datasets.CIFAR100
    if any((folder / "meta").is_file() for folder in (root, root / source.base_folder)):
        return
    try:
        download_and_extract_archive(source.url, str(root), filename=source.filename, md5=source.tgz_md5)
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"data.download: could not fetch {source.url} into {root}: {error}. Unpack the archive there yourself"
        ) from error


# -- ImageNet ------------------------------------------------------------------------------------------------------------------


def _imagenet_name(folder: str) -> str:
    if folder not in imagenet_names():
        raise ValueError(
            f"data.root: class folder {folder!r} is not a class of ILSVRC, whose folders are named like n01440764; "
            "give names with --data.names_file"
        )
    return imagenet_names()[folder]


def imagenet_r(config: DataConfig) -> Collection:
    """Reads ImageNet-R; class names by wnid. They have no underscores, so `data.names` changes nothing."""
    base = data_root(config, IMAGENET_R, "imagenet-r")
    tree = read_tree(base, config, IMAGENET_R)
    tree.layout = tree.layout.replace("<class>", "<wnid>")
    return tree_collection(tree, "imagenet-r", "ImageNet-R", config, _imagenet_name)


def imagenet100(config: DataConfig) -> Collection:
    """Reads 100 classes of ILSVRC; class names by wnid.

    They are the classes in `data.class_list`, or all where there are 100, or the first 100 (tench to goose).
    """
    base = data_root(config, IMAGENET100)
    if config.train_list is None and not (base / "train").is_dir():
        raise FileNotFoundError(
            f"data.root: no train/ in {str(base)!r}; there: {contents(base)}; accepted: {IMAGENET100}"
        )
    tree = read_tree(base, config, IMAGENET100, held=("val", "test"), choose=_hundred)
    restricted = "the classes of data.class_list" if config.class_list else f"{len(tree.train)} classes"
    tree.layout = f"{tree.layout.replace('<class>', '<wnid>')}, {restricted}"
    return tree_collection(tree, "imagenet100", "ImageNet100", config, _imagenet_name)


def _hundred(config: DataConfig, base: Path, folders: Sequence[str]) -> list[str]:
    if config.class_list is not None or len(folders) == 100:
        return chosen_classes(config, base, folders)
    first = list(imagenet_names())[:100]
    absent = sorted(set(first) - set(folders))
    if absent:
        raise ValueError(
            f"data.root: {str(base)!r} has {len(folders)} class folders, neither 100 nor the first 100 classes of ILSVRC (not there: "
            f"{several(absent)}); name the classes to take with --data.class_list"
        )
    return first


# -- CUB-200 -------------------------------------------------------------------------------------------------------------------


def cub200(config: DataConfig) -> Collection:
    """Reads CUB-200-2011. `001.Black_footed_Albatross` becomes "Black footed Albatross", or keeps its underscores by `data.names`."""
    base = data_root(config, CUB200, "CUB_200_2011")
    if config.train_list is None and (base / "images.txt").is_file():
        tree = _official_cub(base, config)
    elif config.train_list is not None:
        tree = read_tree(base / "images" if (base / "images").is_dir() else base, config, CUB200)
    elif (base / "train").is_dir():
        tree = read_tree(base, config, CUB200)
    else:
        raise FileNotFoundError(
            f"data.root: no CUB-200 layout in {str(base)!r}; there: {contents(base)}; accepted: {CUB200}"
        )

    def name(folder: str) -> str:
        bare = re.sub(r"^\d+\.", "", folder)
        return class_name(bare) if config.names == "spaces" else bare

    return tree_collection(tree, "cub200", "CUB-200", config, name)


def _official_cub(base: Path, config: DataConfig) -> Tree:
    """Reads the archive's own tables: images, their classes, and the official split.

    Raises:
        FileNotFoundError: if a table is not there.
        ValueError: for tables that are damaged or contradict each other.
    """
    images, labels, split = _cub_tables(base)
    _check_cub_folders(base, images, labels)
    classes = chosen_classes(config, base, sorted({file.split("/")[0] for file in images.values()}))
    tree = Tree(base, {c: [] for c in classes}, {c: [] for c in classes}, "CUB_200_2011 with its official split")
    for image, file in images.items():
        by_class, folder, path = (
            tree.train if split[image] == "1" else tree.test,
            file.split("/")[0],
            base / "images" / file,
        )
        if folder in by_class and path.is_file():
            by_class[folder].append(path)
        elif folder in by_class:
            tree.missing.append(f"images/{file} (in images.txt)")
    listed = {base / "images" / file for file in images.values()}
    for name in classes:
        if (base / "images" / name).is_dir():
            there = sorted((base / "images" / name).iterdir())
            unlisted = [path.name for path in there if path not in listed and not path.name.startswith(".")]
            tree.stray += [f"images/{name}/{file}" for file in unlisted]
    return tree


def _cub_tables(base: Path) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Reads path, class number and part (1 train, 0 test) of each image, by the image's number.

    Raises:
        FileNotFoundError: if a table is not there.
        ValueError: naming a table that is damaged, or lists other images than `images.txt`.
    """
    tables: dict[str, dict[str, str]] = {}
    for name in ("images.txt", "image_class_labels.txt", "train_test_split.txt"):
        path = base / name
        if not path.is_file():
            raise FileNotFoundError(f"data.root: {base} has images.txt but no {name}; there: {contents(base)}")
        tables[name] = {}
        for number, line in enumerate(read_lines(path), start=1):
            columns = line.split(maxsplit=1)
            if len(columns) != 2 or columns[0] in tables[name]:
                raise ValueError(
                    f"{path}, line {number}: an image's number, not given before, and a value are needed; got {line!r}"
                )
            tables[name][columns[0]] = columns[1]
    images, labels, split = tables.values()
    for name, table in (("image_class_labels.txt", labels), ("train_test_split.txt", split)):
        if table.keys() != images.keys():
            odd = several(sorted(table.keys() ^ images.keys()))
            raise ValueError(f"{base / name} and images.txt must list the same images; they differ at {odd}")
    if set(split.values()) - {"0", "1"}:
        raise ValueError(f"{base / 'train_test_split.txt'}: 1 (train) or 0 (test) is needed for every image")
    return images, labels, split


def _check_cub_folders(base: Path, images: dict[str, str], labels: dict[str, str]) -> None:
    """Refuses paths that repeat or lead out of `images/`, and class numbers that contradict the folders.

    Raises:
        ValueError: naming the table and its fault.
    """
    folder_of: dict[str, str] = {}
    repeated = [file for file, times in Counter(images.values()).items() if times > 1]
    if repeated:
        raise ValueError(f"{base / 'images.txt'} names {several(repeated)} more than once")
    for image, file in images.items():
        if Path(file).is_absolute() or ".." in Path(file).parts or len(Path(file).parts) < 2:
            raise ValueError(f"{base / 'images.txt'}: {file!r} is not a path CLASS/FILE in images/")
        folder = file.split("/")[0]
        if folder_of.setdefault(labels[image], folder) != folder:
            raise ValueError(
                f"{base / 'image_class_labels.txt'}: class {labels[image]} has images of two folders, one is {file}"
            )
    if len(set(folder_of.values())) < len(folder_of):
        raise ValueError(f"{base / 'image_class_labels.txt'}: images of one folder have several class numbers")


# -- UCF101 --------------------------------------------------------------------------------------------------------------------


def ucf101(config: DataConfig) -> Collection:
    """Reads the frames of UCF101; the class YoYo is left out, as everybody does.

    "ApplyEyeMakeup" becomes "Apply Eye Makeup", or stays as it is by `data.names`.
    """
    base = data_root(config, UCF101)
    if config.train_list is None and not (base / "train").is_dir():
        raise FileNotFoundError(f"data.root: no train/ in {str(base)!r}; there: {contents(base)}; accepted: {UCF101}")
    # A class may have a folder per video.
    tree = read_tree(base, replace(config, merge_folders=True), UCF101, choose=_without_yoyo)
    dropped = any("YoYo" in class_folders(part) for part in (base, base / "train") if part.is_dir())
    tree.layout += ", YoYo left out" if dropped else ""
    namer = _words if config.names == "spaces" else str
    return tree_collection(tree, "ucf101", "UCF101 frames", config, namer)


def _without_yoyo(config: DataConfig, base: Path, folders: Sequence[str]) -> list[str]:
    return [name for name in chosen_classes(config, base, folders) if name != "YoYo"]


def _words(folder: str) -> str:
    """Writes camel case and underscores as separate words."""
    return class_name(re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", folder))
