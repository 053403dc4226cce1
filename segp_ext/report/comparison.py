"""Statistics over runs of several methods and seeds: rows, means, spreads and paired differences."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segp_ext.config import ScorePath
from segp_ext.report.glossary import PATHS
from segp_ext.report.result import RunResult
from segp_ext.report.run_tables import is_chance
from segp_ext.report.stream_tables import stream_key
from segp_ext.report.table import signed

ENOUGH_PAIRS = 3
"""Fewest pairs from which a difference is told. With two pairs the interval reaches 12.7 standard errors to each side."""


@dataclass(frozen=True)
class Score:
    """One path of one run.

    Attributes:
        row: the method with its changes, or a baseline that every run measures beside its method.
        path: text, visual or dual.
        seed: seed of the run.
        values: the run's numbers on this path, as `segp_ext.report.result.PathResult.to_dict` gives them, and "global_last".
        run: the whole result of the run.
        baseline: whether the run measured this row beside its method.
    """

    row: str
    path: ScorePath
    seed: int
    values: dict[str, Any]
    run: RunResult
    baseline: bool = False

    @property
    def seconds(self) -> float:
        """Seconds that the row took. Baselines share their time, and a method's time leaves them out."""
        return sum(p.wall for phase, p in self.run.phases.items() if (phase == "baselines") == self.baseline)

    @property
    def trained(self) -> int | None:
        """Number of trained parameters; None for a frozen model, and if the run did not note it."""
        return None if self.baseline else self.run.trained_parameters or None

    @property
    def ms_per_step(self) -> float | None:
        """Milliseconds of training per optimiser step, mean over tasks; None for a frozen model."""
        # A task that went on after a stop has all of its steps, but only the time of its last steps.
        resumed = {stop.after for stop in self.run.resumed}
        spent = [
            1000 * task.phases["training"].wall / task.steps
            for number, task in enumerate(self.run.tasks)
            if task.steps and number not in resumed
        ]
        return statistics.fmean(spent) if spent and not self.baseline else None


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences with its 95 % confidence interval (Student's t).

    Attributes:
        mean: mean difference, as a fraction.
        half: half the interval's width; infinite for one pair.
        pairs: number of pairs.
    """

    mean: float
    half: float
    pairs: int = 0

    @classmethod
    def of(cls, values: Sequence[float]) -> Difference:
        """Computes the mean and the interval from the differences of all pairs."""
        from scipy.stats import t

        count = len(values)
        half = float(t.ppf(0.975, count - 1)) * statistics.stdev(values) / math.sqrt(count) if count > 1 else math.inf
        return cls(statistics.fmean(values), half, count)

    @property
    def is_clear(self) -> bool:
        """Whether zero lies outside the interval."""
        return abs(self.mean) > self.half

    def interval(self) -> str:
        """Writes the interval in percentage points; empty if it is infinite."""
        if math.isinf(self.half):
            return ""
        return f"{signed(100 * (self.mean - self.half))} to {signed(100 * (self.mean + self.half))}"

    def __str__(self) -> str:
        return signed(100 * self.mean) + (f" ({self.interval()})" if self.interval() else "")


class Comparison:
    """Finished runs by row and seed.

    Args:
        results: results by (row, seed), in the order of the table.
        command: command that made them, for the page.
        reference: row that the others are compared with, even if none of its runs is there. None takes the first row.

    Attributes:
        rows: names of the methods with their changes, in order.
        scores: every path of every run; baselines of a seed once.
        groups: scores by (row, path), baselines first.
        chance: (row, data set) whose accuracy is within guessing before the first task.
        retention: zero-shot accuracies of held-out data sets, by (row, data set) and seed.
    """

    def __init__(self, results: dict[tuple[str, int], RunResult], command: str, reference: str | None = None) -> None:
        self.command, self.results = command, results
        self.rows = list(dict.fromkeys(row for row, _ in results))
        self.reference = self.rows[0] if reference is None else reference
        self.scores: list[Score] = []
        measured: dict[int, str] = {}  # by seed: the row whose runs give the baselines
        for row, seed in sorted(results, key=lambda of: of[0] != self.reference):
            measured.setdefault(seed, row)
        for (row, seed), result in results.items():
            for found in result.scores:
                # Metrics come from the raw numbers, as an earlier version may have defined one otherwise.
                values = {**found.scores.to_dict(), "global_last": next(reversed(found.scores.global_pooled), None)}
                for setting in found.scores.whole:
                    metrics = found.scores.stream_metrics(setting)
                    values |= {stream_key(setting, metric): value for metric, value in metrics.items()}
                if not found.is_baseline:
                    self.scores.append(Score(row, found.path, seed, values, result))
                elif row == measured[seed] and found.method not in self.rows:  # a row of this name says the same
                    self.scores.append(Score(found.method, found.path, seed, values, result, baseline=True))
        self.groups: dict[tuple[str, ScorePath], list[Score]] = {}
        for score in sorted(self.scores, key=lambda s: not s.baseline):
            self.groups.setdefault((score.row, score.path), []).append(score)
        self.chance: set[tuple[str, str]] = set()
        self.retention = self._retention_by_name()

    @property
    def seeds(self) -> list[int]:
        """Seeds of all runs, in order."""
        return sorted({seed for _, seed in self.results})

    @property
    def all_rows(self) -> list[str]:
        """Names of all rows: methods in order, then baselines."""
        return [*self.rows, *dict.fromkeys(row for row, _ in self.groups if row not in self.rows)]

    @property
    def paths(self) -> list[ScorePath]:
        """The paths that any row has, in the order of the glossary."""
        return [path for path in PATHS if any(of == path for _, of in self.groups)]

    def path_of(self, row: str) -> ScorePath | None:
        """Gives the path by which a row predicts: a method's setting, or a baseline's only path; None for an unknown row."""
        for (of, _), result in self.results.items():
            if of == row:
                path: ScorePath = result.settings["inference"]["path"]
                return path
        return next((path for of, path in self.groups if of == row), None)

    def predictions(self, row: str) -> list[Score]:
        """Gives a row's scores on the path by which it predicts, one per seed."""
        path = self.path_of(row)
        return [] if path is None else self.groups.get((row, path), [])

    def difference(self, row: str, path: ScorePath, metric: str) -> Difference | None:
        """Compares a row with the reference on the same path, over the seeds that both have; None if there are none."""
        return self._paired(row, self.groups[row, path], self.groups.get((self.reference, path), []), metric)

    def predicted_difference(self, row: str, metric: str) -> Difference | None:
        """Compares a row with the reference, each on the path by which it predicts; None if they share no seed."""
        return self._paired(row, self.predictions(row), self.predictions(self.reference), metric)

    def _paired(self, row: str, own: list[Score], others: list[Score], metric: str) -> Difference | None:
        """Computes the differences of a metric, seed by seed."""
        first = {s.seed: s.values.get(metric) for s in others}
        pairs = [(s.values.get(metric), first.get(s.seed)) for s in own]
        values = [a - b for a, b in pairs if a is not None and b is not None]
        return Difference.of(values) if values and row != self.reference else None

    def _retention_by_name(self) -> dict[tuple[str, str], dict[int, list[float]]]:
        """Collects zero-shot accuracies by (row, data set) and seed.

        Data sets are told apart by their place in the list, as a seed may be part of a folder's name. A row is left out if its
        data sets differ from the data sets of its seed's first run.
        """
        of_seed: dict[int, list[str]] = {}
        for (_, seed), result in self.results.items():
            of_seed.setdefault(seed, [*result.retention])
        paths = next(iter(of_seed.values()), [])
        short = [Path(path).name for path in paths]
        names = short if len({*short}) == len(short) else paths
        found: dict[tuple[str, str], dict[int, list[float]]] = {}
        for (row, seed), result in self.results.items():
            if [*result.retention] == of_seed[seed] and len(of_seed[seed]) == len(names):
                for name, (whole, curve) in zip(names, result.retention.items(), strict=True):
                    found.setdefault((row, name), {})[seed] = curve
                    if is_chance(result, whole):
                        self.chance.add((row, name))
        return found


def mean_curve(curves: Sequence[Sequence[float]]) -> tuple[list[float], list[float] | None]:
    """Computes mean and sample standard deviation at each place that all curves have; no deviation for one curve."""
    length = min(map(len, curves), default=0)
    means = [statistics.fmean(curve[i] for curve in curves) for i in range(length)]
    if len(curves) < 2:
        return means, None
    return means, [statistics.stdev([curve[i] for curve in curves]) for i in range(length)]


def mean_matrix(scores: Sequence[Score]) -> list[list[float]]:
    """Computes the mean R of scores, a lower triangle of the tasks that all of them have."""
    size = min(len(s.values["R"]) for s in scores)
    return [[statistics.fmean(s.values["R"][i][j] for s in scores) for j in range(i + 1)] for i in range(size)]
