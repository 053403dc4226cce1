"""Times a whole protocol on made data by phase, beside the time that the matrix products of its passes alone would take.

The data have the size, task order and preprocessing of CIFAR100. The model is ViT-B/16 with random weights; they change no time. Training
and anchors have a floor: the floating-point operations of their passes, at the rate of one large matrix product on the same device. torch
counts the operations.

    python -m benchmarks.whole_run [--device cuda --precision bf16] [--quick]
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import segp_ext
from segp_ext.config import MethodConfig
from segp_ext.method.learner import SeGPCL
from segp_ext.report.result import RunResult
from segp_ext.run import command_line
from segp_ext.run.run import run_config

from .harness import Table, print_setting

CLASSES = 100
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def make_cifar100(folder: Path, train_images: int, test_images: int) -> None:
    """Writes the files of CIFAR100 with noise as images.

    Args:
        folder: where `cifar-100-python/` is made.
        train_images: training images per class.
        test_images: test images per class.
    """
    place = folder / "cifar-100-python"
    place.mkdir(parents=True)
    names = [f"thing {word} {other}" for word in "abcdefghij" for other in "abcdefghij"]
    (place / "meta").write_bytes(pickle.dumps({"fine_label_names": names}))
    draw = np.random.RandomState(0)
    for part, each in (("train", train_images), ("test", test_images)):
        labels = [c for _ in range(each) for c in range(CLASSES)]
        rows = draw.randint(0, 256, (len(labels), 3 * 32 * 32), dtype=np.uint8)
        (place / part).write_bytes(pickle.dumps({"data": rows, "fine_labels": labels}))


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


def operations_of(result: RunResult, one: Operations) -> dict[str, float]:
    """Computes the floating-point operations of training and of anchors, by phase, from the numbers of their passes."""
    settings = result.settings
    batch, anchor_batch = settings["training"]["batch_size"], settings["distillation"]["batch_size"]
    found = {"training": 0.0, "anchors": 0.0}
    seen = 0
    for task in result.tasks:
        seen += len(task.classes)
        images = min(batch, task.images) + min(anchor_batch, task.anchors)
        found["training"] += task.steps * (images * one.image + seen * one.prompt)
        found["anchors"] += task.anchors * settings["anchors"]["steps"] * one.pixels
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="torch device")
    parser.add_argument("--precision", default="bf16", choices=DTYPES, help="arithmetic of the encoders")
    parser.add_argument(
        "--quick", action="store_true", help="take the built-in model, few images and one epoch; write no CSV"
    )
    given = parser.parse_args()
    model, extra, images = "ViT-B-16", [], (500, 100)
    if given.quick:
        model, images = "glyph", (4, 1)
        extra = ["--training.epochs=1", "--anchors.steps=1", "--training.batch_size=16", "--lora.rank=2"]

    print_setting(f"whole protocol on made data: {model}, {given.precision}", given.device)
    with tempfile.TemporaryDirectory() as place:
        make_cifar100(Path(place), *images)
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            settings = command_line.parse([
                "--config=cifar100", f"--data.root={place}", f"--model.name={model}", "--model.pretrained=null",
                f"--model.device={given.device}", f"--model.precision={given.precision}", f"--run.directory={place}/runs", *extra,
            ])  # fmt: skip
            result = run_config(settings, say=print)
    if result.status != "finished":
        sys.exit(f"{json.dumps(result.message)}\n{said.getvalue()}")

    operations, rate = operations_of(result, count_operations(model)), product_rate(given.device, given.precision)
    print(f"  one matrix product: {rate / 1e12:.3g} TFLOP/s")
    columns = [("model", 10), ("precision", 9), ("phase", 12), ("seconds", 9), ("passes s", 9), ("TFLOP", 9),
               ("TFLOP/s", 8), ("x floor", 8)]  # fmt: skip
    table = Table("whole_run", given.device, columns, keep=not given.quick)
    for phase, spent in result.phases.items():
        flops = operations.get(phase)
        known = ["-", "-", "-"]
        if flops:
            known = [flops / 1e12, flops / spent.wall / 1e12, spent.wall * rate / flops]
        table.add(model, given.precision, phase, spent.wall, spent.backbone, *known)
    if not given.quick:
        print(f"appended to {table.name}.csv")


if __name__ == "__main__":
    main()
