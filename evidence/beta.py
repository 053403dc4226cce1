"""Measures how the weight beta of the visual path changes the accuracy of the dual path, text + beta · visual.

    python -m evidence.beta COMPARISON --rows ... --seeds ... --betas ... --out FILE.md

COMPARISON is a folder that segp_ext.compare wrote. The final model of each run scores all test images once. The dual path is then computed
with each beta in turn. Beta acts in prediction alone: with another beta, a run would have learnt the same model.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from evidence.runs import arguments, of_every_run, opened
from evidence.tables import write_table
from segp_ext.data.images import Images
from segp_ext.report.comparison import Difference
from segp_ext.report.table import spread


def accuracies(betas: list[float], run: Path) -> list[float]:
    """Computes the accuracy of a run's final model on the dual path, over all classes and all test images.

    Returns:
        One fraction for each beta, and last the one with the run's own beta.
    """
    learner, scenario = opened(run)
    betas = [*betas, learner.config.inference.beta]
    hits, count, first = torch.zeros(len(betas), dtype=torch.float64), 0, 0
    for task in scenario.tasks:
        images = Images(task.test, learner.reader)
        for indices, embedding, feature in learner.encode(images):
            text, visual = (learner.scores(embedding, feature, path) for path in ("text", "visual"))
            label = first + images.labels[indices].to(text.device)
            hits += torch.stack([((text + b * visual).argmax(dim=1) == label).sum() for b in betas]).cpu()
        count += len(images)
        first += len(task.class_names)
    return (hits / count).tolist()


def main() -> None:
    parser = arguments("evidence.beta", __doc__)
    parser.add_argument(
        "--betas", nargs="+", type=float, default=[0, 0.03, 0.1, 0.3, 1, 3, 10], help="weights of the visual path"
    )
    options = parser.parse_args()
    table = [["method", "beta", "Last, dual path", "− that with its own"]]
    for row, found in of_every_run(parser, options, partial(accuracies, options.betas)).items():
        # The last accuracy is with the run's own beta; it gets no row.
        for beta, own in zip(options.betas, zip(*found, strict=True), strict=False):
            apart = Difference.of([a - values[-1] for a, values in zip(own, found, strict=True)])
            table.append([row, f"{beta:g}", spread(own), str(apart)])
    write_table(options.out, parser.prog, table)


if __name__ == "__main__":
    main()
