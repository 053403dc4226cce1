"""Checks whether other test images would have led to the same conclusion, by an interval over test images.

    python -m evidence.paired COMPARISON --rows ... --seeds ... --out FILE.md

COMPARISON is a folder that segp_ext.compare wrote. Its table shows how much a difference of Last varies from class order to class order.
Where all orders are tested on the same images, that interval holds for these images alone.

Here the final model of each run predicts all test images again, on its method's path of prediction. For each image, the difference from
the first row is averaged over the orders. The 95 % interval is taken over images (Student's t). Images of one class that are the same,
pixel by pixel, count as one image in all orders.
"""

from __future__ import annotations

import hashlib
import statistics
from pathlib import Path

import torch

from evidence.runs import arguments, of_every_run, opened
from evidence.tables import write_table
from segp_ext.data.images import Images
from segp_ext.report.comparison import Difference
from segp_ext.report.table import spread


@torch.no_grad()
def hits(run: Path) -> dict[str, list[bool]]:
    """Tells for each test image whether the run's final model predicts its class, over all classes.

    Returns:
        By a hash of the image and its class: one value for each of the equal images.
    """
    learner, scenario = opened(run)
    found: dict[str, list[bool]] = {}
    first = 0
    for task in scenario.tasks:
        images = Images(task.test, learner.reader)
        for indices, pixels in images.read(images.batches(learner.config.inference.batch_size)):
            best = learner.logits(learner.backbone.to_unit(pixels)).argmax(dim=1).tolist()
            for image, label, guess in zip(pixels, images.labels[indices].tolist(), best, strict=True):
                name = hashlib.sha256(task.class_names[label].encode() + image.cpu().numpy().tobytes()).hexdigest()
                found.setdefault(name, []).append(guess == first + label)
        first += len(task.class_names)
    return found


def difference(own: list[dict[str, list[bool]]], others: list[dict[str, list[bool]]]) -> Difference:
    """Computes the accuracy of the runs `own` minus that of the runs `others`, paired by order and image, with the interval over images.

    Args:
        own: the result of `hits` for each order.
        others: the same, in the same orders.

    Raises:
        ValueError: if the runs were not all tested on the same images.
    """
    apart: dict[str, list[float]] = {}
    for a, b in zip(own, others, strict=True):
        if not a.keys() == b.keys() == own[0].keys():
            raise ValueError(
                "its runs were not all tested on the same images; their interval over orders covers the choice of images already"
            )
        for name in a:
            apart.setdefault(name, []).append(statistics.fmean(a[name]) - statistics.fmean(b[name]))
    return Difference.of([statistics.fmean(values) for values in apart.values()])


def main() -> None:
    parser = arguments("evidence.paired", __doc__)
    options = parser.parse_args()
    runs = of_every_run(parser, options, hits)
    first = options.rows[0]
    lasts = {
        row: [statistics.fmean(hit for of_image in run.values() for hit in of_image) for run in own]
        for row, own in runs.items()
    }
    table = [["method", "Last", f"− {first}'s, interval over orders", "interval over images"]]
    for row, own in runs.items():
        try:
            of_images = difference(own, runs[first])
        except ValueError as error:
            parser.error(f"{row}: {error}")
        of_orders = Difference.of([a - b for a, b in zip(lasts[row], lasts[first], strict=True)])
        apart = ["–", "–"] if row == first else [str(of_orders), str(of_images)]
        table.append([row, spread(lasts[row]), *apart])
    write_table(options.out, parser.prog, table)


if __name__ == "__main__":
    main()
