"""Shows that memory stays flat while learners learn for half an hour.

One learner after the other learns 500 classes in tasks of two, with a prediction and a checkpoint after each task. They run on a made CLIP
with random weights and images, as in `benchmarks.scale`. A learner of 500 classes keeps more prototypes and text embeddings than a learner
of two classes, and 2,490 more anchors. Nothing else may grow, over tasks or over learners.

    python -m benchmarks.steady [--minutes 30] [--quick]
"""

from __future__ import annotations

import argparse
import gc
import itertools
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from segp_ext.config import MethodConfig
from segp_ext.data.scenario import LabelledImages
from segp_ext.method.learner import SeGPCL
from segp_ext.report.drawing import drawing

from .harness import RESULTS, Table, device_name, print_setting
from .scale import SIDE, made_backbone

CLASSES, PER_TASK, PER_CLASS = 500, 2, 10
SHOWN = 25
"""Number of tasks from one row of the table to the next."""


def own_memory() -> float:
    """Returns the memory of this process that is not mapped from files, in MB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024 / 1e6


@drawing()
def plot(rows: list[tuple[float, int, float]], minutes: float) -> Path:
    """Draws memory and learnt classes over time; `rows` hold (minute, classes, MB)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([m for m, _, _ in rows], [size for *_, size in rows], label="the process's own memory (MB)")
    axes.plot([m for m, _, _ in rows], [classes for _, classes, _ in rows], linewidth=0.8, label="classes learnt")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("minutes")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    axes.set_title(
        f"{minutes:.0f} minutes of learning, {PER_TASK} classes a task: {device_name('cpu')}", fontsize="medium"
    )
    path = RESULTS / "steady.png"
    FigureCanvasAgg(figure).print_figure(path, dpi=110)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30, help="how long to learn")
    parser.add_argument("--quick", action="store_true", help="learn for 12 seconds; write no CSV and no plot")
    given = parser.parse_args()
    minutes = 0.2 if given.quick else given.minutes
    print_setting("memory over many small tasks", "cpu")
    table = Table(
        "steady",
        "cpu",
        [("minute", 7), ("learner", 7), ("classes", 7), ("anchors", 7), ("own MB", 8)],
        keep=not given.quick,
    )
    config = MethodConfig(template="{}")
    config.training.epochs, config.anchors.steps, config.training.batch_size = 1, 2, 10
    begin, rows = time.perf_counter(), []
    with tempfile.TemporaryDirectory() as folder:
        for number in itertools.count(1):
            learner = SeGPCL(made_backbone(), config)
            for first in range(0, CLASSES, PER_TASK):
                pixels = np.random.RandomState(first).randint(0, 256, (PER_TASK * PER_CLASS, 3, SIDE, SIDE), np.uint8)
                images = LabelledImages(list(pixels), [i % PER_TASK for i in range(len(pixels))], lambda image: image)
                report = learner.learn_task(images, [str(first + i) for i in range(PER_TASK)])
                learner.predict(list(pixels[:2]))
                learner.save(Path(folder) / "learner")
                minute = (time.perf_counter() - begin) / 60
                rows.append((minute, len(learner.class_names), own_memory()))
                if (first // PER_TASK) % SHOWN == SHOWN - 1 or minute > minutes:
                    table.add(minute, number, len(learner.class_names), report.anchors, rows[-1][2])
                if minute > minutes:
                    break
            del learner
            gc.collect()
            if minute > minutes:
                break
    if not given.quick:
        print(f"appended to {table.name}.csv, drawn in {plot(rows, minute).name}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
