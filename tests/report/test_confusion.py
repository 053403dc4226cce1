"""Confusion counts, worked by hand."""

import pytest

from segp_ext.report.confusion import (
    class_accuracy,
    confusion_fits,
    confusion_of,
    frequent_confusions,
    image_counts,
)

TRUE, PREDICTED = [0, 0, 0, 1, 3, 3, 3], [0, 2, 2, 1, 0, 3, 1]
COUNTS = [[0, 0, 1], [0, 2, 2], [1, 1, 1], [3, 0, 1], [3, 1, 1], [3, 3, 1]]


def test_pairs_are_counted_and_sorted():
    assert confusion_of(TRUE, PREDICTED) == COUNTS and confusion_of([], []) == []
    with pytest.raises(ValueError, match="zip"):
        confusion_of([0], [])


def test_accuracy_of_each_class():
    assert class_accuracy(COUNTS) == [
        pytest.approx(1 / 3),
        1.0,
        None,
        pytest.approx(1 / 3),
    ]  # class 2 has no test image
    assert image_counts(COUNTS) == {0: 3, 1: 1, 3: 3} and class_accuracy([]) == []


def test_the_most_frequent_confusions_come_first():
    assert frequent_confusions(COUNTS, 2) == [[0, 2, 2], [3, 0, 1]] and len(frequent_confusions(COUNTS, 9)) == 3


@pytest.mark.parametrize(
    "value", [None, {}, [[0, 0]], [[0, 4, 1]], [[0, 0, 0]], [[0, -1, 1]], [[0, True, 1]], [["0", 0, 1]], [0]]
)
def test_other_values_are_told_apart(value):
    assert confusion_fits(COUNTS, "abcd") and not confusion_fits(value, "abcd")
