"""The sentences at the top of a page, for made cases."""

import itertools
import statistics

import pytest
from made_results import made, made_run

from segp_ext.report import verdict
from segp_ext.report.comparison import Comparison
from segp_ext.report.result import PathResult, Row


def compared(lasts, reference=None):
    """A comparison of runs by row, each with its Last on the dual path, one seed after the other; None for a run that is missing."""
    runs = {
        (row, seed): made(last, 0.1) for row, of in lasts.items() for seed, last in enumerate(of) if last is not None
    }
    return " ".join(verdict.of_comparison(Comparison(runs, "command", reference)))


def test_clear_differences_are_told_with_their_intervals():
    said = compared({"a": [0.5, 0.6, 0.7], "b": [0.6, 0.71, 0.79], "c": [0.4, 0.49, 0.61]})
    # differences of b .10 .11 .09, of c -.10 -.11 -.09: half an interval is 4.303 * .01 / sqrt(3)
    assert said == (
        "Over three seeds, b (dual; +10.0 points, +7.5 to +12.5) ends above a (dual) after the last task. "
        "c (dual; −10.0 points, −12.5 to −7.5) ends below a (dual) after the last task."
    )


def test_a_difference_whose_interval_holds_zero_is_not_told():
    said = compared({"a": [0.5, 0.6, 0.7], "b": [0.6, 0.59, 0.71], "c": [0.4, 0.49, 0.61]})
    assert said == (
        "Over three seeds, c (dual; −10.0 points, −12.5 to −7.5) ends below a (dual) after the last task. "
        "No difference from a (dual) can be told for b (dual; +3.3 points, −11.2 to +17.9)."
    )
    said = compared({"a": [0.5, 0.6, 0.7], "b": [0.6, 0.59, 0.71]})
    assert (
        said == "Over three seeds, no difference from a (dual) can be told for b (dual; +3.3 points, −11.2 to +17.9)."
    )
    said = compared({"a": [0.5, 0.6, 0.7], "b": [0.5, 0.6, 0.7]})  # the same numbers
    assert said == "Over three seeds, no difference from a (dual) can be told for b (dual; 0.0 points, 0.0 to 0.0)."


@pytest.mark.parametrize(
    ("seeds", "begin"),
    [
        (1, "One seed is too few to tell any row from a (dual)."),
        (2, "Two seeds are too few to tell any row from a (dual)."),
    ],
)
def test_few_seeds_tell_nothing(seeds, begin):
    said = compared({"a": [0.5] * seeds, "b": [0.9] * seeds, "c": [0.45] * seeds})
    assert said == f"{begin} So far the differences after the last task are: b (dual; +40.0 points) and c (dual; −5.0)."


def test_rows_with_fewer_seeds_than_others():
    said = compared({"a": [0.5, 0.6, 0.7], "b": [0.6, 0.71, 0.79], "c": [0.9, 0.9, None]})
    assert said.endswith("Two seeds are too few to tell c (dual) from a (dual).") and said.startswith(
        "Over three seeds, b (dual; +10.0 points"
    )
    said = compared({"a": [0.5, 0.6, None, None], "b": [None, None, 0.5, 0.6]})
    assert said == "No seed is shared by a and b."


def test_comparisons_without_two_rows():
    assert compared({"a": [0.5, 0.6]}) == "a stands alone: there is no other row to compare it with."
    assert (
        compared({"b": [0.5]}, "a") == "a has no finished run, so that the other rows have nothing to be compared with."
    )


def test_many_rows_are_counted():
    said = compared({"a": [0.5, 0.6, 0.7], **{f"b{n}": [0.6 + n / 100, 0.71, 0.79] for n in range(7)}})
    assert said.count("(dual; ") == 4 and "and 3 more rows end above a (dual)" in said


def test_rows_are_compared_by_the_paths_by_which_they_predict():
    """A head on the frozen model predicts by the visual path, and the reference by the dual one."""
    runs = {}
    for seed in range(3):
        runs["a", seed], runs["ranpac", seed] = (
            made(0.8, 0.1),
            made(0.5, 0.1, settings={"inference": {"path": "visual"}}),
        )
        runs["a", seed].row("visual").scores.pooled[-1] = 0.5
    found = Comparison(runs, "command")
    assert found.difference("ranpac", "visual", "last").mean == 0
    assert found.predicted_difference("ranpac", "last").mean == pytest.approx(-0.3)
    assert "ranpac (visual; −30.0 points, −30.0 to −30.0) ends below a (dual)" in " ".join(verdict.of_comparison(found))


def run_with(own, *frozen, images=400):
    """A run of two tasks with its Last on the dual path, and frozen rows with theirs."""
    run = made(own, 0.1)
    names = ["zero-shot", "frozen prototypes", "frozen rda"]
    for name, last in zip(names, frozen, strict=False):
        run.record(Row(name, "text", True, PathResult([[0.9], [0.8, last]], [0.9, last], [None, None])))
    if images:
        right = round(own * images)
        run.row("dual").scores.confusion = [[0, 0, right], [0, 1, images - right]]
    return " ".join(verdict.of_run(run))


def test_a_run_is_compared_with_zero_shot_and_the_best_frozen_head():
    said = run_with(0.8, 0.5, 0.7, 0.79)
    # bounds over 400 images: .8 and .5 1.96 * sqrt((.7 - .09) / 400) = .0765; .8 and .79 1.96 * sqrt((.41 - .0001) / 400) = .0627
    assert said == (
        "After two tasks, m (dual path) gets 80.0 % of the test images right: 30.0 points above zero-shot (50.0 %) and 1.0 points above "
        "frozen rda (79.0 %, the best frozen head). With 400 test images, a gap of up to 7.7 points to zero-shot and of up to 6.3 to "
        "frozen rda may be chance: the gap to frozen rda is that small. These are upper bounds at 95 %, as a run does not keep which "
        "images each row gets right. One run cannot tell what another seed or class order would give; segp_ext.compare runs several."
    )
    assert "both gaps are larger" in run_with(0.8, 0.5, 0.6)
    assert "the gap to zero-shot and the gap to frozen prototypes are that small" in run_with(0.8, 0.8, 0.79)
    assert "level with zero-shot (80.0 %)" in run_with(0.8, 0.8)
    assert "20.0 points below zero-shot (90.0 %)" in run_with(0.7, 0.9) and "the gap is larger" in run_with(0.7, 0.9)


def test_each_gap_is_told_against_its_own_bound():
    said = run_with(0.957, 0.5, 0.7, 0.987, images=540)
    # 1.96 * sqrt((.543 - .2088) / 540) = .0488 and 1.96 * sqrt((.056 - .0009) / 540) = .0198, which is below the gap of .03
    assert (
        "of up to 4.9 points to zero-shot and of up to 2.0 to frozen rda may be chance: both gaps are larger." in said
    )
    assert (
        "a gap of up to 6.5 points to zero-shot may be chance: the gap is larger. This is an upper bound"
        in run_with(0.9, 0.5)
    )


def test_the_bound_holds_for_every_way_to_share_the_images():
    """For 10 images and two accuracies: the largest of the half intervals over all numbers of images that both rows get right."""
    images = 10
    for one, other in itertools.product(range(images + 1), repeat=2):
        halves = []
        for both in range(max(0, one + other - images), min(one, other) + 1):
            apart = [1] * (one - both) + [-1] * (other - both)
            halves.append(1.96 * statistics.pstdev(apart + [0] * (images - len(apart))) / images**0.5)
        assert verdict.sampling_half(one / images, other / images, images) == pytest.approx(max(halves), abs=1e-9)


def test_a_run_without_what_it_takes_to_compare():
    assert "may be chance" not in run_with(0.8, 0.5, images=0) and "One run cannot tell" in run_with(0.8, 0.5, images=0)
    assert run_with(0.8).endswith("The run holds no frozen rows to compare with.")
    begun = made_run(3, 2)
    begun.scores = [row for row in begun.scores if row.is_baseline]
    assert verdict.of_run(begun) == ["No task is learnt yet, so there is nothing to compare."]


def test_a_run_in_progress_is_compared_after_the_tasks_it_has_learnt():
    run = made_run(3, 2)
    for row in run.own:
        row.scores.matrix, row.scores.pooled = row.scores.matrix[:1], row.scores.pooled[:1]
    zero_shot = 100 * run.scores[0].scores.pooled[0]
    said = " ".join(verdict.of_run(run))
    assert said.startswith("After one task, segp (dual path)") and f"zero-shot ({zero_shot:.1f} %)" in said
