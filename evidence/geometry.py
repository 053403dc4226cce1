"""Measures how far the class probabilities of old classes' images move with each task.

    python -m evidence.geometry COMPARISON --rows ... --seeds ... --out DIR

COMPARISON is a folder that segp_ext.compare wrote with `--run.keep_checkpoints null`. In each run, for every task after the first, two
models score the test images of all older classes on the text path: the model before the task and the model after it. Both give a softmax
over the older classes, p and q. The drift of an image is the Jensen-Shannon divergence of p and q in bits, from 0 (nothing moved) to 1.
Each drift covers a single task.

There are two regions of images. Core is the third on which the model before the task was surest: largest gap between its two highest
probabilities. Boundary is the third on which it was least sure.

The command writes DIR/geometry.csv, DIR/geometry.md and DIR/geometry.png.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from evidence.runs import arguments, of_every_run, scenario_of
from evidence.tables import write_table
from segp_ext.data.images import Images
from segp_ext.method.learner import SeGPCL
from segp_ext.report.comparison import Difference
from segp_ext.report.drawing import drawing
from segp_ext.report.table import signed
from segp_ext.storage.sealed import write_atomically

REGIONS = ("core", "boundary")


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """Computes the Jensen-Shannon divergence, in bits, of each row of p `[N, C]` from the same row of q `[N, C]`; returns `[N]`."""
    middle = (p + q) / 2

    def to_middle(a: Tensor) -> Tensor:
        return torch.where(a > 0, a * (a / middle).log2(), 0.0).sum(dim=1)

    return ((to_middle(p) + to_middle(q)) / 2).clamp(min=0)


def regions(p: Tensor) -> dict[str, Tensor]:
    """Returns the indices of the rows of p `[N, C]` that belong to each of `REGIONS`, a third of the rows each."""
    first, second = p.topk(2, dim=1).values.unbind(dim=1)
    order = (first - second).argsort(stable=True)
    third = len(p) // 3
    return {"boundary": order[:third], "core": order[len(p) - third :]}


@torch.no_grad()
def probabilities(learner: SeGPCL, images: list[Images], classes: int) -> Tensor:
    """Computes the text path's softmax over the first `classes` classes for all images in order, `[N, classes]`."""
    text = F.normalize(learner.text_embeddings()[:classes], dim=-1)
    rows = [F.normalize(embedding, dim=-1) @ text.T for own in images for _, embedding, _ in learner.encode(own)]
    return (learner.backbone.logit_scale * torch.cat(rows)).double().softmax(dim=1)


def drifts(run: Path) -> Iterator[tuple[int, str, float]]:
    """Yields (task, region, mean drift of the older classes' images in bits) for each task of a run after its first.

    Raises:
        FileNotFoundError: if the run did not keep all its checkpoints.
        ValueError: if the run has only one task, or only one class in its first task.
    """
    config, scenario = scenario_of(run)
    tasks = scenario.tasks
    if len(tasks) < 2 or len(tasks[0].class_names) < 2:
        raise ValueError(
            f"{run} must have two tasks, and two classes in the first; it has {[len(t.class_names) for t in tasks]}"
        )
    before: SeGPCL | None = None
    for done in range(1, len(tasks) + 1):
        checkpoint = run / "checkpoints" / f"task-{done:03d}"
        if not checkpoint.is_dir():
            raise FileNotFoundError(f"{checkpoint} is not there; compare with --run.keep_checkpoints null")
        after = SeGPCL.load(checkpoint, config.model.device)
        if before is not None:
            images = [Images(task.test, after.reader) for task in tasks[: done - 1]]
            classes = len(before.class_names)
            p, q = (probabilities(learner, images, classes) for learner in (before, after))
            apart = divergence(p, q)
            for name, chosen in regions(p).items():
                yield done, name, float(apart[chosen].mean())
        before = after


@drawing()
def draw(values: dict[tuple[str, str, int], list[float]], file: Path) -> None:
    """Draws the mean drift by task, with the standard deviation over seeds: a panel for each region, a line for each row.

    Args:
        values: drifts in bits, one per seed, by (row, region, task).
        file: the picture to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, len(REGIONS), sharey=True)
    for axes, region in zip(panels, REGIONS, strict=True):
        for row in dict.fromkeys(row for row, _, _ in values):
            tasks = sorted(task for own, of, task in values if (own, of) == (row, region))
            members = [values[row, region, task] for task in tasks]
            means = [statistics.fmean(m) for m in members]
            (line,) = axes.plot(tasks, means, marker="o", markersize=3, label=row)
            if all(len(m) > 1 for m in members):
                low, high = (
                    [a + s * statistics.stdev(m) for a, m in zip(means, members, strict=True)] for s in (-1, 1)
                )
                axes.fill_between(tasks, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set_title(region)
        axes.set_xlabel("task learnt")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("drift of older classes (JS, bits)")
    panels[0].legend(fontsize="small")
    FigureCanvasAgg(figure).print_figure(file, dpi=110)


def main() -> None:
    parser = arguments("evidence.geometry", __doc__, "folder for the table, the drift of each task and the plot")
    options = parser.parse_args()
    values: dict[tuple[str, str, int], list[float]] = {}
    overall: dict[tuple[str, str], list[float]] = {}
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["row", "seed", "task", "region", "divergence_bits"])
    for row, of_seeds in of_every_run(parser, options, lambda run: list(drifts(run))).items():
        for seed, found in zip(options.seeds, of_seeds, strict=True):
            for task, region, drift in found:
                values.setdefault((row, region, task), []).append(drift)
                writer.writerow([row, seed, task, region, f"{drift:.6f}"])
            for region in REGIONS:
                overall.setdefault((row, region), []).append(statistics.fmean(d for _, r, d in found if r == region))
    first = options.rows[0]
    table = [["method", "region", "drift (bits), mean of tasks", f"minus {first}'s, 95 % interval"]]
    for (row, region), own in overall.items():
        apart = Difference.of([a - b for a, b in zip(own, overall[first, region], strict=True)])
        half = f" ± {apart.half:.4f}" if len(own) > 1 else ""
        table.append(
            [row, region, f"{statistics.fmean(own):.4f}", "–" if row == first else f"{signed(apart.mean, 4)}{half}"]
        )
    options.out.mkdir(exist_ok=True)
    write_table(options.out / "geometry.md", parser.prog, table)
    write_atomically(options.out / "geometry.csv", lines.getvalue().encode())
    draw(values, options.out / "geometry.png")


if __name__ == "__main__":
    main()
