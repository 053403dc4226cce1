"""Plots of one run as PNG files in plots/."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from segp_ext.report.drawing import drawing
from segp_ext.report.metrics import forgetting_curve
from segp_ext.report.result import PathResult, RunResult
from segp_ext.report.stream_tables import shown_settings, task_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@drawing()
def plot(directory: Path, result: RunResult) -> list[str]:
    """Draws the run's plots into `directory`/plots; returns their file names."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scores = {row.name: row.scores for row in result.scores if row.scores.pooled}
    figures: dict[str, Figure] = {}
    if scores:
        figures["accuracy.png"] = _accuracy(Figure(figsize=(7, 4.5), layout="constrained"), scores)
        figures["r_matrix.png"] = _r_matrix(Figure(figsize=(3.6 * len(scores), 4.2), layout="constrained"), scores)
    for setting in shown_settings(result):
        whole = {name: s.whole[setting] for name, s in scores.items() if len(s.whole.get(setting, ())) > 1}
        size = (1.5 + (0.6 * len(result.protocol["tasks"]) + 1.2) * len(whole), 4.6)
        figures[f"{setting}.png"] = _whole(
            Figure(figsize=size, layout="constrained"), whole, task_names(result), setting
        )
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
    """Marks every number of tasks on the horizontal axis."""
    axes.set_xticks(range(first, last + 1))
    axes.set_xlabel("tasks learnt")
    axes.grid(alpha=0.3)


def _accuracy(figure: Figure, scores: dict[str, PathResult]) -> Figure:
    """Draws the accuracy over all classes seen."""
    axes = figure.subplots()
    for name, s in scores.items():
        axes.plot(range(1, len(s.pooled) + 1), [100 * a for a in s.pooled], marker="o", label=name)
    _task_axis(axes, 1, max(len(s.pooled) for s in scores.values()))
    axes.set_ylabel("accuracy over all classes seen (%)")
    axes.set_title("Accuracy after each task")
    axes.legend(fontsize="small")
    return figure


def _r_matrix(figure: Figure, scores: dict[str, PathResult]) -> Figure:
    """Draws R of each row as a heat map."""
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


def _whole(figure: Figure, matrices: dict[str, list[list[float]]], tasks: list[str], setting: str) -> Figure:
    """Draws the accuracies of each row on all tasks as a heat map, before the first task and after each."""
    grid = figure.subplots(1, len(matrices), squeeze=False)[0]
    image: Any = None
    for axes, (name, matrix) in zip(grid, matrices.items(), strict=True):
        image = axes.imshow([[100 * value for value in row] for row in matrix], vmin=0, vmax=100, cmap="viridis")
        if len(tasks) <= 12:
            for i, row in enumerate(matrix):
                for j, value in enumerate(row):
                    shade = "white" if value < 0.6 else "black"
                    axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", color=shade, fontsize="x-small")
        axes.set_xticks(range(len(tasks)), tasks, rotation=90 if max(map(len, tasks)) > 2 else 0)
        axes.set_yticks(range(len(matrix)))
        axes.set_title(name, fontsize="medium")
    grid[0].set_ylabel("tasks learnt")
    figure.colorbar(image, ax=list(grid), label=f"accuracy, {setting} (%)", shrink=0.8)
    return figure


def _forgetting(figure: Figure, scores: dict[str, PathResult]) -> Figure:
    """Draws the forgetting after each task."""
    axes = figure.subplots()
    longest = 0
    for name, s in scores.items():
        tasks = range(2, len(s.matrix) + 1)
        longest = max(longest, len(s.matrix))
        axes.plot(tasks, [100 * drop for drop in forgetting_curve(s.matrix)], marker="o", label=name)
    _task_axis(axes, 2, longest)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_ylabel("mean drop of old tasks from their best (points)")
    axes.set_title("Forgetting after each task")
    axes.legend(fontsize="small")
    return figure


def _from_the_start(figure: Figure, curves: dict[str, list[float]], label: str, title: str) -> Figure:
    """Draws accuracies before the first task and after each."""
    axes = figure.subplots()
    for name, accuracies in curves.items():
        axes.plot(range(len(accuracies)), [100 * a for a in accuracies], marker="o", label=name)
    _task_axis(axes, 0, max(map(len, curves.values())) - 1)
    axes.set_ylabel(label)
    axes.set_title(title)
    axes.legend(fontsize="small")
    return figure


def _drift(figure: Figure, distances: list[list[float]]) -> Figure:
    """Draws the distance between prototypes and features, before and after the transfer."""
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
