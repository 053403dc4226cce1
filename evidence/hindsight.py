"""Measures what the visual path would score if no statistics of old classes were lost.

    python -m evidence.hindsight COMPARISON --rows ... --seeds ... --out FILE.md

COMPARISON is a folder that segp_ext.compare wrote; its rows must have `prototypes.score mahalanobis`. The final model of each run scores
all test images three times:

- with the prototypes and covariances at the run's end
- with covariances measured again on the training images of all tasks
- with both measured again on these images

The last two use old images, which no method may keep. They tell how much a better transfer of statistics could gain. What is missing
beyond that has other causes.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from evidence.runs import arguments, of_every_run, opened
from evidence.tables import write_table
from segp_ext.data.images import Images
from segp_ext.method.heads import Gaussians
from segp_ext.method.prototypes import ClassMeans
from segp_ext.report.comparison import Difference
from segp_ext.report.table import spread
from segp_ext.runtime.processes import Processes

KINDS = ("as the run ended", "covariances anew", "covariances and prototypes anew")


def accuracies(run: Path) -> list[float]:
    """Computes the accuracies of a run's final model on the visual path, over all classes, in the order of `KINDS`.

    Raises:
        ValueError: if the run's visual path has no covariances.
    """
    learner, scenario = opened(run)
    settings = learner.config.prototypes
    if settings.score != "mahalanobis":
        raise ValueError(f"{run} has prototypes.score {settings.score}; mahalanobis is needed")
    width, device, unit = learner.backbone.raw_dim, learner.backbone.device, settings.features == "unit"
    anew, means = Gaussians(width, device, learner.config), []
    tested: list[tuple[Tensor, Tensor, Tensor]] = []
    first = 0
    for task in scenario.tasks:
        of_task = ClassMeans(len(task.class_names), learner.prototypes, unit)
        anew.begin(len(task.class_names))
        images = Images(task.train, learner.reader)
        for indices, _, feature in learner.encode(images):
            label = images.labels[indices].to(device)
            of_task.add(feature, label)
            anew.add(feature, label, indices)
        anew.finish(Processes())
        means.append(of_task.read(Processes()).prototypes)
        images = Images(task.test, learner.reader)
        tested += [(v, z, first + images.labels[indices].to(device)) for indices, v, z in learner.encode(images)]
        first += len(task.class_names)
    embedding, feature, label = (torch.cat(parts) for parts in zip(*tested, strict=True))
    scores = (
        learner.scores(embedding, feature, "visual"),
        anew.scores(feature, learner.prototypes, learner.backbone.logit_scale),
        anew.scores(feature, torch.cat(means), learner.backbone.logit_scale),
    )
    return [float((own.argmax(dim=1) == label).double().mean()) for own in scores]


def main() -> None:
    parser = arguments("evidence.hindsight", __doc__)
    options = parser.parse_args()
    table = [["method", "old classes' statistics", "Last, visual path", "more than as it ended"]]
    for row, found in of_every_run(parser, options, accuracies).items():
        for kind, own in zip(KINDS, zip(*found, strict=True), strict=True):
            more = "–" if kind == KINDS[0] else str(Difference.of([a - b[0] for a, b in zip(own, found, strict=True)]))
            table.append([row, kind, spread(own), more])
    write_table(options.out, parser.prog, table)


if __name__ == "__main__":
    main()
