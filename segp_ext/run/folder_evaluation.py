"""Measures a learner on a folder whose class folders label its images."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from segp_ext.config import ScorePath
from segp_ext.data.labelled_folder import LabelledFolder, places_among
from segp_ext.method.answers import NOT_FINITE
from segp_ext.method.classifier import Classifier
from segp_ext.report import evaluation_result as report
from segp_ext.report.calibration_bins import calibration_bins, expected_error
from segp_ext.report.confusion import class_accuracy, confusion_of
from segp_ext.report.detection import area_under_curve, false_positive_rate
from segp_ext.run.installation import versions
from segp_ext.run.readable_files import file_reader, read_files
from segp_ext.runtime.process_state import without_autocast

MISTAKES = 24
"""Mistakes that are kept."""


@dataclass(frozen=True)
class Asked:
    """What a learner is asked for.

    Attributes:
        learner: Name of the learner, for the report.
        path: Path whose scores are used; the learner's own if None.
        batch_size: Images encoded together; the learner's setting if None.
        workers: Processes that decode ahead of the model; the learner's setting if None.
    """

    learner: str
    path: ScorePath | None = None
    batch_size: int | None = None
    workers: int | None = None


class Answers(NamedTuple):
    """What a learner says of some images; float64 and int64, on the CPU.

    Attributes:
        predicted: Place of the best class `[B]`.
        best: Its probability `[B]`.
        raw_best: The best probability at temperature 1 `[B]`.
        known: Score of belonging to a learnt class `[B]`, higher is likelier.
        probabilities: Probabilities of all classes `[B, C]`.
    """

    predicted: Tensor
    best: Tensor
    raw_best: Tensor
    known: Tensor
    probabilities: Tensor


@torch.no_grad()
@without_autocast()
def answers_of(classifier: Classifier, pixels: Tensor, path: ScorePath) -> Answers:
    """Scores images in one pass.

    Args:
        classifier: The learner's state.
        pixels: uint8 `[B, 3, S, S]`.
        path: One of the classifier's paths.
    """
    features = classifier.features(classifier.backbone.to_unit(pixels), path, on_frozen=True)
    scores = classifier.scores_of(features, path, classifier.backbone.logit_scale).double()
    probabilities = (scores / classifier.temperature(path)).softmax(dim=1)
    best, predicted = probabilities.max(dim=1)
    found = Answers(
        predicted, best, scores.softmax(dim=1).amax(dim=1), classifier.unknown_scores(features), probabilities
    )
    return Answers(*(tensor.cpu() for tensor in found))


class _Worst(NamedTuple):
    """A mistake in the order of its probability; of equal ones the first file is the worst."""

    probability: float
    minus_file: int
    true: int
    predicted: int
    own: float


@dataclass
class _Found:
    """What was found so far. Per image a few numbers are kept, whatever the number of classes."""

    true: list[int] = field(default_factory=list)
    predicted: list[int] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    raw_best: list[float] = field(default_factory=list)
    known: list[float] = field(default_factory=list)
    unknown: dict[int, list[float]] = field(default_factory=dict)
    unknown_names: dict[int, Counter[int]] = field(default_factory=dict)
    worst: list[_Worst] = field(default_factory=list)
    unread: dict[int, str] = field(default_factory=dict)


def evaluate_folder(classifier: Classifier, folder: LabelledFolder, asked: Asked) -> report.Evaluation:
    """Measures a learner on a folder, whose images pass through in batches.

    Args:
        classifier: The learner's state.
        folder: The images with their classes, of which one at least is learnt.
        asked: What the learner is asked for.

    Raises:
        ChildProcessError: If a worker process ends.
        ValueError: If nothing is learnt; if no class of the folder is; if no image of a learnt class can be read; for another path.
    """
    if not classifier.class_names:
        raise ValueError("the learner has learnt no class yet")
    path = classifier.chosen_path(asked.path)
    places = places_among(folder, classifier.class_names)
    reader = file_reader(classifier.backbone, classifier.config.loading, asked.workers)
    size = classifier.config.inference.batch_size if asked.batch_size is None else asked.batch_size
    found = _Found()
    for batch in read_files(folder.files, reader, size, "evaluating"):
        found.unread |= batch.errors
        if batch.pixels is not None:
            _take(found, batch.places, answers_of(classifier, batch.pixels, path), folder, places)
    if not found.true:
        raise ValueError(
            f"no image of a learnt class in {folder.base} could be read"
            + "".join(f"; the first: {error}" for error in [*found.unread.values()][:1])
        )
    return _evaluation(found, classifier, folder, path, asked.learner)


def _take(
    found: _Found, files: Sequence[int], answers: Answers, folder: LabelledFolder, places: Sequence[int | None]
) -> None:
    """Adds the answers for some images."""
    numbers = (answers.predicted, answers.best, answers.raw_best, answers.known)
    for row, (file, predicted, best, raw_best, known) in enumerate(
        zip(files, *(tensor.tolist() for tensor in numbers), strict=True)
    ):
        own = folder.label[file]
        true = places[own]
        if not (best >= 0 and raw_best >= 0 and abs(known) < float("inf")):  # NaN fails here, too
            found.unread[file] = f"its scores {NOT_FINITE}"
        elif true is None:
            found.unknown.setdefault(own, []).append(known)
            found.unknown_names.setdefault(own, Counter())[predicted] += 1
        else:
            found.true.append(true)
            found.predicted.append(predicted)
            found.best.append(best)
            found.raw_best.append(raw_best)
            found.known.append(known)
            if predicted != true:
                heapq.heappush(
                    found.worst, _Worst(best, -file, true, predicted, float(answers.probabilities[row, true]))
                )
                if len(found.worst) > MISTAKES:
                    heapq.heappop(found.worst)


def _evaluation(
    found: _Found, classifier: Classifier, folder: LabelledFolder, path: ScorePath, learner: str
) -> report.Evaluation:
    """Puts what was found together."""
    names = [*classifier.class_names]
    confusion = confusion_of(found.true, found.predicted)
    by_class: list[float | None] = [*class_accuracy(confusion)]
    by_class += [None] * (len(names) - len(by_class))
    measured = [accuracy for accuracy in by_class if accuracy is not None]
    right = [true == predicted for true, predicted in zip(found.true, found.predicted, strict=True)]
    before, after = (calibration_bins(best, right) for best in (found.raw_best, found.best))
    mistakes = [
        report.Mistake(
            folder.inside(folder.files[-one.minus_file]),
            names[one.true],
            names[one.predicted],
            one.probability,
            one.own,
        )
        for one in sorted(found.worst, reverse=True)
    ]
    unread = [report.UnreadFile(folder.inside(folder.files[place]), why) for place, why in sorted(found.unread.items())]
    unread += [report.UnreadFile(name, "no file, or a link to none") for name in folder.missing]
    return report.Evaluation(
        learner=learner,
        folder=folder.base.resolve().name,
        layout=folder.layout,
        path=path,
        class_names=names,
        images=len(right),
        accuracy=sum(right) / len(right),
        mean_class_accuracy=sum(measured) / len(measured),
        class_accuracy=by_class,
        confusion=confusion,
        calibration=report.Calibration(
            classifier.temperature(path), expected_error(before), expected_error(after), before, after
        ),
        unknown=_detection(found, folder, names) if found.unknown else None,
        mistakes=mistakes,
        unread=unread,
        versions=versions(),
    )


def _detection(found: _Found, folder: LabelledFolder, names: Sequence[str]) -> report.UnknownDetection:
    """Measures the detection of unknown classes, of each and of all together."""
    classes = []
    for own, scores in found.unknown.items():
        named, times = found.unknown_names[own].most_common(1)[0]
        area = area_under_curve(found.known, scores)
        classes.append(report.UnknownClass(folder.names[own], len(scores), area, names[named], times))
    everything = _joined(found.unknown.values())
    return report.UnknownDetection(
        len(everything),
        area_under_curve(found.known, everything),
        false_positive_rate(found.known, everything),
        sorted(classes, key=lambda one: (one.area_under_curve, one.name)),
    )


def _joined(parts: Iterable[Sequence[float]]) -> list[float]:
    return [score for part in parts for score in part]
