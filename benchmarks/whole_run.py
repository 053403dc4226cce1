"""Times a whole protocol on made data by task and phase, beside the time that the matrix products of its passes alone would take.

The data have the size, task order and preprocessing of CIFAR100. The model is ViT-B/16 with random weights; they change no time. Training
and anchors have a floor: the floating-point operations of their passes, at the rate of one large matrix product on the same device. torch
counts the operations. Each task's rows are written once the task is learnt, the rows of all tasks at the end.

With `--directory`, a call that was stopped goes on after its last task where the next one finds the same folder. The task in which it
stopped begins anew, so that its times are whole.

    python -m benchmarks.whole_run [--device cuda --precision bf16] [--directory DIR] [--quick]
"""

from __future__ import annotations

import argparse
import dataclasses
import pickle
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import segp_ext
from segp_ext.config import Config, MethodConfig
from segp_ext.method.learner import SeGPCL
from segp_ext.report.result import TaskReport
from segp_ext.run import command_line
from segp_ext.run.directory import unfinished
from segp_ext.run.run import Run, run_config
from segp_ext.runtime.timing import Phase

from .harness import Table, print_setting

CLASSES = 100
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def make_cifar100(folder: Path, train_images: int, test_images: int) -> None:
    """Writes the files of CIFAR100 with noise as images, unless they are there.

    Args:
        folder: where `cifar-100-python/` is made, whole or not at all.
        train_images: training images per class.
        test_images: test images per class.
    """
    place = folder / "cifar-100-python"
    if place.is_dir():
        return
    half = folder / "half-made"
    half.mkdir(parents=True, exist_ok=True)
    names = [f"thing {word} {other}" for word in "abcdefghij" for other in "abcdefghij"]
    (half / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))
    draw = np.random.RandomState(0)
    for part, each in (("train", train_images), ("test", test_images)):
        labels = [c for _ in range(each) for c in range(CLASSES)]
        rows = draw.randint(0, 256, (len(labels), 3 * 32 * 32), dtype=np.uint8)
        (half / part).write_bytes(pickle.dumps({"data": rows, "fine_labels": labels}))
    half.rename(place)


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of one forward and backward pass.

    Attributes:
        image: of one image, back to the adapter.
        prompt: of one prompt, back to the adapter.
        pixels: of one image, back to its pixels.
    """

    image: int
    prompt: int
    pixels: int


def count_operations(model: str) -> Operations:
    """Counts the operations of a model's passes with torch's counter, on the CPU; the adapter's operations are included."""
    backbone = segp_ext.load_clip(model, None)
    SeGPCL(backbone, MethodConfig())  # adds the adapter to the backbone
    pixels = torch.zeros(1, 3, backbone.image_size, backbone.image_size)
    tokens = backbone.tokenize(["a photo of a thing."])

    def counted(run) -> int:
        with FlopCounterMode(display=False) as counter:
            run()
        return counter.get_total_flops()

    def to_pixels() -> None:
        with backbone.merged():
            backbone.encode_image(pixels.requires_grad_())[0].sum().backward()

    return Operations(
        counted(lambda: backbone.encode_image(pixels)[0].sum().backward()),
        counted(lambda: backbone.encode_text(tokens).sum().backward()),
        counted(to_pixels),
    )


def product_rate(device: str, precision: str) -> float:
    """Measures the floating-point operations per second of one large matrix product; the best of ten."""
    size = 8192 if device.startswith("cuda") else 1024
    a = torch.randn(size, size, device=device, dtype=DTYPES[precision])
    out = torch.empty_like(a)

    def wait() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()

    best = float("inf")
    for _ in range(10):
        wait()
        begin = time.perf_counter()
        torch.mm(a, a, out=out)
        wait()
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best


def operations_of(learnt: TaskReport, seen: int, settings: Config, one: Operations) -> dict[str, float]:
    """Computes the floating-point operations of a task's training and anchors, by phase, from the numbers of their passes.

    Args:
        learnt: what the run says of the task.
        seen: number of classes after the task.
        settings: settings of the run.
        one: operations of single passes.
    """
    images = settings.training.epochs * (learnt.images - learnt.held_back) if learnt.steps else 0
    drawn = learnt.steps * min(settings.distillation.batch_size, learnt.anchors)
    return {
        "training": float((images + drawn) * one.image + learnt.steps * seen * one.prompt),
        "anchors": learnt.anchors * settings.anchors.steps * float(one.pixels),
    }


class Rows:
    """Rows of the table, written as the run goes on.

    Args:
        table: takes the rows.
        setting: the cells that all rows begin with.
        settings: settings of the run.
        one: operations of single passes.
        rate: floating-point operations per second of one matrix product.
    """

    def __init__(self, table: Table, setting: tuple[str, ...], settings: Config, one: Operations, rate: float) -> None:
        self._table, self._setting, self._settings, self._one, self._rate = table, setting, settings, one, rate
        self._run: Run | None = None
        self._seen = self._written = 0
        self._operations: dict[str, float] = {}

    def begin(self, run: Run) -> None:
        """Takes the run. The rows of tasks that an earlier call learnt are written again, so that this table is whole."""
        self._run = run

    def heard(self, line: str) -> None:
        """Prints a line of the run; the rows of each task that has been learnt since follow it."""
        print(line, flush=True)
        while self._run is not None and self._written < len(self._run.result.tasks):
            learnt = self._run.result.tasks[self._written]
            self._written += 1
            self._seen += len(learnt.classes)
            found = operations_of(learnt, self._seen, self._settings, self._one)
            for phase, operations in found.items():
                self._operations[phase] = self._operations.get(phase, 0.0) + operations
            self._add(str(self._written), learnt.phases, found)

    def end(self, phases: Mapping[str, Phase]) -> None:
        """Writes the rows of all tasks together."""
        self._add("all", phases, self._operations)

    def _add(self, task: str, phases: Mapping[str, Phase], operations: Mapping[str, float]) -> None:
        for phase, spent in phases.items():
            flops = operations.get(phase)
            known = [flops / 1e12, flops / spent.wall / 1e12, spent.wall * self._rate / flops] if flops else ["-"] * 3
            self._table.add(*self._setting, task, phase, spent.wall, spent.backbone, *known)


def measure(given: argparse.Namespace, place: Path) -> None:
    """Runs the protocol in `place`, and goes on with a run of the same settings that was stopped there."""
    model, extra, images = "ViT-B-16", [], (500, 100)
    if given.quick:
        model, images = "glyph", (4, 1)
        extra = ["--training.epochs=1", "--anchors.steps=1", "--training.batch_size=16", "--lora.rank=2"]
    data = place / f"{images[0]}-{images[1]}"
    make_cifar100(data, *images)
    settings = command_line.parse([
        "--config=cifar100", f"--data.root={data}", f"--model.name={model}", "--model.pretrained=null",
        f"--model.device={given.device}", f"--model.precision={given.precision}", f"--run.directory={place}/runs",
        "--run.checkpoint_steps=null", *extra,  # a task that goes on from its middle would be timed from there
    ])  # fmt: skip
    one, rate = count_operations(model), product_rate(given.device, given.precision)
    print(f"  one matrix product: {rate / 1e12:.3g} TFLOP/s")
    columns = [("model", 10), ("precision", 9), ("task", 4), ("phase", 12), ("seconds", 9), ("passes s", 9), ("TFLOP", 9),
               ("TFLOP/s", 8), ("x floor", 8)]  # fmt: skip
    table = Table("whole_run", given.device, columns, keep=not given.quick)
    rows = Rows(table, (model, given.precision), settings, one, rate)
    earlier, _ = next(unfinished(place / "runs", dataclasses.asdict(settings)), (None, ""))
    result = run_config(settings, earlier, say=rows.heard, begun=rows.begin)
    rows.end(result.phases)
    if not given.quick:
        print(f"appended to {table.name}.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="torch device")
    parser.add_argument("--precision", default="bf16", choices=DTYPES, help="arithmetic of the encoders")
    parser.add_argument(
        "--directory", type=Path, help="folder of data and run, kept; a folder that is removed by default"
    )
    parser.add_argument(
        "--quick", action="store_true", help="take the built-in model, few images and one epoch; write no CSV"
    )
    given = parser.parse_args()
    print_setting(f"whole protocol on made data, {given.precision}", given.device)
    if given.directory is not None:
        measure(given, given.directory)
    else:
        with tempfile.TemporaryDirectory() as place:
            measure(given, Path(place))


if __name__ == "__main__":
    main()
