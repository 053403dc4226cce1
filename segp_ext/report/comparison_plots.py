"""Plots of a comparison as PNG files."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segp_ext.config import ScorePath
from segp_ext.report.comparison import Comparison
from segp_ext.report.drawing import drawing
from segp_ext.report.metrics import forgetting_curve
from segp_ext.runtime.timing import Phase

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MATRICES_ABREAST = 5
"""Heat maps beside each other in a row of the plot."""
_LABEL = 44
"""Characters of a row's name in plots; tables have all of it."""


@drawing()
def plot(found: Comparison, folder: Path) -> dict[str, str]:
    """Draws the plots into `folder`; returns their captions by file name."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, tuple[Figure, str]] = {}

    def empty(width: float, height: float) -> Figure:
        return Figure(figsize=(width, height), layout="constrained")

    drawn["accuracy.png"] = (
        _curves(found, empty(13, 4.5), lambda s: s.values["A"], "accuracy over all classes seen (%)", 1),
        "Accuracy after each task, mean and standard deviation over seeds",
    )
    if max(len(s.values["A"]) for s in found.scores) > 1:
        drawn["forgetting.png"] = (
            _curves(
                found, empty(13, 4.5), lambda s: forgetting_curve(s.values["R"]), "mean drop of old tasks (points)", 2
            ),
            "Forgetting after each task",
        )
    if any(s.values["global_last"] is not None for s in found.scores):
        drawn["global.png"] = (
            _curves(
                found,
                empty(9, 4.5),
                lambda s: s.values.get("global_A") or [],
                "accuracy over all tasks' test images (%)",
                0,
                ("text",),
            ),
            "Global accuracy of the text path, all tasks' test images against all class names, before the first task and after each",
        )
    columns = min(len(found.rows), _MATRICES_ABREAST)
    drawn["r_matrix.png"] = (
        _matrices(found, empty(3.2 * columns + 1, 3.4 * -(-len(found.rows) // columns)), columns),
        "Accuracy on each task's test images after each task, on the path by which the method predicts, mean over seeds",
    )
    drawn["time.png"] = (
        _time(found, empty(9, 0.4 * len(found.rows) + 2)),
        "Time by phase",
    )
    if found.retention:
        sets = len({name for _, name in found.retention})
        drawn["retention.png"] = (
            _retention(found, empty(4 * sets + 3, 4.5), sets),
            "Zero-shot accuracy on data sets that are never trained on",
        )
    for name, (figure, _) in drawn.items():
        FigureCanvasAgg(figure).print_figure(folder / name, dpi=110)
    return {name: caption for name, (_, caption) in drawn.items()}


def _curves(
    found: Comparison, figure: Figure, read: Any, label: str, first: int, paths: Sequence[ScorePath] | None = None
) -> Figure:
    """Draws the mean curve of each row, one panel a path, with a band of one standard deviation."""
    from matplotlib.ticker import MaxNLocator

    paths = found.paths if paths is None else paths
    panels = figure.subplots(1, len(paths), sharey=True, squeeze=False)[0]
    for axes, path in zip(panels, paths, strict=True):
        for (row, of), members in found.groups.items():
            if of != path:
                continue
            curves = [read(s) for s in members]
            length = min(map(len, curves))
            if length == 0:
                continue
            tasks = range(first, first + length)
            means = [100 * statistics.fmean(c[i] for c in curves) for i in range(length)]
            axes.plot(tasks, means, marker="o", markersize=3, label=_label(found, row), **_style(found, row))
            if len(curves) > 1:
                apart = [100 * statistics.stdev([c[i] for c in curves]) for i in range(length)]
                low, high = ([m + sign * a for m, a in zip(means, apart, strict=True)] for sign in (-1, 1))
                axes.fill_between(tasks, low, high, color=_style(found, row)["color"], alpha=0.1, linewidth=0)
        axes.set_title(f"{path} path")
        axes.set_xlabel("tasks learnt")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(label)
    shown = {name: line for axes in panels for line, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="outside right upper", fontsize="x-small")
    return figure


def _style(found: Comparison, row: str) -> dict[str, Any]:
    """Gives a row its own line, the same in all panels."""
    rows = list(dict.fromkeys(row for row, _ in found.groups))
    return {"color": f"C{rows.index(row) % 10}", "linestyle": ("-", "--", ":", "-.")[rows.index(row) // 10 % 4]}


def _label(found: Comparison, row: str) -> str:
    """Shortens a row's name for plots, unless another row would read the same."""
    rows = {row for row, _ in found.groups}
    cut = row if len(row) <= _LABEL else row[: _LABEL - 1] + "…"
    return cut if sum(other[: _LABEL - 1] == row[: _LABEL - 1] for other in rows) == 1 else row


def _matrices(found: Comparison, figure: Figure, columns: int) -> Figure:
    """Draws the mean R of each row as a heat map, on the path by which it predicts."""
    grid = figure.subplots(-(-len(found.rows) // columns), columns, squeeze=False)
    image: Any = None
    for axes in grid.flat[len(found.rows) :]:
        axes.set_axis_off()
    for axes, row in zip(grid.flat, found.rows, strict=False):
        path = next(run.settings["inference"]["path"] for (of, _), run in found.results.items() if of == row)
        members = found.groups[row, path]
        size = min(len(s.values["R"]) for s in members)
        mean = [
            [100 * statistics.fmean(s.values["R"][i][j] for s in members) if j <= i else math.nan for j in range(size)]
            for i in range(size)
        ]
        image = axes.imshow(mean, vmin=0, vmax=100, cmap="viridis")
        axes.set_xticks(range(size), [str(j + 1) for j in range(size)])
        axes.set_yticks(range(size), [str(i + 1) for i in range(size)])
        axes.set_xlabel("tested on task")
        axes.set_title(f"{_label(found, row)}\n{path}", fontsize="small" if len(row) < 30 else "xx-small")
    for axes in grid[:, 0]:
        axes.set_ylabel("tasks learnt")
    figure.colorbar(image, ax=list(grid.flat), label="accuracy over classes seen (%)", shrink=0.8)
    return figure


def _time(found: Comparison, figure: Figure) -> Figure:
    """Draws the seconds of each phase beside each other."""
    axes = figure.subplots()
    phases = list(dict.fromkeys(phase for result in found.results.values() for phase in result.phases))
    left = [0.0] * len(found.rows)
    for phase in phases:
        spent = []
        for row in found.rows:
            runs = [result for (of, _), result in found.results.items() if of == row]
            spent.append(statistics.fmean(run.phases.get(phase, Phase()).wall for run in runs))
        axes.barh([_label(found, row) for row in found.rows], spent, left=left, label=phase)
        left = [a + b for a, b in zip(left, spent, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("seconds a run")
    figure.legend(fontsize="x-small", ncols=4, loc="outside upper center")
    return figure


def _retention(found: Comparison, figure: Figure, sets: int) -> Figure:
    """Draws the accuracy on held-out data sets, one panel each."""
    from matplotlib.ticker import MaxNLocator

    panels = figure.subplots(1, sets, squeeze=False)[0]
    for axes, name in zip(panels, dict.fromkeys(name for _, name in found.retention), strict=True):
        for row in (row for row, of in found.retention if of == name):
            curves = list(found.retention[row, name].values())
            length = min(map(len, curves))
            means = [100 * statistics.fmean(c[i] for c in curves) for i in range(length)]
            axes.plot(range(length), means, marker="o", markersize=3, label=_label(found, row), **_style(found, row))
        axes.set_title(name)
        axes.set_xlabel("tasks learnt")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("zero-shot accuracy over its own classes (%)")
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize="x-small", loc="outside right upper")
    return figure
