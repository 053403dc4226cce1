"""Recognises the folders that hold the parts of a data set, its training images and its test images, by their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def _forms(*words: str) -> tuple[str, ...]:
    """Lists names in common use for the folder of a part: the words alone first, then `train_set`, `train-images`, `seg_train` ..."""
    kinds = [f"{mark}{kind}" for kind in ("set", "data", "images", "split") for mark in ("_", "-", "")]
    return (*words, *(f"{word}{kind}" for word in words for kind in kinds), *(f"seg_{word}" for word in words))


TRAIN = _forms("train", "training")
"""Names for the folder of training images, in small letters, the preferred one first."""
HELD = _forms("test", "testing", "val", "valid", "validation", "eval", "dev")
"""Names for the folder of test images, in small letters, the preferred one first."""


def is_part(name: str) -> bool:
    """Tells whether a folder is named like a part of a data set, in any capitals."""
    return name.lower() in (*TRAIN, *HELD)


def part_folder(base: Path, names: Sequence[str]) -> str | None:
    """Returns the first of `names` that is a folder in `base`, spelt as it is there.

    A folder in small letters goes before one in capitals.
    """
    there = sorted((entry.name for entry in base.iterdir() if entry.is_dir()), reverse=True)  # small letters sort last
    return next((form for name in names for form in there if form.lower() == name.lower()), None)
