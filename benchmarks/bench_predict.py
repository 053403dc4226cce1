"""Counts the image files that are named per second, beside the same model's bare `encode_image`.

The files are JPEGs of 256 × 256 pixels of noise.

- encode_image: gets the pixels ready made, so it is the floor.
- predict: what `segp predict` does, with so many worker processes that decode ahead.
- learner.predict: the same from Python, one batch after the other.
- decode: reads the files and runs no model.

    python -m benchmarks.bench_predict [--device cuda] [--model ViT-B-32] [--images 512] [--workers 0 1 2] [--quick]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import segp_ext
from segp_ext.config import MethodConfig
from segp_ext.data.file_batches import file_batches
from segp_ext.method.learner import SeGPCL
from segp_ext.report.prediction_rows import PredictionRow
from segp_ext.run.prediction import FilePredictor, Question

from .harness import Candidate, Table, measure, print_setting

CLASSES = 20
SIDE = 256


def make_learner(model: str, device: str) -> SeGPCL:
    """Makes a learner of `CLASSES` classes from noise. Models other than the built-in one have random weights, which change no time."""
    backbone = segp_ext.load_clip(model, device=device) if model == "glyph" else segp_ext.load_clip(model, None, device)
    learner = SeGPCL(backbone, MethodConfig(method="frozen-prototypes", min_images_per_class=1))
    draw = np.random.RandomState(0)
    images = [(draw.randint(0, 256, (3, 16, 16)).astype(np.uint8), c) for c in range(CLASSES)]
    learner.learn_task(images, [f"thing {word}" for word in "abcdefghijklmnopqrst"])
    return learner


def make_files(folder: Path, count: int) -> list[Path]:
    """Writes `count` JPEGs of smooth noise."""
    draw = np.random.RandomState(1)
    files = [folder / f"{number:05}.jpg" for number in range(count)]
    for file in files:
        coarse = draw.randint(0, 256, (SIDE // 8, SIDE // 8, 3)).astype(np.uint8)
        Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, quality=90)
    return files


def make_candidates(learner: SeGPCL, files: Sequence[Path], workers: Sequence[int], batch_size: int) -> list[Candidate]:
    """Makes the candidates, after it has checked that all that predict find the same names."""
    classifier = learner.classifier()
    predictors = {count: FilePredictor(classifier, Question(3), batch_size, count) for count in workers}
    learner.config.inference.batch_size = batch_size
    expected = [[prediction.name for prediction in named] for named in learner.predict(list(files), 3)]
    for predictor in predictors.values():
        rows: list[PredictionRow] = [row for batch in predictor.rows(files) for row in batch]
        assert [[name for name, _ in row.named] for row in rows] == expected
    reader = predictors[workers[0]].reader
    backbone = classifier.backbone
    ready = [
        backbone.to_unit(batch.pixels) for batch in file_batches(files, reader, batch_size) if batch.pixels is not None
    ]

    @torch.no_grad()
    def encode() -> None:
        for pixels in ready:
            backbone.encode_image(pixels)

    def named(predictor: FilePredictor) -> Callable[[], object]:
        return lambda: [len(rows) for rows in predictor.rows(files)]

    return [
        Candidate("encode_image", encode),
        *(Candidate(f"predict, {count} workers", named(each)) for count, each in predictors.items()),
        Candidate("learner.predict", lambda: learner.predict(list(files), 3)),
        Candidate("decode", lambda: [len(batch.errors) for batch in file_batches(files, reader, batch_size)]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="torch device")
    parser.add_argument(
        "--model", default="glyph", help="the built-in model, or one of open_clip's, with random weights"
    )
    parser.add_argument("--images", type=int, default=512, help="number of files")
    parser.add_argument("--batch_size", type=int, default=64, help="images encoded together")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="numbers of worker processes to try")
    parser.add_argument("--quick", action="store_true", help="take 128 files and a few seconds; write no CSV")
    given = parser.parse_args()
    count = min(given.images, 128) if given.quick else given.images
    print_setting(f"image files named per second by {given.model}, {count} files of {SIDE} × {SIDE}", given.device)
    columns = [("model", 10), ("files", 6), ("candidate", 20), ("images/s", 9), ("p20", 9), ("p80", 9), ("of floor", 9)]
    table = Table("predict", given.device, columns, keep=not given.quick)
    with tempfile.TemporaryDirectory() as folder:
        files = make_files(Path(folder), count)
        candidates = make_candidates(make_learner(given.model, given.device), files, given.workers, given.batch_size)
        timings = measure(candidates, given.device, budget=4.0 if given.quick else 40.0)
    floor = timings["encode_image"]
    for name, time in timings.items():
        rates = (count / seconds for seconds in (time.median, time.p80, time.p20))
        table.add(given.model, count, name, *rates, floor.over(time).median)
    if not given.quick:
        print(f"appended to {table.name}.csv")


if __name__ == "__main__":
    main()
