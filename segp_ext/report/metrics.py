"""Continual-learning metrics, defined once.

R is a list of rows. R[i][j] is the accuracy on task j's test images after training task i, over all classes seen by then, for j ≤ i.
Tasks count from zero here; a lower triangle is enough. Accuracies are fractions.

The paper's global R (SeGP-CL, arXiv 2603.12055, equations 33 and 34) scores all tasks after each task. Its scores are over the class
names of all tasks. Its row i is measured after i tasks: row 0 comes before the first one, and none of the metrics reads it.
"""

from __future__ import annotations

from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def average_accuracy(pooled: Sequence[float]) -> float:
    """Avg: mean over i of A_i, the accuracy over all test images of all classes seen after task i."""
    return sum(pooled) / len(pooled)


def last_accuracy(pooled: Sequence[float]) -> float:
    """Last: A_T."""
    return pooled[-1]


def forgetting(matrix: Rows) -> float | None:
    """Mean over old tasks j of max_{j ≤ i ≤ T} R[i][j] − R[T][j]; None for a single task.

    The paper's equation 34: the last task counts for the best too, so that a task which improves has lost nothing.
    """
    last = len(matrix) - 1
    if last == 0:
        return None
    return sum(max(matrix[i][j] for i in range(j, last + 1)) - matrix[last][j] for j in range(last)) / last


def forgetting_curve(matrix: Rows) -> list[float]:
    """Computes the forgetting after each task from the second on."""
    return [forgetting(matrix[:tasks]) or 0.0 for tasks in range(2, len(matrix) + 1)]


def backward_transfer(matrix: Rows) -> float | None:
    """BWT: mean over old tasks j of R[T][j] − R[j][j]; None for a single task."""
    last = len(matrix) - 1
    if last == 0:
        return None
    return sum(matrix[last][j] - matrix[j][j] for j in range(last)) / last


def forward_transfer(next_task: Sequence[float | None]) -> float | None:
    """FWT: mean over tasks j > 0 of the zero-shot accuracy on task j before training it, over the classes of that task.

    `next_task[i]` is the accuracy on task i + 1 after training task i. Its last entry is left out, as no task follows. So are tasks of
    one class, where it is None, as one class is always right. The metric is None if no task is left, and for a path that cannot score
    unseen classes.
    """
    scores = [score for score in next_task[:-1] if score is not None]
    return sum(scores) / len(scores) if scores else None


def within_chance(accuracy: float, images: int, classes: int) -> bool:
    """Tells whether guessing among the classes may give this accuracy or a higher one on so many images.

    It may if as many right guesses or more have a probability above 0.001 (binomial, each right with 1/classes). One class is always
    guessed right.
    """
    from scipy.stats import binom

    return bool(binom.sf(round(accuracy * images) - 1, images, 1 / classes) > 1e-3)


def global_forgetting(rows: Rows) -> float | None:
    """Mean over old tasks j of max_{1 ≤ i ≤ T} R[i][j] − R[T][j], of the global R after T tasks; None for fewer than two tasks.

    The maximum ranges over rows before task j too, for each row scores every task (equation 34).
    """
    last = len(rows) - 1
    if last < 2:
        return None
    return sum(max(row[j] for row in rows[1:]) - rows[last][j] for j in range(last - 1)) / (last - 1)


def global_backward_transfer(rows: Rows) -> float | None:
    """Computes BWT of the global R after T tasks: the mean over old tasks j of R[T][j] minus R after task j.

    None for fewer than two tasks.
    """
    last = len(rows) - 1
    if last < 2:
        return None
    return sum(rows[last][j] - rows[j + 1][j] for j in range(last - 1)) / (last - 1)


def global_forward_transfer(rows: Rows) -> float | None:
    """Computes FWT: the mean, over the tasks j > 0 learnt so far, of the global R just before task j. None for fewer than two tasks."""
    last = len(rows) - 1
    if last < 2:
        return None
    return sum(rows[j][j] for j in range(1, last)) / (last - 1)


def share_interval(share: float, images: int) -> tuple[float, float]:
    """Computes the 95 % interval of a share of right images (Wilson 1927): how far other images of the same kind may lead.

    Args:
        share: Share of the images that are right.
        images: Number of images, at least 1.
    """
    from scipy.stats import binomtest

    found = binomtest(round(share * images), images).proportion_ci(0.95, "wilson")
    return float(found.low), float(found.high)


def stream_transfer(rows: Rows) -> float | None:
    """Computes Transfer of a stream of data sets, as MTIL defines it (Zheng et al., arXiv 2303.06628). None for fewer than two tasks.

    It is the mean over tasks i ≥ 2 of the mean accuracy on task i after tasks 1 to i − 1: what the model can do before it learns a task.

    Args:
        rows: accuracy on every task in one setting of evaluation; row i comes after i tasks. Row 0, before the first task, is not read.
    """
    done = len(rows) - 1
    if done < 2:
        return None
    columns = [[rows[after][task] for after in range(1, task + 1)] for task in range(1, done)]
    return sum(sum(column) / len(column) for column in columns) / len(columns)


def stream_average(rows: Rows) -> float | None:
    """Computes Avg of a stream: the mean accuracy over all tasks after each task; see `stream_transfer`. None before the first task."""
    learnt = rows[1:]
    return sum(sum(row) / len(row) for row in learnt) / len(learnt) if learnt else None


def stream_last(rows: Rows) -> float | None:
    """Computes Last of a stream: the mean accuracy over all tasks after the last one; see `stream_transfer`. None before the first task."""
    return sum(rows[-1]) / len(rows[-1]) if len(rows) > 1 else None
