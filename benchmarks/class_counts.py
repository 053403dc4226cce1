"""Times a training step at several numbers of old classes, with each way of distilling (`distillation.classes`).

A step's images and anchors are the same at every count. What may grow is the text. With "all", as in the paper, a step encodes the prompts
of all old classes with gradients; with "anchors", of the classes that the step's anchors stand for. Weights and images are random; that
changes no time. The last column is the time over the time with the fewest classes.

    python -m benchmarks.class_counts [--model ViT-B-32] [--classes 111 611 1201] [--batch 8] [--device cpu]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

import segp_ext
from segp_ext.clip.backbone import Backbone
from segp_ext.config import MethodConfig
from segp_ext.data.images import Images, Reader
from segp_ext.data.scenario import LabelledImages
from segp_ext.method.anchors import Anchors
from segp_ext.method.fit import Training
from segp_ext.method.inputs import TaskInputs
from segp_ext.report.table import markdown_table
from segp_ext.runtime.processes import Processes

NEW, ROUNDS = 10, 5
WAYS = ("all", "anchors")


def step_of(backbone: Backbone, classes: int, batch: int, way: str) -> tuple[Callable[[], None], Callable[[], int]]:
    """Returns a call that takes one step of a task with 10 new classes, and a call that tells how many prompts it encodes.

    Args:
        backbone: the model with its adapter.
        classes: number of classes, the new ones too.
        batch: images of a step; there are as many anchors.
        way: `distillation.classes`.
    """
    config, old, draw = MethodConfig(), classes - NEW, torch.Generator().manual_seed(0)
    config.training.batch_size, config.training.epochs = batch, 1
    config.distillation.batch_size, config.distillation.classes = batch, way  # type: ignore[assignment]
    names = [f"{kind} number {i}" for i in range(-(-classes // 4)) for kind in ("ship", "lamp", "tree", "fox")][
        :classes
    ]
    tokens = backbone.tokenize([config.template.replace("{}", name) for name in names])
    size, widths = backbone.image_size, (backbone.embed_dim, backbone.raw_dim)
    made = Anchors(old, torch.Size((3, size, size)), widths, backbone.device, backbone.dtype, None, Processes())
    # One image stands for all: they only take time.
    made.pixels = torch.rand(1, 3, size, size, generator=draw).to(backbone.device).expand(old, -1, -1, -1)
    made.embedding.normal_()
    made.feature.normal_()
    text, reference = (
        torch.randn(count, backbone.embed_dim, generator=draw).to(backbone.device) for count in (old, classes)
    )
    pixels = (np.random.RandomState(0).rand(batch, 3, size, size) * 255).astype(np.uint8)
    reader = Reader(backbone.transform, config.loading, backbone.device)
    images = Images(LabelledImages([*pixels], [old + i % NEW for i in range(batch)], lambda image: image), reader)
    task = TaskInputs(
        2, images, tokens, range(old, classes), made, text, reference, torch.arange(old, device=backbone.device)
    )
    training = Training(backbone, task, config, torch.Generator().manual_seed(0), Processes())
    order = torch.arange(batch)

    def take() -> None:
        training.step.take(order, images.read([order]))
        if backbone.device.type == "cuda":
            torch.cuda.synchronize()

    return take, lambda: sum(map(len, training.step.prompts.parts))


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32")
    parser.add_argument("--classes", type=int, nargs="+", default=[111, 611, 1201])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    backbone = segp_ext.load_clip(options.model, "own" if options.model == "glyph" else None, options.device)
    backbone.adapt(MethodConfig().lora, 0)
    steps = {(way, count): step_of(backbone, count, options.batch, way) for way in WAYS for count in options.classes}
    spent: dict[tuple[str, int], list[float]] = {key: [] for key in steps}
    for turn in range(ROUNDS + 1):  # by turns, so that all meet the same machine; the first turn warms up
        for key, (take, _) in steps.items():
            begun = time.perf_counter()
            take()
            if turn:
                spent[key].append(time.perf_counter() - begun)
    rows = [
        ["distillation.classes", "classes", "prompts a step", "ms a step, median (least to most)", "× fewest classes"]
    ]
    for way in WAYS:
        first = statistics.median(spent[way, options.classes[0]])
        for count in options.classes:
            times, median = [1e3 * value for value in spent[way, count]], statistics.median(spent[way, count])
            shown = f"{1e3 * median:.0f} ({min(times):.0f} to {max(times):.0f})"
            rows.append([way, str(count), str(steps[way, count][1]()), shown, f"{median / first:.2f}"])
    print(
        f"{options.model} on {options.device}, {options.batch} images and anchors a step, torch {torch.__version__}\n"
    )
    print(markdown_table(rows))


if __name__ == "__main__":
    main()
