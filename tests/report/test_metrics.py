"""The metrics on numbers worked by hand."""

import pytest

from segp_ext.report import metrics

R = [[0.9], [0.7, 0.9], [0.5, 0.7, 0.9]]


def test_forgetting_and_backward_transfer_of_the_worked_example():
    # task 0: best .9, last .5; task 1: best .9, last .7 -> mean of .4 and .2
    assert metrics.forgetting(R) == pytest.approx(0.3)
    assert metrics.backward_transfer(R) == pytest.approx(-0.3)


def test_forgetting_takes_the_best_after_any_task():
    # task 0 was at its best (.8) in the middle; task 1 improved at the end, so it forgot nothing (equation 34)
    rows = [[0.6], [0.8, 0.5], [0.7, 0.6, 0.9]]
    assert metrics.forgetting(rows) == pytest.approx((0.8 - 0.7) / 2)
    assert metrics.backward_transfer(rows) == pytest.approx(((0.7 - 0.6) + (0.6 - 0.5)) / 2)


def test_average_and_last_accuracy():
    assert metrics.average_accuracy([0.9, 0.8, 0.4]) == pytest.approx(0.7)
    assert metrics.last_accuracy([0.9, 0.8, 0.4]) == 0.4


def test_forward_transfer_leaves_the_last_entry_out():
    assert metrics.forward_transfer([0.5, 0.7, None]) == pytest.approx(0.6)
    assert metrics.forward_transfer([None, None, None]) is None


def test_forward_transfer_leaves_tasks_of_one_class_out():
    assert metrics.forward_transfer([0.5, None, 0.8, None]) == pytest.approx(0.65)


def test_chance_is_told_by_the_binomial_distribution():
    # 100 images of ten classes: 10 are right by guessing; 20 or more with probability .00198, 21 or more with .00081
    assert metrics.within_chance(0.02, 100, 10) and metrics.within_chance(0.20, 100, 10)
    assert not metrics.within_chance(0.21, 100, 10)
    # more images tell sooner: 0.12 of 10,000 are 6.7 standard deviations above
    assert not metrics.within_chance(0.12, 10_000, 10)
    assert metrics.within_chance(0.027, 3_000, 43) and not metrics.within_chance(0.35, 3_000, 43)
    assert metrics.within_chance(1.0, 100, 1)  # one class is always right


def test_one_task_has_no_old_tasks():
    assert metrics.forgetting([[0.9]]) is None
    assert metrics.backward_transfer([[0.9]]) is None
    assert metrics.forward_transfer([None]) is None


# Before the first task, then after each of three; every row has all three tasks.
G = [[0.6, 0.5, 0.4], [0.8, 0.55, 0.35], [0.7, 0.9, 0.3], [0.65, 0.7, 0.95]]


def test_global_metrics_of_the_worked_example():
    # task 1 just before it is learnt: .55; task 2: .3
    assert metrics.global_forward_transfer(G) == pytest.approx((0.55 + 0.3) / 2)
    # task 0: .65 after all, .8 when learnt; task 1: .7 and .9
    assert metrics.global_backward_transfer(G) == pytest.approx((-0.15 - 0.2) / 2)
    assert metrics.global_forgetting(G) == pytest.approx((0.15 + 0.2) / 2)


def test_global_forgetting_takes_the_best_after_any_task():
    # task 0 ends at its best, so it forgets nothing; task 1 was at its best (.75) before it was learnt
    rows = [[0.6, 0.5, 0.4], [0.6, 0.75, 0.4], [0.7, 0.7, 0.4], [0.8, 0.65, 0.9]]
    assert metrics.global_forgetting(rows) == pytest.approx((0 + 0.1) / 2)
    assert metrics.global_backward_transfer(rows) == pytest.approx((0.2 - 0.05) / 2)


def test_the_row_before_the_first_task_enters_no_global_metric():
    every = (metrics.global_forward_transfer, metrics.global_backward_transfer, metrics.global_forgetting)
    assert [metric(G) for metric in every] == [metric([[1.0, 1.0, 1.0], *G[1:]]) for metric in every]


@pytest.mark.parametrize("rows", [[], [[0.5, 0.5]], [[0.5, 0.5], [0.9, 0.5]]])
def test_fewer_than_two_tasks_have_no_global_metrics(rows):
    assert metrics.global_forgetting(rows) is None
    assert metrics.global_backward_transfer(rows) is None
    assert metrics.global_forward_transfer(rows) is None
