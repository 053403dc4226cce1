"""Evaluation: accuracies of a learner on the scenario's test images after each task, on every path."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext import metrics
from segp_ext.config import PATHS, ScorePath
from segp_ext.data.images import Images
from segp_ext.data.scenario import Scenario
from segp_ext.learner import SeGPCL


@dataclass
class PathResult:
    """Accuracies of one path over a run, as fractions; see `segp_ext.metrics` for R, A and the metrics.

    Attributes:
        matrix: R, a lower triangle: row i holds tasks 0 to i.
        pooled: A_i.
        next_task: zero-shot accuracy on task i + 1 after task i, over that task's classes; None where it is not defined.
    """

    matrix: list[list[float]] = field(default_factory=list)
    pooled: list[float] = field(default_factory=list)
    next_task: list[float | None] = field(default_factory=list)

    def metrics(self) -> dict[str, float | None]:
        """Avg, Last, Forgetting, BWT and FWT, as fractions."""
        return {
            "avg": metrics.average_accuracy(self.pooled),
            "last": metrics.last_accuracy(self.pooled),
            "forgetting": metrics.forgetting(self.matrix),
            "bwt": metrics.backward_transfer(self.matrix),
            "fwt": metrics.forward_transfer(self.next_task),
        }

    def to_dict(self) -> dict[str, Any]:
        """Raw numbers and metrics, for JSON."""
        scores = self.metrics() if self.pooled else {}
        return {**scores, "A": self.pooled, "R": self.matrix, "next_task": self.next_task}


class Evaluator:
    """Scores learners on one scenario's test images, which it decodes once.

    Attributes:
        paths: results by path, one entry per evaluated task.
        prototype_distance: per task after the first, the mean cosine distance over old classes between the prototype and the mean
            feature of the class's test images in the current model: [before transfer, after transfer]. A diagnosis that uses
            old classes' test images; nothing learns from it.
    """

    def __init__(self, scenario: Scenario, learner: SeGPCL, images: list[Images] | None = None) -> None:
        self.scenario, self.learner = scenario, learner
        transform = learner.backbone.transform
        self.images = [Images(task.test, transform) for task in scenario.tasks] if images is None else images
        self.paths: dict[ScorePath, PathResult] = {path: PathResult() for path in PATHS}
        self.prototype_distance: list[list[float]] = []
        self._frozen: dict[int, tuple[Tensor, Tensor]] = {}

    def _features(self, task: int) -> tuple[Tensor, Tensor]:
        if self.learner.config.training.epochs > 0:
            return self.learner.encode(self.images[task])
        if task not in self._frozen:  # a model that never trains needs one pass in all
            self._frozen[task] = self.learner.encode(self.images[task])
        return self._frozen[task]

    def after_task(self) -> None:
        """Evaluates the learner after the task it has just learnt."""
        done = len(self.learner.task_sizes)
        starts = [sum(self.learner.task_sizes[:j]) for j in range(done)]
        hits: dict[ScorePath, list[float]] = {path: [] for path in PATHS}
        means: list[Tensor] = []
        for j in range(done):
            embedding, feature = self._features(j)
            target = self.images[j].labels.to(feature.device) + starts[j]
            for path in PATHS:
                predicted = self.learner.scores(embedding, feature, path).argmax(dim=1)
                hits[path].append(float((predicted == target).sum()))
            if j < done - 1:
                classes = range(starts[j], starts[j + 1])
                means.extend(feature[target == c].mean(dim=0) for c in classes)
        counts = [len(self.images[j]) for j in range(done)]
        for path, result in self.paths.items():
            result.matrix.append([hit / count for hit, count in zip(hits[path], counts, strict=True)])
            result.pooled.append(sum(hits[path]) / sum(counts))
            result.next_task.append(self._next_task_accuracy(done) if path == "text" else None)
        if means:
            self.prototype_distance.append(self._distances(torch.stack(means)))

    @torch.no_grad()
    def _next_task_accuracy(self, task: int) -> float | None:
        """Zero-shot accuracy on a task not learnt yet, over its own classes."""
        if task >= len(self.scenario.tasks):
            return None
        backbone, template = self.learner.backbone, self.learner.config.template
        names = self.scenario.tasks[task].class_names
        text = F.normalize(backbone.encode_text(backbone.tokenize([template.replace("{}", n) for n in names])), dim=-1)
        embedding, _ = self._features(task)
        predicted = (F.normalize(embedding, dim=-1) @ text.T).argmax(dim=1)
        return float((predicted == self.images[task].labels.to(predicted.device)).float().mean())

    def _distances(self, means: Tensor) -> list[float]:
        learner, old = self.learner, len(means)
        now = learner.prototypes[:old]
        before = now if learner.untransferred is None else learner.untransferred
        return [float((1 - F.cosine_similarity(p, means, dim=-1)).mean()) for p in (before, now)]
