"""Places of classes when some leave or become one, worked out by hand."""

import torch

from segp_ext.method.class_places import (
    GONE,
    merged_rows,
    places_after_keeping,
    places_after_merging,
    places_kept,
)


def test_classes_that_leave():
    assert places_kept(5, torch.tensor([1, 3])).tolist() == [0, 2, 4]
    assert places_after_keeping(5, torch.tensor([0, 2, 4])).tolist() == [0, GONE, 1, GONE, 2]


def test_classes_that_become_one_stand_at_the_first_place():
    assert places_after_merging(5, torch.tensor([1, 3, 4])).tolist() == [0, 1, 2, 1, 1]
    rows = torch.arange(10.0).view(5, 2)
    found = merged_rows(rows, torch.tensor([1, 3, 4]), torch.tensor([-1.0, -2.0]))
    assert found.tolist() == [[0, 1], [-1, -2], [4, 5]] and rows[1].tolist() == [2, 3]
