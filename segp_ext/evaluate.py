"""Evaluation: accuracies of a learner on the scenario's test images after each task, on every path, and zero-shot on held-out sets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext import metrics
from segp_ext.config import PATHS, ScorePath
from segp_ext.data.images import Images
from segp_ext.learner import SeGPCL
from segp_ext.prototypes import ClassMeans
from segp_ext.timing import Timer


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


@dataclass
class EvaluationSet:
    """Test images whose labels index `class_names`."""

    class_names: list[str]
    images: Images


@dataclass
class Evaluated:
    """What an `Evaluator` has found so far; see its attributes."""

    paths: dict[ScorePath, PathResult]
    prototype_distance: list[list[float]]
    retention: dict[str, list[float]]


class Evaluator:
    """Scores a learner on the test images of a scenario's tasks, and on sets that it never learns.

    Args:
        learner: whom to score.
        tasks: test images of every task, in order.
        held_out: data sets that are never trained on, by name, for zero-shot retention.
        earlier: what was found before, of a learner that goes on; nothing by default.

    Attributes:
        paths: results by path, one entry per evaluated task.
        prototype_distance: per task after the first, the mean cosine distance over old classes between the prototype and the mean
            feature of the class's test images in the current model: [before transfer, after transfer]. A diagnosis that uses
            old classes' test images; nothing learns from it.
        retention: for each held-out set, its zero-shot accuracy over its own classes: before the first task, then after each.
        timer: time of the phases "text" and "evaluation".
    """

    def __init__(
        self,
        learner: SeGPCL,
        tasks: Sequence[EvaluationSet],
        held_out: dict[str, EvaluationSet] | None = None,
        earlier: Evaluated | None = None,
    ) -> None:
        self.learner, self.tasks = learner, tasks
        self.held_out = held_out or {}
        self.timer = Timer(learner.backbone.stopwatch, learner.backbone.device)
        self._frozen: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {}
        if earlier is None:
            retention = {name: [self._zero_shot_accuracy(name, held)] for name, held in self.held_out.items()}
            earlier = Evaluated({path: PathResult() for path in PATHS}, [], retention)
        self.paths, self.prototype_distance, self.retention = (
            earlier.paths,
            earlier.prototype_distance,
            earlier.retention,
        )

    def _features(self, task: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        images, backbone, reader = self.tasks[task].images, self.learner.backbone, self.learner.reader
        size = 4 * len(images) * (backbone.embed_dim + backbone.raw_dim)
        if self.learner.config.training.epochs > 0 or (task not in self._frozen and size > reader.memory):
            yield from self.learner.encode(images)
            return
        if (
            task not in self._frozen
        ):  # a model that never trains needs one pass in all, where its features fit into memory
            reader.memory -= size
            self._frozen[task] = [(i, v.cpu(), z.cpu()) for i, v, z in self.learner.encode(images)]
        for indices, embedding, feature in self._frozen[task]:
            yield indices, embedding.to(backbone.device), feature.to(backbone.device)

    @torch.no_grad()
    def after_task(self) -> None:
        """Evaluates the learner after the task it has just learnt."""
        learner = self.learner
        sizes, device = learner.task_sizes, learner.backbone.device
        done, beta = len(sizes), learner.config.inference.beta
        starts = [sum(sizes[:j]) for j in range(done)]
        with self.timer.phase("text"):
            learner.text_embeddings()
        with self.timer.phase("evaluation"), learner.backbone.merged():
            hits = torch.zeros(len(PATHS), done, dtype=torch.float64, device=device)
            means = ClassMeans(starts[-1], learner.backbone, learner.config.prototypes.features == "unit")
            for j in range(done):
                labels = self.tasks[j].images.labels
                for indices, embedding, feature in self._features(j):
                    target = labels[indices].to(device) + starts[j]
                    text, visual = (learner.scores(embedding, feature, path) for path in ("text", "visual"))
                    for row, scores in enumerate((text, visual, text + beta * visual)):
                        hits[row, j] += _hits(scores, target)
                    if j < done - 1:
                        means.add(feature, target)
            found = learner.processes.sum(hits).tolist()
            counts = [len(self.tasks[j].images) for j in range(done)]
            for j in range(done):
                _check_hits(sum(row[j] for row in found), f"task {j + 1}")
            for path, row in zip(PATHS, found, strict=True):
                result = self.paths[path]
                result.matrix.append([hit / count for hit, count in zip(row, counts, strict=True)])
                result.pooled.append(sum(row) / sum(counts))
                follows = path == "text" and done < len(self.tasks)
                result.next_task.append(
                    self._zero_shot_accuracy(f"task {done + 1}", self.tasks[done], done) if follows else None
                )
            if done > 1:
                self.prototype_distance.append(self._distances(means.read(learner.processes)))
            for name, held in self.held_out.items():
                self.retention[name].append(self._zero_shot_accuracy(name, held))

    @torch.no_grad()
    def _zero_shot_accuracy(self, name: str, test: EvaluationSet, task: int | None = None) -> float:
        """Accuracy of the text path over the set's own classes; `task` is its index if it is one of `tasks`."""
        learner = self.learner
        text = F.normalize(learner.encode_names(test.class_names), dim=-1)
        hits = torch.zeros((), dtype=torch.float64, device=text.device)
        for indices, embedding, _ in learner.encode(test.images) if task is None else self._features(task):
            hits += _hits(F.normalize(embedding, dim=-1) @ text.T, test.images.labels[indices].to(text.device))
        found = float(learner.processes.sum(hits))
        _check_hits(found, name)
        return found / len(test.images)

    def _distances(self, means: Tensor) -> list[float]:
        learner, old = self.learner, len(means)
        now = learner.prototypes[:old]
        before = now if learner.untransferred is None else learner.untransferred
        return [float((1 - F.cosine_similarity(p, means, dim=-1)).mean()) for p in (before, now)]


def _hits(scores: Tensor, target: Tensor) -> Tensor:
    """How many rows of `scores [B, C]` are highest at their `target [B]`; NaN if a score is not finite, found without waiting for a GPU."""
    return (scores.argmax(dim=1) == target).sum() + 0 * scores.amax().double()


def _check_hits(hits: float, which: str) -> None:
    if math.isnan(hits):
        raise FloatingPointError(
            f"the scores of test images of {which} are not finite; with model.precision fp16, bf16 or fp32 may help"
        )
