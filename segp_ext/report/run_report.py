"""What a run leaves for people: the table on the screen, summary.md, report.html, the plots, and result.json."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segp_ext.report.metrics import within_chance
from segp_ext.report.page import Page
from segp_ext.report.result import PathResult, RunResult
from segp_ext.storage.sealed import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRICS = {"avg": "Avg", "last": "Last", "forgetting": "Forgetting", "bwt": "BWT", "fwt": "FWT"}
GLOBAL_METRICS = {"global_fwt": "global FWT", "global_bwt": "global BWT", "global_forgetting": "global Forgetting"}
CAPTIONS = {
    "accuracy.png": "Accuracy after each task",
    "global.png": "Accuracy of the text path over all tasks' test images and all class names, before the first task and after each",
    "r_matrix.png": "Accuracy on each task's test images after each task",
    "forgetting.png": "Forgetting after each task",
    "retention.png": "Zero-shot accuracy on data sets that are never trained on",
    "drift.png": "Old classes' prototypes against where their test images now are",
}
"""What a run's plots show, by file name."""
LEGEND = (
    "Over seen classes. A1..An: accuracy over all classes seen after that task. Avg: their mean. Last: the final one. Forgetting: mean "
    "drop of old tasks from their best. BWT: mean change of old tasks since they were learnt. FWT: zero-shot accuracy on the next task "
    "before it is learnt, over that task's classes (text path only; tasks of one class, always right, are left out). All in percent."
)
GLOBAL_LEGEND = (
    "Global, text path: all tasks' test images, future ones too, against all class names (the paper's Table II). G0..Gn: accuracy over all "
    "these images, before the first task (G0) and after each. Global FWT: mean accuracy on a task just before it is learnt. Global BWT: "
    "mean change of old tasks since they were learnt. Global Forgetting: mean drop of old tasks from their best after any task. G0 enters "
    "none of the three."
)
"""What the two tables show, and which metrics are over seen classes and which global."""


def percent(value: float | None) -> str:
    """A fraction as percent with one decimal, or a dash."""
    return "–" if value is None else f"{100 * value:.1f}"


def rows(result: RunResult) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the result table."""
    done = max((len(row.scores.pooled) for row in result.scores), default=0)
    header = ["", *(f"A{i + 1}" for i in range(done)), *METRICS.values()]
    cells = []
    for row in result.scores:
        pooled, found = row.scores.pooled, row.scores.metrics() if row.scores.pooled else {}
        shown = [percent(a) for a in pooled] + ["–"] * (done - len(pooled))
        cells.append([row.name, *shown, *(percent(found.get(key)) for key in METRICS)])
    return header, cells


def global_rows(result: RunResult) -> tuple[list[str], list[list[str]]]:
    """Header and cells of the table of global metrics; no cells where none were measured."""
    measured = [row for row in result.scores if row.scores.global_pooled]
    length = max((len(row.scores.global_pooled) for row in measured), default=0)
    header = ["global, text path", *(f"G{i}" for i in range(length)), *GLOBAL_METRICS.values()]
    cells = []
    for row in measured:
        pooled, found = row.scores.global_pooled, row.scores.global_metrics()
        shown = [percent(a) for a in pooled] + ["–"] * (length - len(pooled))
        cells.append([row.name, *shown, *(percent(found[key]) for key in GLOBAL_METRICS)])
    return header, cells


def aligned(header: list[str], cells: list[list[str]], left: int = 1) -> str:
    """A table as aligned text; its first `left` columns are aligned to the left."""
    widths = [max(len(row[i]) for row in [header, *cells]) for i in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in [header, *cells]
    ]
    return "\n".join([lines[0], "─" * len(lines[0]), *lines[1:]])


def tables(result: RunResult) -> list[str]:
    """The result tables as aligned text, each followed by its legend."""
    parts = [aligned(*rows(result)), LEGEND]
    header, cells = global_rows(result)
    return [*parts, aligned(header, cells), GLOBAL_LEGEND] if cells else parts


def retention(result: RunResult) -> list[str]:
    """A line per held-out data set: its zero-shot accuracy before the first task and after each; and one for each that is chance."""
    lines = [
        f"Zero-shot accuracy on {name} (never trained on), in percent: {percent(accuracies[0])} before the first task, "
        f"{', '.join(map(percent, accuracies[1:])) or 'none yet'} after each"
        for name, accuracies in result.retention.items()
    ]
    return [*lines, *chance(result)]


def is_chance(result: RunResult, name: str) -> bool:
    """Whether the accuracy on a held-out data set before the first task is within noise of guessing (`metrics.within_chance`)."""
    facts = result.protocol["held_out"][name]
    return within_chance(result.retention[name][0], facts["images"], facts["classes"])


def chance(result: RunResult) -> list[str]:
    """A line per held-out data set that the untouched model cannot tell apart, so that its accuracies say nothing of retention."""
    lines = []
    for name, accuracies in result.retention.items():
        classes = result.protocol["held_out"][name]["classes"]
        if is_chance(result, name):
            lines.append(
                f"note: {percent(accuracies[0])} % on {name} before the first task is within noise of guessing among its {classes} "
                f"class{'es' if classes > 1 else ''} ({percent(1 / classes)} %): there is no zero-shot accuracy that could be kept"
            )
    return lines


def page(result: RunResult) -> Page:
    """The run on one page."""
    header, cells = rows(result)
    made = Page(result.name)
    made.text(f"Status: {result.status}. {result.message}")
    if cells:
        made.table(header, cells)
        made.text(LEGEND)
    header, cells = global_rows(result)
    if cells:
        made.table(header, cells)
        made.text(GLOBAL_LEGEND)
    for line in retention(result):
        made.text(line)
    made.text(f"Protocol `{result.protocol['id']}`:")
    made.items([f"{key}: {_plain(value)}" for key, value in result.protocol.items() if key not in ("id", "tasks")])
    made.text("Tasks:")
    tasks = []
    for index, names in enumerate(result.protocol["tasks"]):
        learnt = result.tasks[index] if index < len(result.tasks) else None
        spent = (
            "not learnt"
            if learnt is None
            else f"{learnt.images} images, {learnt.anchors} anchors, {sum(phase.wall for phase in learnt.phases.values()):.1f} s"
        )
        tasks.append(f"{', '.join(names)} ({spent})")
    made.items(tasks, numbered=True)
    made.text(phases(result))
    for line in passes(result):
        made.text(line)
    for name in result.plots:
        made.picture(f"plots/{name}", CAPTIONS[name])
    return made


def _plain(value: Any) -> str:
    """A value for people: nested ones by their entries, none and nothing as a dash."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "–"
    return "–" if value is None else str(value)


def phases(result: RunResult) -> str:
    """Time by phase, and how many times what the backbone's own passes took in it: the floor, which is 1."""
    parts = []
    for name, phase in result.phases.items():
        ratio = f" ({phase.wall / phase.backbone:.2f}×)" if phase.backbone else ""
        parts.append(f"{name} {phase.wall:.1f} s{ratio}")
    return f"Time by phase (× what the backbone's own passes took): {', '.join(parts)}"


def passes(result: RunResult) -> list[str]:
    """A line about how many passes of the encoders ran compiled, where they were to be."""
    counts = result.passes
    if not counts:
        return []
    line = f"Compiled: {counts['total'] - counts['eager']:,} of the encoders' {counts['total']:,} passes"
    if counts["eager"]:
        line += f"; torch could not compile the other {counts['eager']:,}, which ran eager (TORCH_LOGS=recompiles,graph_breaks says why)"
    return [line]


def write(directory: Path, result: RunResult) -> None:
    """Writes result.json, summary.md and report.html, which needs no other file, each whole or not at all."""
    write_atomically(directory / "result.json", result.to_json())
    shown = page(result)
    write_atomically(directory / "summary.md", shown.markdown().encode())
    write_atomically(directory / "report.html", shown.html(directory).encode())


@contextmanager
def drawing() -> Iterator[None]:
    """Inside, or in a function so decorated, plots are drawn with every text as it is: a $ in a folder's name begins no formula.

    A notebook tells the processes that it starts which backend to show plots with (MPLBACKEND); where that is not installed, matplotlib
    cannot be imported. Nothing is shown here, so such a backend is skipped.
    """
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = backend  # as matplotlib does itself
    with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}):
        yield


@drawing()
def plot(directory: Path, result: RunResult) -> list[str]:
    """Draws the run's plots into `directory`/plots and returns their file names."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scores = {row.name: row.scores for row in result.scores if row.scores.pooled}
    figures: dict[str, Figure] = {}
    if scores:
        figures["accuracy.png"] = _accuracy(Figure(figsize=(7, 4.5), layout="constrained"), scores)
        figures["r_matrix.png"] = _r_matrix(Figure(figsize=(3.6 * len(scores), 4.2), layout="constrained"), scores)
    measured = {name: s.global_pooled for name, s in scores.items() if s.global_pooled}
    if measured:
        figures["global.png"] = _from_the_start(
            Figure(figsize=(7, 4.5), layout="constrained"),
            measured,
            "accuracy over all tasks' test images (%)",
            "Text path, all class names, future tasks included",
        )
    if scores and max(len(s.pooled) for s in scores.values()) > 1:
        figures["forgetting.png"] = _forgetting(Figure(figsize=(7, 4.5), layout="constrained"), scores)
    if any(len(accuracies) > 1 for accuracies in result.retention.values()):
        figures["retention.png"] = _from_the_start(
            Figure(figsize=(7, 4.5), layout="constrained"),
            result.retention,
            "zero-shot accuracy over its own classes (%)",
            "Data sets that are never trained on",
        )
    if result.prototype_distance:
        figures["drift.png"] = _drift(Figure(figsize=(7, 4.5), layout="constrained"), result.prototype_distance)
    folder = directory / "plots"
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        FigureCanvasAgg(figure).print_figure(folder / name, dpi=130)
    return list(figures)


def _task_axis(axes: Axes, first: int, last: int) -> None:
    axes.set_xticks(range(first, last + 1))
    axes.set_xlabel("tasks learnt")
    axes.grid(alpha=0.3)


def _accuracy(figure: Figure, scores: dict[str, PathResult]) -> Figure:
    axes = figure.subplots()
    for name, s in scores.items():
        axes.plot(range(1, len(s.pooled) + 1), [100 * a for a in s.pooled], marker="o", label=name)
    _task_axis(axes, 1, max(len(s.pooled) for s in scores.values()))
    axes.set_ylabel("accuracy over all classes seen (%)")
    axes.set_title("Accuracy after each task")
    axes.legend(fontsize="small")
    return figure


def _r_matrix(figure: Figure, scores: dict[str, PathResult]) -> Figure:
    grid = figure.subplots(1, len(scores), squeeze=False)[0]
    image: Any = None
    for axes, (name, s) in zip(grid, scores.items(), strict=True):
        size = len(s.matrix)
        full = [[100 * row[j] if j < len(row) else float("nan") for j in range(size)] for row in s.matrix]
        image = axes.imshow(full, vmin=0, vmax=100, cmap="viridis")
        if size <= 10:
            for i, row in enumerate(s.matrix):
                for j, value in enumerate(row):
                    shade = "white" if value < 0.6 else "black"
                    axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", color=shade, fontsize="x-small")
        axes.set_xticks(range(size), [str(j + 1) for j in range(size)])
        axes.set_yticks(range(size), [str(i + 1) for i in range(size)])
        axes.set_xlabel("tested on task")
        axes.set_title(name, fontsize="medium")
    grid[0].set_ylabel("tasks learnt")
    figure.colorbar(image, ax=list(grid), label="accuracy over classes seen (%)", shrink=0.8)
    return figure


def _forgetting(figure: Figure, scores: dict[str, PathResult]) -> Figure:
    from segp_ext.report.metrics import forgetting

    axes = figure.subplots()
    longest = 0
    for name, s in scores.items():
        tasks = range(2, len(s.matrix) + 1)
        longest = max(longest, len(s.matrix))
        axes.plot(tasks, [100 * (forgetting(s.matrix[:t]) or 0.0) for t in tasks], marker="o", label=name)
    _task_axis(axes, 2, longest)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_ylabel("mean drop of old tasks from their best (points)")
    axes.set_title("Forgetting after each task")
    axes.legend(fontsize="small")
    return figure


def _from_the_start(figure: Figure, curves: dict[str, list[float]], label: str, title: str) -> Figure:
    """Accuracies before the first task and after each."""
    axes = figure.subplots()
    for name, accuracies in curves.items():
        axes.plot(range(len(accuracies)), [100 * a for a in accuracies], marker="o", label=name)
    _task_axis(axes, 0, max(map(len, curves.values())) - 1)
    axes.set_ylabel(label)
    axes.set_title(title)
    axes.legend(fontsize="small")
    return figure


def _drift(figure: Figure, distances: list[list[float]]) -> Figure:
    axes = figure.subplots()
    tasks = range(2, len(distances) + 2)
    for index, label in enumerate(("before transfer", "after transfer")):
        axes.plot(tasks, [pair[index] for pair in distances], marker="o", label=label)
    _task_axis(axes, 2, len(distances) + 1)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("1 − cos(prototype, mean feature of the class)")
    axes.set_title("Old classes' prototypes against where their test images now are")
    axes.legend(fontsize="small")
    return figure
