"""Measures time per phase and peak memory of one task of 100 classes, learnt on top of 1,000 to 20,000 old classes.

The whole learner runs, with its anchors in a file, on a made CLIP. That CLIP costs next to nothing, but has real widths: raw features 768,
embeddings 512. Its weights are random, and images are 16 pixels a side. So the measurement shows the costs that grow with classes and
anchors. Five seeds per old class make 5,000 to 100,000 anchors. Every size runs in its own process.

Memory means anonymous pages, which the process cannot give back; the mapped anchors' file is counted beside it. Evaluation scores the new
classes' images and one old image: its cost grows with the number of images, which is not measured here.

    python -m benchmarks.scale [--classes 1000 2000 5000 10000 20000] [--steps 2] [--quick]
"""

from __future__ import annotations

import argparse
import multiprocessing
import threading
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from segp_ext.clip.backbone import Backbone
from segp_ext.config import MethodConfig
from segp_ext.data.images import Images
from segp_ext.data.scenario import LabelledImages
from segp_ext.method.learner import SeGPCL
from segp_ext.report.drawing import drawing
from segp_ext.run.evaluation import EvaluationSet, Evaluator
from segp_ext.storage.class_records import older_records

from .harness import RESULTS, Table, device_name, print_setting

NEW, PER_CLASS, SIDE, CONTEXT = 100, 10, 16, 12
PHASES = ("text", "seeds", "anchors", "training", "transfer", "prototypes", "evaluation")


class NumberTokenizer:
    """A tokenizer with one token per digit of a class's number: 0 is padding, 1 to 10 are digits, 11 starts and 12 ends the string."""

    def __call__(self, texts: list[str], context_length: int = CONTEXT) -> Tensor:
        tokens = torch.zeros(len(texts), context_length, dtype=torch.int64)
        for row, text in zip(tokens, texts, strict=True):
            ids = [11, *(1 + int(c) for c in text if c.isdigit()), 12]
            row[: len(ids)] = torch.tensor(ids)
        return tokens


def made_backbone() -> Backbone:
    """Makes a CLIP of one thin block per tower, with random weights and ViT-B/16's input and output widths."""
    import open_clip

    torch.manual_seed(0)
    clip = open_clip.CLIP(
        embed_dim=512,
        vision_cfg={"image_size": SIDE, "patch_size": SIDE, "width": 768, "layers": 1, "mlp_ratio": 1.0},
        text_cfg={"context_length": CONTEXT, "vocab_size": 13, "width": 128, "heads": 2, "layers": 1},
    )
    clip.logit_scale.data.fill_(np.log(100.0))
    return Backbone(clip, NumberTokenizer(), "made", None)


def made_images(seed: int, count: int) -> LabelledImages:
    """Makes `count` images of noise, uint8 `[3, SIDE, SIDE]`, labelled with the task's classes in turn."""
    pixels = np.random.RandomState(seed).randint(0, 256, (count, 3, SIDE, SIDE), np.uint8)
    return LabelledImages(list(pixels), [i % NEW for i in range(count)], lambda image: image)


class MemoryWatch(threading.Thread):
    """A thread that reads every 20 ms how much memory the process has gained since the thread was made, and keeps the peaks.

    Attributes:
        anonymous: peak of anonymous memory, bytes.
        mapped: peak of file-backed and shared memory, bytes.
        done: set it to end the thread.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.before = self._read()
        self.anonymous = self.mapped = 0
        self.done = threading.Event()

    def _read(self) -> dict[str, int]:
        lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("Rss"))
        return {name.rstrip(":"): 1024 * int(size) for name, size, _ in lines}

    def run(self) -> None:
        while not self.done.wait(0.02):
            now = self._read()
            grown = {name: now[name] - size for name, size in self.before.items()}
            self.anonymous = max(self.anonymous, grown["RssAnon"])
            self.mapped = max(self.mapped, grown["RssFile"] + grown["RssShmem"])


def learn(classes: int, steps: int, threads: int) -> dict:
    """Learns one task on top of `classes` old classes, and measures it.

    Args:
        classes: number of old classes.
        steps: DPGD steps per anchor.
        threads: torch's threads.

    Returns:
        "anchors": their number. "phases": seconds by phase. "seconds": all of them. "anonymous", "mapped": peak bytes.
    """
    torch.set_num_threads(threads)
    config = MethodConfig(template="{}")
    config.anchors.steps, config.anchors.memory_gb = steps, 0.0
    config.training.epochs = 1
    learner = SeGPCL(made_backbone(), config)
    names = [str(number) for number in range(classes + NEW)]
    prototypes = torch.randn(classes, learner.backbone.raw_dim, generator=torch.Generator().manual_seed(0))
    old = EvaluationSet(
        names[:classes], Images(LabelledImages([np.zeros((3, SIDE, SIDE), np.uint8)], [0], lambda i: i), learner.reader)
    )
    evaluator = Evaluator(
        learner, [old, EvaluationSet(names[classes:], Images(made_images(1, NEW * PER_CLASS), learner.reader))]
    )
    records = older_records(names[:classes], [classes])
    learner.restore(records, [classes], {**learner.backbone.adapter_state(), "prototypes": prototypes})
    watch = MemoryWatch()
    watch.start()
    begin = time.perf_counter()
    report = learner.learn_task(made_images(0, NEW * PER_CLASS), names[classes:])
    evaluator.after_task()
    seconds = time.perf_counter() - begin
    watch.done.set()
    watch.join()
    phases = {name: phase.wall for name, phase in report.phases.items()}
    for name, phase in evaluator.timer.phases.items():
        phases[name] = phases.get(name, 0.0) + phase.wall
    return {
        "anchors": report.anchors,
        "phases": phases,
        "seconds": seconds,
        "anonymous": watch.anonymous,
        "mapped": watch.mapped,
    }


@drawing()
def plot(rows: list[tuple[int, dict]]) -> Path:
    """Draws seconds per phase and peak memory over the number of old classes; `rows` hold (old classes, result of `learn`)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    classes = [c for c, _ in rows]
    for phase in PHASES:
        left.plot(classes, [r["phases"].get(phase, 0.0) for _, r in rows], marker="o", label=phase)
    left.set_ylabel("seconds")
    left.set_title("Time by phase")
    right.plot(classes, [r["anonymous"] / 1e6 for _, r in rows], marker="o", label="the process's own")
    right.plot(classes, [r["mapped"] / 1e6 for _, r in rows], marker="o", label="mapped from the anchors' file")
    right.set_ylabel("MB at the peak")
    right.set_title("Memory beyond the model's")
    for axes in (left, right):
        axes.set_xlabel("old classes (five anchors each)")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter("{x:g}")  # labels are drawn without mathtext, which powers would need
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    figure.suptitle(f"One task of {NEW} classes on a made CLIP: {device_name('cpu')}", fontsize="medium")
    path = RESULTS / "scale.png"
    FigureCanvasAgg(figure).print_figure(path, dpi=110)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--classes", nargs="+", type=int, default=[1000, 2000, 5000, 10000, 20000], help="numbers of old classes"
    )
    parser.add_argument("--steps", type=int, default=2, help="DPGD steps; the method's ten take five times as long")
    parser.add_argument(
        "--quick", action="store_true", help="measure 200 and 400 old classes; write no CSV and no plot"
    )
    given = parser.parse_args()
    sizes = [200, 400] if given.quick else given.classes
    print_setting("one task on top of many classes, anchors in a file", "cpu")
    columns = [("old classes", 11), ("anchors", 8), ("DPGD steps", 10), *((phase, 10) for phase in PHASES), ("all s", 8),
               ("own MB", 8), ("mapped MB", 9)]  # fmt: skip
    table = Table("scale", "cpu", columns, keep=not given.quick)
    rows = []
    for classes in sizes:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            result = pool.apply(learn, (classes, given.steps, torch.get_num_threads()))
        rows.append((classes, result))
        table.add(classes, result["anchors"], given.steps, *(result["phases"].get(phase, 0.0) for phase in PHASES),
                  result["seconds"], result["anonymous"] / 1e6, result["mapped"] / 1e6)  # fmt: skip
    if not given.quick:
        print(f"appended to {table.name}.csv, drawn in {plot(rows).name}")


if __name__ == "__main__":
    main()
