"""Confusion counts: which class the model predicted for the test images of each class.

A confusion is a list of [true class, predicted class, number of images], sorted, without zeros: 1,000 classes need no million
entries. Classes are places in the run's class names, in task order (`RunResult.class_names`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

Confusion = list[list[int]]
"""Rows of [true class, predicted class, number of images]."""


def confusion_of(true: Iterable[int], predicted: Iterable[int]) -> Confusion:
    """Counts each pair of a true and a predicted class.

    Args:
        true: the class of each image.
        predicted: the class that the model chose for the same image.
    """
    pairs = sorted(zip(true, predicted, strict=True))
    return [[*pair, len(list(same))] for pair, same in itertools.groupby(pairs)]


def image_counts(confusion: Confusion) -> dict[int, int]:
    """Counts the test images of each class that has any."""
    found: dict[int, int] = {}
    for true, _, count in confusion:
        found[true] = found.get(true, 0) + count
    return dict(sorted(found.items()))


def class_accuracy(confusion: Confusion) -> list[float | None]:
    """Gives each class's accuracy as a fraction, in class order; None for a class without test images."""
    images = image_counts(confusion)
    right = {true: count for true, predicted, count in confusion if true == predicted}
    classes = range(max(images) + 1 if images else 0)
    return [right.get(one, 0) / images[one] if one in images else None for one in classes]


def frequent_confusions(confusion: Confusion, limit: int) -> Confusion:
    """Gives the entries of wrong predictions, the most frequent first, at most `limit` of them."""
    wrong = [entry for entry in confusion if entry[0] != entry[1]]
    return sorted(wrong, key=lambda entry: (-entry[2], entry))[:limit]


def confusion_fits(value: Any, class_names: Sequence[str]) -> bool:
    """Tells whether a value read from JSON is a confusion over these classes."""
    return isinstance(value, list) and all(
        isinstance(entry, list)
        and len(entry) == 3
        and all(type(number) is int and number >= 0 for number in entry)
        and max(entry[:2]) < len(class_names)
        and entry[2] > 0
        for entry in value
    )
