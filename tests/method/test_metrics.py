"""The metrics on numbers worked by hand."""

import pytest

from segp_ext import metrics

R = [[0.9], [0.7, 0.9], [0.5, 0.7, 0.9]]


def test_forgetting_and_backward_transfer_of_the_worked_example():
    # task 0: best .9, last .5; task 1: best .9, last .7 -> mean of .4 and .2
    assert metrics.forgetting(R) == pytest.approx(0.3)
    assert metrics.backward_transfer(R) == pytest.approx(-0.3)


def test_forgetting_takes_the_best_before_the_last_task():
    # task 0 was at its best (.8) in the middle; task 1 improved at the end, which counts as negative forgetting
    rows = [[0.6], [0.8, 0.5], [0.7, 0.6, 0.9]]
    assert metrics.forgetting(rows) == pytest.approx(((0.8 - 0.7) + (0.5 - 0.6)) / 2)
    assert metrics.backward_transfer(rows) == pytest.approx(((0.7 - 0.6) + (0.6 - 0.5)) / 2)


def test_average_and_last_accuracy():
    assert metrics.average_accuracy([0.9, 0.8, 0.4]) == pytest.approx(0.7)
    assert metrics.last_accuracy([0.9, 0.8, 0.4]) == 0.4


def test_forward_transfer_leaves_the_last_entry_out():
    assert metrics.forward_transfer([0.5, 0.7, None]) == pytest.approx(0.6)
    assert metrics.forward_transfer([None, None, None]) is None


def test_one_task_has_no_old_tasks():
    assert metrics.forgetting([[0.9]]) is None
    assert metrics.backward_transfer([[0.9]]) is None
    assert metrics.forward_transfer([None]) is None
