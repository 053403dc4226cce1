"""Would other test images have said the same? `python -m evidence.paired COMPARISON --rows ... --seeds ... --out FILE.md`.

COMPARISON is a folder that segp_ext.compare wrote. Its table says how much a difference of Last varies from order to order; where all
orders are tested on the same images, that holds for these images alone. Here the final model of each run predicts all test images again,
on the path by which its method predicts. Differences from the first row are then averaged over the orders image by image, and their 95 %
interval is that over images (Student's t; images that are the same, pixel by pixel, count as one in all orders).
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
from pathlib import Path

import torch

from segp_ext.command_line import read_settings
from segp_ext.compare import Row
from segp_ext.comparison import Difference, spread
from segp_ext.config import Config, from_dict
from segp_ext.data import load_scenario
from segp_ext.data.images import Images
from segp_ext.learner import SeGPCL
from segp_ext.sealed import write_atomically


@torch.no_grad()
def hits(run: Path) -> dict[str, list[bool]]:
    """Whether the run's final model predicts the class of each test image, over all classes; by a hash of the image and its class."""
    config = from_dict(Config, read_settings(run / "config.yaml"))
    learner = SeGPCL.load(run / "checkpoints/latest", config.model.device)
    found: dict[str, list[bool]] = {}
    first = 0
    with learner.backbone.merged():
        for task in load_scenario(config.data).tasks:
            images = Images(task.test, learner.reader)
            for indices, pixels in images.read(images.batches(learner.config.inference.batch_size)):
                embedding, feature = learner.backbone.encode_image(learner.backbone.to_unit(pixels))
                best = learner.scores(embedding, feature, learner.config.inference.path).argmax(dim=1).tolist()
                for image, label, guess in zip(pixels, images.labels[indices].tolist(), best, strict=True):
                    name = hashlib.sha256(task.class_names[label].encode() + image.cpu().numpy().tobytes()).hexdigest()
                    found.setdefault(name, []).append(guess == first + label)
            first += len(task.class_names)
    return found


def difference(own: list[dict[str, list[bool]]], others: list[dict[str, list[bool]]]) -> Difference:
    """Of the accuracy of `own` runs from that of `others`, paired by order and image, with the interval over images.

    Raises:
        ValueError: if two runs of an order were tested on different images.
    """
    apart: dict[str, list[float]] = {}
    for a, b in zip(own, others, strict=True):
        if a.keys() != b.keys():
            raise ValueError("its test images are not those of the first row")
        for name in a:
            apart.setdefault(name, []).append(statistics.fmean(a[name]) - statistics.fmean(b[name]))
    return Difference.of([statistics.fmean(values) for values in apart.values()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path)
    parser.add_argument(
        "--rows", nargs="+", required=True, help="methods as segp_ext.compare has them, the reference first"
    )
    parser.add_argument("--seeds", nargs="+", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="file for the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    runs, apart = {}, {}
    for row in options.rows:
        try:
            runs[row] = [hits(Row(row).folder(options.comparison, seed)) for seed in options.seeds]
            apart[row] = difference(runs[row], runs[options.rows[0]])
        except (OSError, ValueError) as error:
            parser.error(f"{row}: {error}")
    table = [
        f"| method | Last | − {options.rows[0]}'s, interval over orders | interval over images |",
        "|---|---:|---:|---:|",
    ]
    lasts = {
        row: [statistics.fmean(hit for of_image in run.values() for hit in of_image) for run in own]
        for row, own in runs.items()
    }
    for row in runs:
        of_orders = Difference.of([a - b for a, b in zip(lasts[row], lasts[options.rows[0]], strict=True)])
        columns = "– | –" if row == options.rows[0] else f"{of_orders} | {apart[row]}"
        table.append(f"| {row} | {spread(lasts[row])} | {columns} |")
    write_atomically(options.out, ("\n".join(table) + "\n").encode())
    print("\n".join(table))


if __name__ == "__main__":
    main()
