"""Folders of digits' images, a folder for each class, as a user's months."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from segp_ext.data.digits import digits

FAST = ["--training.epochs=1", "--training.batch_size=8", "--anchors.steps=1", "--anchors.seeds_per_class=2"]
"""Settings of a learner that learns a month in a second."""


def month(folder: Path, names: Sequence[str], count: int = 6, first: int = 0) -> Path:
    """Writes images of digits to `folder/<name>/N.png`; the last character of a name is the digit.

    Args:
        folder: the month's folder; it may be there.
        names: names of the classes.
        count: number of images of each.
        first: how many images of the data set to leave out.
    """
    collection = digits()
    for name in names:
        (folder / name).mkdir(parents=True)
        sources = collection.train[collection.class_names.index(name[-1])][first : first + count]
        for number, source in enumerate(sources, start=first):
            Image.fromarray(collection.opener(source)[0]).save(folder / name / f"{number}.png")
    return folder
