"""What runs of several methods and seeds say together: tables, paired differences, plots, one page."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segp_ext.config import PATHS, ScorePath
from segp_ext.report.metrics import forgetting
from segp_ext.report.page import Page
from segp_ext.report.result import RunResult
from segp_ext.report.run_report import GLOBAL_METRICS, METRICS, aligned, drawing, is_chance
from segp_ext.runtime.timing import Phase

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MATRICES_ABREAST = 5
"""Heat maps beside each other in a row of the plot."""
_LABEL = 44
"""Characters of a row's name in plots; tables have all of it."""
_GLOBAL = {"global_last": "global Last", **GLOBAL_METRICS}
"""Metrics of the table of global ones, by their keys in `Score.values`."""
_RAW = ("A", "R", "next_task", "global_A", "global_R")
"""The raw numbers among `Score.values`."""
LEGEND = (
    "Over seen classes: Avg, Last, Forgetting, BWT and FWT (zero-shot on the next task, over its classes; text path only; tasks of one "
    "class, always right, are left out)."
)
GLOBAL_LEGEND = (
    "Global, text path: all tasks' test images, future ones too, against all class names (the paper's Table II). Global Last: accuracy "
    "over all these images after the last task, the same as Last over seen classes. Global FWT: mean accuracy on a task just before it is "
    "learnt. Global BWT and Forgetting: mean change of old tasks since they were learnt, and mean drop from their best."
)
RETENTION_LEGEND = (
    "Zero-shot accuracy of the text path on data sets that are never trained on, over their own classes. (chance): within noise of "
    "guessing, so that there is nothing to be kept."
)
COST_LEGEND = (
    "Cost. trained: parameters that the optimiser changes. ms/step: time of training over optimiser steps, mean over tasks and seeds, "
    "tasks that were gone on with left out. seconds: a whole run; those of a method leave out those of the zero-shot and frozen rows, "
    "which share theirs."
)


@dataclass(frozen=True)
class Score:
    """One path of one run.

    Attributes:
        row: the method with its changes, or a baseline that every run measures beside its method.
        path: text, visual or dual.
        seed: of the run.
        values: the run's numbers on this path, as `segp_ext.report.result.PathResult.to_dict` gives them, and "global_last".
        run: the whole result that they come from.
        baseline: whether the run measured this beside its method.
    """

    row: str
    path: str
    seed: int
    values: dict[str, Any]
    run: RunResult
    baseline: bool = False

    @property
    def seconds(self) -> float:
        """What it took: of a method without the baselines, which share theirs."""
        return sum(p.wall for phase, p in self.run.phases.items() if (phase == "baselines") == self.baseline)

    @property
    def trained(self) -> int | None:
        """How many parameters it trained; None of a frozen model, and where the run did not note them."""
        return None if self.baseline else self.run.trained_parameters or None

    @property
    def ms_per_step(self) -> float | None:
        """Milliseconds of training per optimiser step, mean over tasks; None of a frozen model."""
        # A task that was gone on with has all of its steps, but the time of the last ones alone.
        resumed = {stop.after for stop in self.run.resumed}
        spent = [
            1000 * task.phases["training"].wall / task.steps
            for number, task in enumerate(self.run.tasks)
            if task.steps and number not in resumed
        ]
        return statistics.fmean(spent) if spent and not self.baseline else None


@dataclass(frozen=True)
class Difference:
    """Mean of paired differences, and half the width of its 95 % confidence interval (Student's t); infinite for one pair."""

    mean: float
    half: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Difference:
        """From the differences of all pairs."""
        from scipy.stats import t

        count = len(values)
        half = float(t.ppf(0.975, count - 1)) * statistics.stdev(values) / math.sqrt(count) if count > 1 else math.inf
        return cls(statistics.fmean(values), half)

    def __str__(self) -> str:
        mean = f"{100 * self.mean:+.1f}"
        return (
            mean
            if math.isinf(self.half)
            else f"{mean} ({100 * (self.mean - self.half):+.1f} to {100 * (self.mean + self.half):+.1f})"
        )


def spread(values: Sequence[float | None]) -> str:
    """Mean ± sample standard deviation of fractions, in percent; a dash where a value is missing."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "–"
    mean = f"{100 * statistics.fmean(known):.1f}"
    return mean if len(known) == 1 else f"{mean} ± {100 * statistics.stdev(known):.1f}"


class Comparison:
    """Finished runs, by row and seed.

    Args:
        results: by (row, seed), in the order of the table.
        command: how they were made, for the page.
        reference: the row that others are compared with; none of its runs need be there. None takes the first.
    """

    def __init__(self, results: dict[tuple[str, int], RunResult], command: str, reference: str | None = None) -> None:
        self.command, self.results = command, results
        self.rows = list(dict.fromkeys(row for row, _ in results))
        self.reference = self.rows[0] if reference is None else reference
        self.scores: list[Score] = []
        measured: dict[int, str] = {}  # the row whose runs the baselines of a seed are taken from
        for row, seed in sorted(results, key=lambda of: of[0] != self.reference):
            measured.setdefault(seed, row)
        for (row, seed), result in results.items():
            for found in result.scores:
                # Metrics from the raw numbers: a run of an earlier version may have defined one otherwise.
                values = {**found.scores.to_dict(), "global_last": next(reversed(found.scores.global_pooled), None)}
                if not found.is_baseline:
                    self.scores.append(Score(row, found.path, seed, values, result))
                elif row == measured[seed] and found.method not in self.rows:  # a row of its name says the same
                    self.scores.append(Score(found.method, found.path, seed, values, result, baseline=True))
        self.groups: dict[tuple[str, str], list[Score]] = {}
        for score in sorted(self.scores, key=lambda s: not s.baseline):
            self.groups.setdefault((score.row, score.path), []).append(score)
        self.chance: set[tuple[str, str]] = (
            set()
        )  # of the rows and data sets below, those of no use: see `report.is_chance`
        self.retention = self._retention_by_name()

    def _retention_by_name(self) -> dict[tuple[str, str], dict[int, list[float]]]:
        """Zero-shot accuracies by (row, data set) and seed. Data sets are told apart by their place in the list, as a seed may be part of
        where they are; a row that has others than the first run of its seed is left out."""
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

    def difference(self, row: str, path: str, metric: str) -> Difference | None:
        """Of a row from the reference on the same path, over the seeds that both have; None where there is nothing to compare."""
        first = {s.seed: s.values.get(metric) for s in self.groups.get((self.reference, path), [])}
        pairs = [(s.values.get(metric), first.get(s.seed)) for s in self.groups[row, path]]
        values = [a - b for a, b in pairs if a is not None and b is not None]
        return Difference.of(values) if values and row != self.reference else None

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: metrics over seen classes, one row per method and path."""
        compared = ("avg", "last", "forgetting")
        header = ["method", "path", "seeds", *METRICS.values()]
        header += [f"{METRICS[metric]} − {self.reference}'s" for metric in compared]
        rows = []
        for (row, path), members in self.groups.items():
            apart = (self.difference(row, path, metric) for metric in compared)
            rows.append(
                [
                    row,
                    path,
                    str(len(members)),
                    *(spread([s.values.get(metric) for s in members]) for metric in METRICS),
                    *("–" if d is None else str(d) for d in apart),
                ]
            )
        return header, rows

    def global_table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: global metrics of the text path, one row per method; no rows where none were measured."""
        rows = []
        for (row, path), members in self.groups.items():
            if any(s.values["global_last"] is not None for s in members):
                apart = self.difference(row, path, "global_last")
                numbers = [spread([s.values.get(metric) for s in members]) for metric in _GLOBAL]
                rows.append([row, str(len(members)), *numbers, "–" if apart is None else str(apart)])
        return ["method", "seeds", *_GLOBAL.values(), f"global Last − {self.reference}'s"], rows

    def cost_table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: trained parameters, milliseconds a step and seconds a run, one row per method."""
        by_row = {row: members for (row, _), members in self.groups.items()}  # all paths of a run cost the same
        rows = []
        for row, members in by_row.items():
            trained = {s.trained for s in members}
            steps = [s.ms_per_step for s in members if s.ms_per_step is not None]
            rows.append(
                [
                    row,
                    " or ".join(_count(number) for number in sorted(trained, key=lambda number: number or 0)),
                    f"{statistics.fmean(steps):.0f}" if steps else "–",
                    f"{statistics.fmean(s.seconds for s in members):.0f}",
                ]
            )
        return ["method", "trained", "ms/step", "seconds"], rows

    def tables(self) -> list[tuple[str, tuple[list[str], list[list[str]]]]]:
        """The tables in order, each behind a sentence that says which numbers it holds; those without rows are left out."""
        found = [
            (LEGEND, self.table()),
            (GLOBAL_LEGEND, self.global_table()),
            (RETENTION_LEGEND, self.retention_table()),
            (COST_LEGEND, self.cost_table()),
        ]
        return [(legend, table) for legend, table in found if table[1]]

    def csv(self) -> str:
        """One line per row, seed and path."""
        out = io.StringIO()
        names = [
            "row",
            "path",
            "seed",
            *METRICS,
            *_GLOBAL,
            "seconds",
            "trained_parameters",
            "ms_per_step",
            "protocol",
            "device",
            "threads",
            "torch",
            "segp_ext",
            "started",
        ]
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(names)
        for s in self.scores:
            versions = s.run.versions
            numbers = ["" if s.values.get(m) is None else f"{s.values[m]:.6f}" for m in (*METRICS, *_GLOBAL)]
            cost = [f"{s.seconds:.1f}", s.trained or "", "" if s.ms_per_step is None else f"{s.ms_per_step:.3f}"]
            run = s.run
            where = [
                run.protocol["id"],
                run.device,
                run.threads,
                versions["torch"],
                versions["segp_ext"],
                run.started,
            ]
            writer.writerow([s.row, s.path, s.seed, *numbers, *cost, *where])
        return out.getvalue()

    def matrices(self) -> str:
        """The accuracies that all metrics come from, one line of JSON per row, seed and path: A, R, next_task, global_A and global_R as
        `segp_ext.report.result.PathResult` names them, as fractions."""
        found = []
        for s in self.scores:
            raw = {key: _rounded(s.values[key]) for key in _RAW if s.values.get(key)}
            found.append(json.dumps({"row": s.row, "path": s.path, "seed": s.seed, **raw}))
        return "\n".join(found) + "\n"

    def retention_table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: zero-shot accuracy on data sets that are never trained on, one row per method and data set."""
        rows = []
        for (row, name), curves in self.retention.items():
            first = self.retention.get((self.reference, name), {})
            apart = [curve[-1] - first[seed][-1] for seed, curve in curves.items() if seed in first]
            less = "–" if row == self.reference or not apart else str(Difference.of(apart))
            before, after = (spread([curve[end] for curve in curves.values()]) for end in (0, -1))
            rows.append([row, name, f"{before} (chance)" if (row, name) in self.chance else before, after, less])
        return ["method", "data set", "before", "after the last task", f"− {self.reference}'s"], rows

    def retention_csv(self) -> str:
        """One line per row, data set, seed and number of tasks learnt."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["row", "data_set", "seed", "tasks", "accuracy"])
        for (row, name), curves in self.retention.items():
            for seed, curve in curves.items():
                writer.writerows([row, name, seed, tasks, f"{value:.6f}"] for tasks, value in enumerate(curve))
        return out.getvalue()

    def page(self, pictures: dict[str, str]) -> Page:
        """The table and the plots, by file name with their captions, on one page."""
        seeds = sorted({seed for _, seed in self.results})
        count = f"{len(self.rows)} methods" if len(self.rows) > 1 else self.rows[0]
        made = Page(f"{count}, seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}")
        made.text(f"`{self.command}`")
        made.text(
            f"Percent, mean ± standard deviation over seeds. Differences are paired by seed, from {self.reference} on the same path, with "
            "their 95 % confidence interval (Student's t)."
        )
        for legend, table in self.tables():
            made.text(legend)
            made.table(*table)
        for name, caption in pictures.items():
            made.picture(f"plots/{name}", caption)
        identities = dict.fromkeys(result.protocol["id"] for result in self.results.values())
        made.text("Protocols: " + ", ".join(f"`{identity}`" for identity in identities))
        versions = dict.fromkeys(
            (name, r.versions[name]) for r in self.results.values() for name in ("segp_ext", "torch")
        )
        made.text("Made with " + ", ".join(f"{name} {version}" for name, version in sorted(versions)))
        return made

    @drawing()
    def plot(self, folder: Path) -> dict[str, str]:
        """Draws the plots into `folder`; returns their captions by file name."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        folder.mkdir(parents=True, exist_ok=True)
        drawn: dict[str, tuple[Figure, str]] = {}

        def empty(width: float, height: float) -> Figure:
            return Figure(figsize=(width, height), layout="constrained")

        drawn["accuracy.png"] = (
            self._curves(empty(13, 4.5), lambda s: s.values["A"], "accuracy over all classes seen (%)", 1),
            "Accuracy after each task, mean and standard deviation over seeds",
        )
        if max(len(s.values["A"]) for s in self.scores) > 1:
            drawn["forgetting.png"] = (
                self._curves(empty(13, 4.5), _forgetting_curve, "mean drop of old tasks (points)", 2),
                "Forgetting after each task",
            )
        if any(s.values["global_last"] is not None for s in self.scores):
            drawn["global.png"] = (
                self._curves(empty(9, 4.5), _global_curve, "accuracy over all tasks' test images (%)", 0, ("text",)),
                "Global accuracy of the text path, all tasks' test images against all class names, before the first task and after each",
            )
        columns = min(len(self.rows), _MATRICES_ABREAST)
        drawn["r_matrix.png"] = (
            self._matrices(empty(3.2 * columns + 1, 3.4 * -(-len(self.rows) // columns)), columns),
            "Accuracy on each task's test images after each task, on the path by which the method predicts, mean over seeds",
        )
        drawn["time.png"] = (
            self._time(empty(9, 0.4 * len(self.rows) + 2)),
            "Time by phase",
        )
        if self.retention:
            sets = len({name for _, name in self.retention})
            drawn["retention.png"] = (
                self._retention(empty(4 * sets + 3, 4.5), sets),
                "Zero-shot accuracy on data sets that are never trained on",
            )
        for name, (figure, _) in drawn.items():
            FigureCanvasAgg(figure).print_figure(folder / name, dpi=110)
        return {name: caption for name, (_, caption) in drawn.items()}

    def _curves(self, figure: Figure, read: Any, label: str, first: int, paths: Sequence[ScorePath] = PATHS) -> Figure:
        from matplotlib.ticker import MaxNLocator

        panels = figure.subplots(1, len(paths), sharey=True, squeeze=False)[0]
        for axes, path in zip(panels, paths, strict=True):
            for (row, of), members in self.groups.items():
                if of != path:
                    continue
                curves = [read(s) for s in members]
                length = min(map(len, curves))
                if length == 0:
                    continue
                tasks = range(first, first + length)
                means = [100 * statistics.fmean(c[i] for c in curves) for i in range(length)]
                axes.plot(tasks, means, marker="o", markersize=3, label=self._label(row), **self._style(row))
                if len(curves) > 1:
                    apart = [100 * statistics.stdev([c[i] for c in curves]) for i in range(length)]
                    low, high = ([m + sign * a for m, a in zip(means, apart, strict=True)] for sign in (-1, 1))
                    axes.fill_between(tasks, low, high, color=self._style(row)["color"], alpha=0.1, linewidth=0)
            axes.set_title(f"{path} path")
            axes.set_xlabel("tasks learnt")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.3)
        panels[0].set_ylabel(label)
        shown = {name: line for axes in panels for line, name in zip(*axes.get_legend_handles_labels(), strict=True)}
        figure.legend(shown.values(), shown.keys(), loc="outside right upper", fontsize="x-small")
        return figure

    def _style(self, row: str) -> dict[str, Any]:
        """A row's own line, the same in all panels."""
        rows = list(dict.fromkeys(row for row, _ in self.groups))
        return {"color": f"C{rows.index(row) % 10}", "linestyle": ("-", "--", ":", "-.")[rows.index(row) // 10 % 4]}

    def _label(self, row: str) -> str:
        """A row's name as plots have it, cut where that leaves it a name of its own."""
        rows = {row for row, _ in self.groups}
        cut = row if len(row) <= _LABEL else row[: _LABEL - 1] + "…"
        return cut if sum(other[: _LABEL - 1] == row[: _LABEL - 1] for other in rows) == 1 else row

    def _matrices(self, figure: Figure, columns: int) -> Figure:
        grid = figure.subplots(-(-len(self.rows) // columns), columns, squeeze=False)
        image: Any = None
        for axes in grid.flat[len(self.rows) :]:
            axes.set_axis_off()
        for axes, row in zip(grid.flat, self.rows, strict=False):
            path = next(run.settings["inference"]["path"] for (of, _), run in self.results.items() if of == row)
            members = self.groups[row, path]
            size = min(len(s.values["R"]) for s in members)
            mean = [
                [
                    100 * statistics.fmean(s.values["R"][i][j] for s in members) if j <= i else math.nan
                    for j in range(size)
                ]
                for i in range(size)
            ]
            image = axes.imshow(mean, vmin=0, vmax=100, cmap="viridis")
            axes.set_xticks(range(size), [str(j + 1) for j in range(size)])
            axes.set_yticks(range(size), [str(i + 1) for i in range(size)])
            axes.set_xlabel("tested on task")
            axes.set_title(f"{self._label(row)}\n{path}", fontsize="small" if len(row) < 30 else "xx-small")
        for axes in grid[:, 0]:
            axes.set_ylabel("tasks learnt")
        figure.colorbar(image, ax=list(grid.flat), label="accuracy over classes seen (%)", shrink=0.8)
        return figure

    def _time(self, figure: Figure) -> Figure:
        axes = figure.subplots()
        phases = list(dict.fromkeys(phase for result in self.results.values() for phase in result.phases))
        left = [0.0] * len(self.rows)
        for phase in phases:
            spent = []
            for row in self.rows:
                runs = [result for (of, _), result in self.results.items() if of == row]
                spent.append(statistics.fmean(run.phases.get(phase, Phase()).wall for run in runs))
            axes.barh([self._label(row) for row in self.rows], spent, left=left, label=phase)
            left = [a + b for a, b in zip(left, spent, strict=True)]
        axes.invert_yaxis()
        axes.set_xlabel("seconds a run")
        figure.legend(fontsize="x-small", ncols=4, loc="outside upper center")
        return figure

    def _retention(self, figure: Figure, sets: int) -> Figure:
        from matplotlib.ticker import MaxNLocator

        panels = figure.subplots(1, sets, squeeze=False)[0]
        for axes, name in zip(panels, dict.fromkeys(name for _, name in self.retention), strict=True):
            for row in (row for row, of in self.retention if of == name):
                curves = list(self.retention[row, name].values())
                length = min(map(len, curves))
                means = [100 * statistics.fmean(c[i] for c in curves) for i in range(length)]
                axes.plot(range(length), means, marker="o", markersize=3, label=self._label(row), **self._style(row))
            axes.set_title(name)
            axes.set_xlabel("tasks learnt")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.3)
        panels[0].set_ylabel("zero-shot accuracy over its own classes (%)")
        figure.legend(*panels[0].get_legend_handles_labels(), fontsize="x-small", loc="outside right upper")
        return figure


def _rounded(value: Any) -> Any:
    return [_rounded(one) for one in value] if isinstance(value, list) else value if value is None else round(value, 6)


def _forgetting_curve(score: Score) -> list[float]:
    matrix = score.values["R"]
    return [forgetting(matrix[:tasks]) or 0.0 for tasks in range(2, len(matrix) + 1)]


def _global_curve(score: Score) -> list[float]:
    return score.values.get("global_A") or []


def _count(parameters: int | None) -> str:
    """A number of parameters, in thousands or millions."""
    if parameters is None:
        return "–"
    return f"{parameters / 1e6:.2f} M" if parameters >= 1e6 else f"{parameters / 1e3:.1f} k"


def console(comparison: Comparison) -> str:
    """The tables as aligned text, each under the sentence that says which numbers it holds."""
    columns = {LEGEND: 2, RETENTION_LEGEND: 2}  # method and path, method and data set
    return "\n\n".join(
        f"{legend}\n\n{aligned(*table, left=columns.get(legend, 1))}" for legend, table in comparison.tables()
    )
