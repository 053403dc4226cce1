"""Evaluation of a learner after each task: accuracies on the test images, on every path, and zero-shot ones on held-out sets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext.config import PATHS, ScorePath
from segp_ext.data.images import Images
from segp_ext.method.calibration import BINS, calibration_gaps
from segp_ext.method.checks import listed
from segp_ext.method.learner import SeGPCL
from segp_ext.method.prototypes import ClassMeans
from segp_ext.report.confusion import Confusion, confusion_of
from segp_ext.report.result import PathResult
from segp_ext.runtime.process_state import without_autocast
from segp_ext.runtime.timing import Timer


@dataclass
class EvaluationSet:
    """Test images and their classes.

    Attributes:
        class_names: names of the classes.
        images: test images, whose labels are places in `class_names`.
    """

    class_names: list[str]
    images: Images

    def __post_init__(self) -> None:
        self.class_names = listed(self.class_names)


@dataclass
class Evaluated:
    """Results of an `Evaluator` so far; its attributes of the same names describe them."""

    paths: dict[ScorePath, PathResult]
    prototype_distance: list[list[float]]
    retention: dict[str, list[float]]


class Evaluator:
    """Scores a learner on the test images of a scenario's tasks, and on data sets that the learner never learns.

    Args:
        learner: learner to score.
        tasks: test images of every task, in order.
        held_out: data sets that are never trained on, by name, for zero-shot retention.
        earlier: results until now, for a learner that goes on; None for a new one.
        evaluate_global: whether to measure the text path's global rows, before the first task and after each. For a learner that goes
            on, `earlier` decides: it has such rows or not.

    Attributes:
        paths: results by path, one entry per evaluated task. Confusions are of the last task evaluated.
        prototype_distance: per task after the first, [before transfer, after transfer], a mean cosine distance over old classes. The
            distance lies between a prototype and the mean feature of the class's test images in the current model. It is a
            diagnosis that uses old classes' test images; nothing learns from it.
        retention: for each held-out set, its zero-shot accuracy over its own classes: before the first task, then after each.
        timer: time of the phases "text" and "evaluation".

    Raises:
        ValueError: if global rows are measured and two class names of the tasks read the same to the text encoder. Also if `earlier`
            tells of another number of tasks than the learner has learnt.
    """

    @without_autocast()
    def __init__(
        self,
        learner: SeGPCL,
        tasks: Sequence[EvaluationSet],
        held_out: dict[str, EvaluationSet] | None = None,
        earlier: Evaluated | None = None,
        *,
        evaluate_global: bool = False,
    ) -> None:
        self.learner, self.tasks = learner, tasks
        self.held_out = held_out or {}
        self.timer = Timer(learner.backbone.stopwatch, learner.backbone.device)
        self._first = [0, *accumulate(len(task.class_names) for task in tasks)]
        self._first_image = [0, *accumulate(len(task.images) for task in tasks)]
        self._frozen: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {}
        self._pretrained: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._rows = (*PATHS, *(("auto",) if learner.frozen is not None else ()))
        begins = earlier is None
        told = 0 if earlier is None else len(earlier.paths["text"].pooled)
        if told != len(learner.task_sizes):
            raise ValueError(
                f"an evaluator must follow its learner from the first task on: the learner has learnt {len(learner.task_sizes)} tasks, "
                f"and `earlier` tells of {told}"
            )
        if earlier is None:
            retention = {name: [self._zero_shot_accuracy(name, held)] for name, held in self.held_out.items()}
            earlier = Evaluated({path: PathResult() for path in self._rows}, [], retention)
        self.paths, self.prototype_distance, self.retention = (
            earlier.paths,
            earlier.prototype_distance,
            earlier.retention,
        )
        self._global = evaluate_global if begins else bool(self.paths["text"].global_matrix)
        if begins and evaluate_global:
            with self.timer.phase("evaluation"):
                self._add_global(self._hits(None)[0]["global"])

    def _features(self, task: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yields (indices, embeddings, features) of this process's share of a task's test images."""
        images, backbone, reader = self.tasks[task].images, self.learner.backbone, self.learner.reader
        size = 4 * len(images) * (backbone.embed_dim + backbone.raw_dim)
        if self.learner.config.training.epochs > 0 or (task not in self._frozen and size > reader.memory):
            yield from self.learner.encode(images)
            return
        if task not in self._frozen:
            # A model that never trains needs one pass in all, if its features fit into memory.
            reader.memory -= size
            self._frozen[task] = [(i, v.cpu(), z.cpu()) for i, v, z in self.learner.encode(images)]
        for indices, embedding, feature in self._frozen[task]:
            yield indices, embedding.to(backbone.device), feature.to(backbone.device)

    def _features_in_pretrained(self, task: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (indices, raw features in the pre-trained model), batch by batch like `_features`."""
        images, backbone, reader = self.tasks[task].images, self.learner.backbone, self.learner.reader
        size = 4 * len(images) * backbone.raw_dim
        if task not in self._pretrained and size > reader.memory:
            yield from self.learner.encode_frozen(images)
            return
        if task not in self._pretrained:  # that model never changes
            reader.memory -= size
            self._pretrained[task] = [(i, z.cpu()) for i, z in self.learner.encode_frozen(images)]
        for indices, feature in self._pretrained[task]:
            yield indices, feature.to(backbone.device)

    @torch.no_grad()
    @without_autocast()
    def after_task(self) -> None:
        """Evaluates the learner after the task that it has just learnt."""
        learner = self.learner
        done = len(learner.task_sizes)
        with self.timer.phase("evaluation"):
            means = ClassMeans(self._first[done - 1], learner.prototypes, learner.config.prototypes.features == "unit")
            hits, predicted, errors = self._hits(means)
            counts = [len(task.images) for task in self.tasks]
            for path in self._rows:
                result, row = self.paths[path], hits[path][:done]
                result.matrix.append([hit / count for hit, count in zip(row, counts, strict=False)])
                result.pooled.append(sum(row) / sum(counts[:done]))
                follows = path == "text" and done < len(self.tasks) and len(self.tasks[done].class_names) > 1
                result.next_task.append(hits["next"][done] / counts[done] if follows else None)
                result.confusion = self._confusion(predicted[path])
                if path in errors:
                    result.calibration_error.append(errors[path])
            if self._global:
                self._add_global(hits["global"] if learner.config.training.epochs > 0 else None)
            if done > 1:
                self.prototype_distance.append(self._distances(means.read(learner.processes).prototypes))
            for name, held in self.held_out.items():
                self.retention[name].append(self._zero_shot_accuracy(name, held))

    @torch.no_grad()
    def _hits(
        self, means: ClassMeans | None
    ) -> tuple[dict[str, list[float]], dict[str, list[int]], dict[str, list[float]]]:
        """Scores test images of all processes, in one pass over their features.

        Args:
            means: takes old tasks' features; None for no such features.

        Returns:
            Three dicts. The first holds the number of images scored right in each task. Its keys are the paths, over the classes seen,
            and two scores of the text path. "next" scores the next task over its own classes, "global" all tasks over all classes.
            The second holds, by path, the predicted class of each image of the tasks learnt. The third holds, by path, the calibration
            error without temperature and with it; it is empty for a learner that held no images back.
        """
        learner, device = self.learner, self.learner.backbone.device
        done = len(learner.task_sizes)
        measures = self._global and (done == 0 or learner.config.training.epochs > 0)
        last = len(self.tasks) if measures else min(done + 1, len(self.tasks))
        unseen = [name for task in self.tasks[done:last] for name in task.class_names]
        text = [learner.text_embeddings(), *([learner.encode_names(unseen)] if unseen else [])]
        unit_text = F.normalize(torch.cat(text), dim=-1)
        rows = (*self._rows, "next", "global")
        hits = torch.zeros(len(rows), len(self.tasks), dtype=torch.float64, device=device)
        right = dict(zip(rows, hits, strict=True))
        predicted = torch.zeros(len(self._rows), self._first_image[done], dtype=torch.int64, device=device)
        gaps = torch.zeros(len(self._rows), 2, BINS, dtype=torch.float64, device=device)
        for j, task in enumerate(self.tasks[:last]):
            own = slice(self._first[j], self._first[j + 1])
            pretrained = self._features_in_pretrained(j) if "auto" in self._rows and j < done else None
            for indices, embedding, feature in self._features(j):
                label = task.images.labels[indices].to(device)
                target, unit = label + own.start, F.normalize(embedding, dim=-1)
                if j < done:
                    on_text, visual = (learner.scores(embedding, feature, path) for path in ("text", "visual"))
                    place = indices.to(device) + self._first_image[j]
                    of_paths = [on_text, visual, learner.classifier().dual(on_text, visual)]
                    if pretrained is not None:
                        of_paths.append(learner.scores(embedding, feature, "auto", next(pretrained)[1]))
                    for row, (path, scores) in enumerate(zip(self._rows, of_paths, strict=True)):
                        right[path][j] += _right(scores, target)
                        predicted[row, place] = scores.argmax(dim=1)
                        if learner.calibration is not None:
                            for way, temperature in enumerate((1.0, learner.calibration.temperature(path))):
                                gaps[row, way] += calibration_gaps((scores / temperature).softmax(dim=1), target)
                if means is not None and j < done - 1:
                    means.add(feature, target)
                if j == done > 0:
                    right["next"][j] += _right(unit @ unit_text[own].T, label)
                if measures:
                    right["global"][j] += _right(unit @ unit_text.T, target)
        found = learner.processes.sum(hits)
        for j, total in enumerate(found.sum(dim=0).tolist()):
            _check_hits(total, f"task {j + 1}")
        # Each image is one process's, and the others' rows are zero there.
        classes = learner.processes.sum(predicted).tolist()
        errors: dict[str, list[float]] = {}
        if learner.calibration is not None and done:
            totals = learner.processes.sum(gaps).abs().sum(dim=2) / self._first_image[done]
            errors = dict(zip(self._rows, totals.tolist(), strict=True))
        return dict(zip(rows, found.tolist(), strict=True)), dict(zip(self._rows, classes, strict=True)), errors

    def _confusion(self, predicted: list[int]) -> Confusion:
        """Counts predicted classes of the test images of all tasks learnt."""
        done = len(self.learner.task_sizes)
        true = [
            label + first
            for task, first in zip(self.tasks[:done], self._first, strict=False)
            for label in task.images.labels.tolist()
        ]
        return confusion_of(true, predicted)

    def _add_global(self, hits: list[float] | None) -> None:
        """Adds a global row: from the hits on each task, or for a frozen model (None) the row before once more."""
        text = self.paths["text"]
        if hits is None:
            text.global_matrix.append([*text.global_matrix[-1]])
            text.global_pooled.append(text.global_pooled[-1])
            return
        counts = [len(task.images) for task in self.tasks]
        text.global_matrix.append([hit / count for hit, count in zip(hits, counts, strict=True)])
        text.global_pooled.append(sum(hits) / sum(counts))

    @torch.no_grad()
    def _zero_shot_accuracy(self, name: str, test: EvaluationSet) -> float:
        """Measures the accuracy of the text path on a set that is never learnt, over the set's own classes."""
        learner = self.learner
        text = F.normalize(learner.encode_names(test.class_names), dim=-1)
        hits = torch.zeros((), dtype=torch.float64, device=text.device)
        for indices, embedding, _ in learner.encode(test.images):
            hits += _right(F.normalize(embedding, dim=-1) @ text.T, test.images.labels[indices].to(text.device))
        found = float(learner.processes.sum(hits))
        _check_hits(found, name)
        return found / len(test.images)

    def _distances(self, means: Tensor) -> list[float]:
        """Measures `prototype_distance` of the last task, given the mean features of old classes `[C, Dr]`."""
        learner, old = self.learner, len(means)
        now = learner.prototypes[:old]
        before = now if learner.untransferred is None else learner.untransferred
        return [float((1 - F.cosine_similarity(p, means, dim=-1)).mean()) for p in (before, now)]


def _right(scores: Tensor, target: Tensor) -> Tensor:
    """Counts rows of `scores [B, C]` whose highest score is at their `target [B]`; NaN if a score is not finite.

    It does not wait for a GPU.
    """
    return (scores.argmax(dim=1) == target).sum() + 0 * scores.amax().double()


def _check_hits(hits: float, which: str) -> None:
    """Raises FloatingPointError if scores were not finite, so that `_right` gave NaN."""
    if math.isnan(hits):
        raise FloatingPointError(
            f"the scores of test images of {which} are not finite; with model.precision fp16, bf16 or fp32 may help"
        )
