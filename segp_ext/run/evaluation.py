"""Evaluation of a learner after each task: accuracies on the test images, on every path, and zero-shot ones on held-out sets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext.clip.wording import Wordings
from segp_ext.config import PATHS, ScorePath
from segp_ext.data.images import Images
from segp_ext.method.calibration import BINS, calibration_gaps
from segp_ext.method.checks import listed
from segp_ext.method.learner import SeGPCL
from segp_ext.method.open_names import OpenNames, gated
from segp_ext.method.prototypes import ClassMeans
from segp_ext.method.scores import Features
from segp_ext.report.confusion import Confusion, confusion_of
from segp_ext.report.result import PathResult, WholeSetting
from segp_ext.runtime.process_state import without_autocast
from segp_ext.runtime.timing import Timer


@dataclass
class EvaluationSet:
    """Test images and their classes.

    Attributes:
        class_names: names of the classes.
        images: test images, whose labels are places in `class_names`.
        wording: how the text encoder reads classes, by name; the others have the learner's template.
    """

    class_names: list[str]
    images: Images
    wording: Wordings = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.class_names = listed(self.class_names)


@dataclass
class Evaluated:
    """Results of an `Evaluator` so far; its attributes of the same names describe them."""

    paths: dict[ScorePath, PathResult]
    prototype_distance: list[list[float]]
    retention: dict[str, list[float]]


class _Hits(NamedTuple):
    """Numbers of test images scored right, and what else one pass over them gives.

    Attributes:
        seen: by path, images of each task scored right over the classes seen.
        whole: by path and setting, images of each task scored right.
        next_task: images of the next task that the text path scores right over its own classes.
        predicted: by path, the predicted class of each image of the tasks learnt.
        errors: by path, the calibration error without temperature and with it; empty for a learner that held no images back.
    """

    seen: dict[str, list[float]]
    whole: dict[str, dict[WholeSetting, list[float]]]
    next_task: float
    predicted: dict[str, list[int]]
    errors: dict[str, list[float]]


class Evaluator:
    """Scores a learner on the test images of a scenario's tasks, and on data sets that the learner never learns.

    Args:
        learner: learner to score.
        tasks: test images of every task, in order.
        held_out: data sets that are never trained on, by name, for zero-shot retention.
        earlier: results until now, for a learner that goes on; None for a new one.
        evaluate_global: whether to score all tasks, before the first task and after each: over all class names, and over the names of
            their own task. For a learner that goes on, `earlier` decides: it has such rows or not.

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
        places: dict[str, int] = {}
        self._seen = [0]  # classes of the first tasks
        for task in tasks:
            for name in task.class_names:
                places.setdefault(name, len(places))
            self._seen.append(len(places))
        self._names = [*places]
        self._wording = {name: own for task in reversed(tasks) for name, own in task.wording.items()}
        device = learner.backbone.device
        self._places = [torch.tensor([places[name] for name in task.class_names], device=device) for task in tasks]
        self._first_image = [0, *accumulate(len(task.images) for task in tasks)]
        self._frozen: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {}
        self._pretrained: dict[int, list[tuple[Tensor, Tensor]]] = {}
        self._frozen_text: Tensor | None = None
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
        text = self.paths["text"]
        self._global = evaluate_global if begins else bool(text.global_matrix)
        self._whole = self._global if begins else bool(text.whole)  # a version before did not measure these
        if begins and evaluate_global:
            with self.timer.phase("evaluation"):
                self._add_whole(self._hits(None).whole)

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
            means = ClassMeans(self._seen[done - 1], learner.prototypes, learner.config.prototypes.features == "unit")
            found = self._hits(means)
            counts = [len(task.images) for task in self.tasks]
            for path in self._rows:
                result, row = self.paths[path], found.seen[path][:done]
                result.matrix.append([hit / count for hit, count in zip(row, counts, strict=False)])
                result.pooled.append(sum(row) / sum(counts[:done]))
                follows = path == "text" and done < len(self.tasks) and len(self.tasks[done].class_names) > 1
                result.next_task.append(found.next_task / counts[done] if follows else None)
                result.confusion = self._confusion(found.predicted[path])
                if path in found.errors:
                    result.calibration_error.append(found.errors[path])
            if self._global:
                self._add_whole(found.whole)
            if done > 1:
                self.prototype_distance.append(self._distances(means.read(learner.processes).prototypes))
            for name, held in self.held_out.items():
                self.retention[name].append(self._zero_shot_accuracy(name, held))

    @torch.no_grad()
    def _hits(self, means: ClassMeans | None) -> _Hits:
        """Scores test images of all processes, in one pass over their features.

        Args:
            means: takes old tasks' features; None for no such features.
        """
        learner, device = self.learner, self.learner.backbone.device
        done = len(learner.task_sizes)
        last = len(self.tasks) if self._global else min(done + 1, len(self.tasks))
        names = self._open_names(self._names[self._seen[done] : self._seen[last]])
        right = torch.zeros(3, len(self._rows), len(self.tasks), dtype=torch.float64, device=device)
        seen, everything, known = right
        predicted = torch.zeros(len(self._rows), self._first_image[done], dtype=torch.int64, device=device)
        gaps = torch.zeros(len(self._rows), 2, BINS, dtype=torch.float64, device=device)
        gate = learner.config.inference.gate is not None and done > 0
        for j, task in enumerate(self.tasks[:last]):
            places, open_set = self._places[j], self._global or j == done
            needs_pretrained = ("auto" in self._rows and done > 0 and (j < done or open_set)) or (gate and open_set)
            pretrained = self._features_in_pretrained(j) if needs_pretrained else None
            for indices, embedding, feature in self._features(j):
                label = task.images.labels[indices].to(device)
                target = places[label]
                features = Features(embedding, feature, None if pretrained is None else next(pretrained)[1])
                if j < done:
                    of_paths = self._scores_of_paths(features)
                    place = indices.to(device) + self._first_image[j]
                    for row, (path, scores) in enumerate(zip(self._rows, of_paths, strict=True)):
                        seen[row, j] += _right(scores, target)
                        predicted[row, place] = scores.argmax(dim=1)
                        if learner.calibration is not None:
                            for way, temperature in enumerate((1.0, learner.calibration.temperature(path))):
                                gaps[row, way] += calibration_gaps((scores / temperature).softmax(dim=1), target)
                if means is not None and j < done - 1:
                    means.add(feature, target)
                if open_set:
                    for row, scores in enumerate(self._open_scores(features, names)):
                        everything[row, j] += _right(scores, target)
                        known[row, j] += _right(scores[:, places], label)
        found = learner.processes.sum(right)
        for j, total in enumerate(found.sum(dim=(0, 1)).tolist()):
            _check_hits(total, f"task {j + 1}")
        # Each image is one process's, and the others' rows are zero there.
        classes = learner.processes.sum(predicted).tolist()
        errors: dict[str, list[float]] = {}
        if learner.calibration is not None and done:
            totals = learner.processes.sum(gaps).abs().sum(dim=2) / self._first_image[done]
            errors = dict(zip(self._rows, totals.tolist(), strict=True))
        of_seen, of_all, of_known = (dict(zip(self._rows, hits, strict=True)) for hits in found.tolist())
        next_task = of_known["text"][done] if done < len(self.tasks) else 0.0
        whole: dict[str, dict[WholeSetting, list[float]]] = {
            path: {"global": of_all[path], "task-known": of_known[path]} for path in self._rows
        }
        return _Hits(of_seen, whole, next_task, dict(zip(self._rows, classes, strict=True)), errors)

    def _open_names(self, others: list[str]) -> OpenNames:
        """Encodes the class names of later tasks beside the learnt ones; a model that never trains encodes all names once."""
        learner = self.learner
        if learner.config.training.epochs > 0 or not self._whole:
            return learner.classifier().open_names(others, self._wording)
        if self._frozen_text is None:
            self._frozen_text = learner.encode_names(self._names, self._wording)
        untouched = None if learner.config.inference.gate is None else self._frozen_text  # it is the model itself
        return OpenNames(self._frozen_text, len(learner.class_names), untouched)

    def _scores_of_paths(self, features: Features) -> list[Tensor]:
        """Logits of each path over the classes learnt."""
        learner = self.learner
        assert features.embedding is not None and features.raw is not None
        on_text, visual = (learner.scores(features.embedding, features.raw, path) for path in ("text", "visual"))
        found = [on_text, visual, learner.classifier().dual(on_text, visual)]
        if "auto" in self._rows:
            found.append(learner.scores(features.embedding, features.raw, "auto", features.frozen))
        return found

    def _open_scores(self, features: Features, names: OpenNames) -> Iterator[Tensor]:
        """Yields the scores of each path over the class names of all tasks; names that are not learnt are scored by text alone."""
        classifier, scale = self.learner.classifier(), self.learner.backbone.logit_scale
        untouched = far = None
        if classifier.untouched is not None and 0 < names.learnt < len(names.text):
            assert features.frozen is not None
            embedding = classifier.untouched.project(features.frozen)
            untouched = names.of_text(embedding, scale, classifier.temperature("text"), untouched=True)
            far = classifier.is_far(features)
        for path in self._rows:
            scores = classifier.open_scores(features, path, names)
            yield scores if untouched is None or far is None else gated(scores, untouched, far, names.learnt)

    def _confusion(self, predicted: list[int]) -> Confusion:
        """Counts predicted classes of the test images of all tasks learnt."""
        done = len(self.learner.task_sizes)
        true = [
            place
            for task, places in zip(self.tasks[:done], self._places, strict=False)
            for place in places.cpu()[task.images.labels].tolist()
        ]
        return confusion_of(true, predicted)

    def _add_whole(self, hits: Mapping[str, Mapping[WholeSetting, Sequence[float]]]) -> None:
        """Adds a row over all tasks to each path, in each setting, and to the text path's global numbers."""
        counts = [len(task.images) for task in self.tasks]
        for path in self._rows:
            for setting, right in hits[path].items():
                row = [hit / count for hit, count in zip(right, counts, strict=True)]
                if self._whole:
                    self.paths[path].whole.setdefault(setting, []).append(row)
                if (path, setting) == ("text", "global"):
                    self.paths["text"].global_matrix.append(row)
                    self.paths["text"].global_pooled.append(sum(right) / sum(counts))

    @torch.no_grad()
    def _zero_shot_accuracy(self, name: str, test: EvaluationSet) -> float:
        """Measures the accuracy of the text path on a set that is never learnt, over the set's own classes."""
        learner = self.learner
        untouched = learner.classifier().untouched  # which scores what is not learnt, where there is a gate
        text = F.normalize(learner.encode_names(test.class_names, test.wording, untouched), dim=-1)
        encoded = ((indices, embedding) for indices, embedding, _ in learner.encode(test.images))
        if untouched is not None:
            encoded = ((indices, untouched.project(feature)) for indices, feature in learner.encode_frozen(test.images))
        hits = torch.zeros((), dtype=torch.float64, device=text.device)
        for indices, embedding in encoded:
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
