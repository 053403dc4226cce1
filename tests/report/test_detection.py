"""AUROC and FPR95 by hand."""

import pytest

from segp_ext.report.detection import area_under_curve, false_positive_rate


def test_numbers_by_hand():
    assert area_under_curve([3, 2, 1], [0, 1.5]) == pytest.approx(5 / 6)
    assert area_under_curve([1], [1]) == 0.5 and area_under_curve([0], [1]) == 0
    known = list(range(100))  # the limit that takes 95 of them is 5
    assert false_positive_rate(known, [4.9, 5, 6, 1000]) == 0.75
    assert false_positive_rate([2.0], [1.0, 2.0]) == 0.5
    # Of ten, 95 % are more than nine, so all ten are taken.
    assert false_positive_rate([*range(10)], [-0.5, 0, 0.5]) == pytest.approx(2 / 3)
