"""Checks the data sets that users hand over, and takes the image and the label out of their items."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from segp_ext.runtime.process_state import seeded

_IMAGE_KEYS, _LABEL_KEYS = ("image", "img"), ("label", "labels")


class SizedDataset(Protocol):
    """A map-style data set, as torch calls it: it has a `len()` and integer indices, and its items are (image, label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, int]: ...


def check_dataset(dataset: Any) -> None:
    """Refuses anything but a map-style data set, and says what to pass.

    Raises:
        TypeError: naming what came.
    """
    if isinstance(dataset, (str, os.PathLike)):
        raise TypeError(
            f"a data set of (image, label) is needed; got the path {os.fspath(dataset)!r}. "
            f"segp_ext.data.load_scenario(DataConfig(root={os.fspath(dataset)!r})) reads a folder; its tasks hold data sets (task.train)"
        )
    if isinstance(dataset, DataLoader):
        raise TypeError("a data set of (image, label) is needed; got a DataLoader: give its .dataset")
    indexed = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    # torch's iterable data sets inherit an index that raises.
    if not indexed or isinstance(dataset, (Mapping, IterableDataset)):
        raise TypeError(
            f"a map-style data set is needed, with len() and [index], which gives (image, label); got {type(dataset).__name__}. "
            "list(...) makes one of an iterable that fits into memory"
        )
    if isinstance(dataset, (tuple, list)) and len(dataset) == 2 and _are_labels(dataset[1], dataset[0]):
        raise TypeError(
            "a data set of (image, label) is needed; got a pair of all images and all labels: give list(zip(images, labels, strict=True))"
        )


def _are_labels(labels: Any, images: Any) -> bool:
    """Tells whether `labels` are whole numbers, one for each of `images`."""
    if not all(
        isinstance(part, (list, tuple, np.ndarray, Tensor)) and getattr(part, "ndim", 1) for part in (labels, images)
    ):
        return False
    return len(labels) == len(images) and all(whole_number(label) is not None for label in labels)


def whole_number(label: Any) -> int | None:
    """Returns a label as a number, also from a tensor or an array of one number; None if it is not a whole number."""
    if isinstance(label, (Tensor, np.ndarray)) and np.prod(label.shape) == 1:
        label = label.item()
    return int(label) if isinstance(label, (int, np.integer)) else None


def image_and_label(item: Any, index: int) -> tuple[Any, Any]:
    """Takes the image and the label out of a data set's item: a pair, or a dict as Hugging Face's data sets have it.

    Args:
        item: the item.
        index: its index, for the message.

    Raises:
        TypeError: for anything else, saying what came.
    """
    if isinstance(item, Mapping):
        image, label = (next((key for key in keys if key in item), None) for keys in (_IMAGE_KEYS, _LABEL_KEYS))
        if image is None or label is None:
            raise TypeError(f"item {index} must have the keys image and label; it has {', '.join(map(str, item))}")
        return item[image], item[label]
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        what = f"{len(item)} things" if isinstance(item, (tuple, list)) else type(item).__name__
        kinds = f" ({', '.join(type(part).__name__ for part in item)})" if isinstance(item, (tuple, list)) else ""
        numbered = isinstance(item, (tuple, list)) and len(item) == 3 and isinstance(item[0], (int, np.integer))
        remedy = "; wrap the data set in one whose items leave the first out" if numbered else ""
        raise TypeError(f"item {index} must be (image, label); got {what}{kinds}{remedy}")
    return item[0], item[1]


def item_at(dataset: SizedDataset, index: int) -> Any:
    """Reads an item. Random numbers that the data set draws for it are seeded with the index, so that the item is always the same.

    Raises:
        Exception: whatever the data set raises, with a note that tells the index.
    """
    try:
        with nullcontext() if getattr(dataset, "draws_nothing", False) else seeded(index):
            return dataset[index]
    except Exception as error:
        error.add_note(f"raised by item {index} of the data set, whose length is {len(dataset)}")
        raise


def labels_of(dataset: SizedDataset) -> Tensor:
    """Returns all labels of a data set, int64 `[N]`.

    No image is decoded where the data set has `labels` or `targets` and no `target_transform`.

    Raises:
        TypeError: if the labels are not integers.
        ValueError: if there is not one label per image.
    """
    known = _known_labels(dataset)
    if known is None:
        known = [image_and_label(item_at(dataset, i), i)[1] for i in range(len(dataset))]
    if isinstance(known, list):  # torch takes tensors of one number in a list, but not arrays
        known = [label.item() if isinstance(label, np.ndarray) and label.size == 1 else label for label in known]
    try:
        labels = torch.as_tensor(known, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"labels must be integers; got {known[:3]!r}...") from error
    if len(dataset) == 0:
        return torch.zeros(0, dtype=torch.int64, device="cpu")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels must be integers; got {labels.dtype}")
    if list(labels.shape) != [len(dataset)]:
        raise ValueError(f"there must be one label per image, [{len(dataset)}]; got {list(labels.shape)}")
    return labels.to(torch.int64)


def _known_labels(dataset: Any) -> Any:
    """Returns the labels that a data set lists, or None where its items alone tell them.

    The attributes `labels` and `targets` may hold other things: the names of the classes, or the labels of the whole data set behind a
    subset. Such attributes are skipped.
    """
    if getattr(dataset, "target_transform", None) is not None:
        return None
    for name in ("labels", "targets"):
        known = getattr(dataset, name, None)
        if (
            known is None
            or not hasattr(known, "__len__")
            or isinstance(known, (Mapping, set, str))
            or getattr(known, "ndim", 1) == 0
        ):
            continue
        if len(known) == len(dataset) and not (len(known) and isinstance(known[0], (str, bytes))):
            return known
    # A Hugging Face data set gives its column of labels without decoding images.
    columns = getattr(dataset, "column_names", None)
    column = next((key for key in _LABEL_KEYS if isinstance(columns, list) and key in columns), None)
    return None if column is None else list(dataset[column])
