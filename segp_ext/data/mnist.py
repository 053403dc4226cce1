"""Reads MNIST's four files in IDX format, plain or compressed by gzip.

torchvision's class reads plain files alone, and loads a saved tensor in their place where an old version left one.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from segp_ext.config import DataConfig
from segp_ext.data.public_set import PublicSet
from segp_ext.data.scenario import Collection, PixelArray
from segp_ext.runtime.progress import first_line

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""The files of images and labels of each part; each may end with .gz."""
_FORMS = ("", ".gz")
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MNIST = PublicSet(
    name="mnist",
    label="MNIST",
    folders=("MNIST/raw", "raw", "mnist", "MNIST"),
    marks=tuple(f"{name}{form}" for names in _FILES.values() for name in names for form in _FORMS),
    layouts=(
        "<root>/MNIST/raw/ (torchvision's) or <root>/mnist/, or one of these folders itself, with {train,t10k}-images-idx3-ubyte and "
        "{train,t10k}-labels-idx1-ubyte, as they are or with .gz"
    ),
    page="http://yann.lecun.com/exdb/mnist/ or https://ossci-datasets.s3.amazonaws.com/mnist/",
)


def mnist(config: DataConfig) -> Collection:
    """Reads MNIST as uint8 `[3, 28, 28]` pixels.

    Class names are the numerals, as in CLIP's list of class names; with `data.names` folders they are torchvision's, "0 - zero".

    Raises:
        FileNotFoundError: naming the files that are not there.
        ValueError: naming a file that is damaged.
    """
    base = MNIST.find(config)
    there = {
        name: next((base / f"{name}{form}" for form in _FORMS if (base / f"{name}{form}").is_file()), None)
        for names in _FILES.values()
        for name in names
    }
    absent = [name for name, path in there.items() if path is None]
    if absent:
        raise MNIST.incomplete(base, absent)
    pixels: list[np.ndarray] = []
    parts: dict[str, list[list[int]]] = {}
    start = 0
    for part, names in _FILES.items():
        image_file, label_file = (path for name in names if (path := there[name]) is not None)
        images, labels = _read_idx(image_file, 3), _read_idx(label_file, 1)
        if images.shape[1:] != (28, 28):
            raise ValueError(f"{image_file} must hold images of 28 × 28 pixels; got {list(images.shape[1:])}")
        if len(images) != len(labels):
            raise ValueError(f"{label_file} must have a label per image; got {len(labels)} for {len(images)}")
        if len(labels) and labels.max() > 9:
            raise ValueError(f"{label_file}: labels must be from 0 to 9; got {labels.max()}")
        parts[part] = [(start + np.flatnonzero(labels == c)).tolist() for c in range(10)]
        pixels.append(images)
        start += len(images)
    rows = PixelArray(np.repeat(np.concatenate(pixels)[:, None], 3, axis=1))
    return Collection(
        name="mnist",
        class_names=[str(c) if config.names == "spaces" else f"{c} - {word}" for c, word in enumerate(_WORDS)],
        train=parts["train"],
        test=parts["test"],
        opener=rows.open,
        fingerprint=rows.fingerprint,
        layout="MNIST: idx files of images and labels (torchvision's)",
    )


def _read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Reads a file of bytes in IDX format: two zeros, the type 8, the number of dimensions, each size in 4 bytes, the values.

    Returns:
        uint8, of as many dimensions as asked for.

    Raises:
        ValueError: naming the file, if it is damaged or holds anything else.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4 + 4 * dimensions)
            if head[:4] != bytes([0, 0, 8, dimensions]) or len(head) < 4 + 4 * dimensions:
                raise ValueError(f"it does not begin like a file of bytes in {dimensions} dimension(s)")
            shape = struct.unpack(f">{dimensions}I", head[4:])
            values = file.read()
    except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is not MNIST's: {first_line(error)}") from error
    if len(values) != int(np.prod(shape, dtype=object)):
        raise ValueError(f"{path} is not MNIST's: {list(shape)} values are stated, {len(values):,} are there")
    return np.frombuffer(values, np.uint8).reshape(shape)
