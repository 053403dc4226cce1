"""Measures how well learners tell images of classes that they never learnt, and how far their probabilities can be trusted.

    python -m evidence.unknown COMPARISON --rows ... --seeds ... --out FOLDER [--letters]

COMPARISON is a folder that segp_ext.compare wrote, with `run.keep_checkpoints` null and rows that hold images back (method auto, or
`calibration.fraction` above 0). The learner after each task is asked about three kinds of images:

- known: test images of the classes learnt so far
- later: test images of the classes of later tasks
- letters: with `--letters`, letters drawn like the digits (evidence/letters.py)

FOLDER gets three tables. scores.md compares scores of how well images fit the learnt classes. rates.md tells how many images are called
unknown at the rate 0.05, after every task. calibration.md has the errors of probabilities with and without temperature.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from evidence.letters import scans
from evidence.runs import arguments, of_every_run, scenario_of
from evidence.tables import write_table
from segp_ext.clip.glyph import CAPITALS, DIGITS, SMALL
from segp_ext.data.images import Images
from segp_ext.method.calibration import Calibration, calibration_error, mixed_scores, quantiles_of
from segp_ext.method.class_statistics import ClassStatistics
from segp_ext.method.learner import SeGPCL
from segp_ext.method.scores import Features
from segp_ext.method.unknown import (
    background_of,
    energy,
    fit_scores,
    largest_probability,
    left_out_fit_scores,
    nearest,
)
from segp_ext.report.detection import area_under_curve, false_positive_rate
from segp_ext.report.table import percent, spread

RATE = 0.05
"""Stated share of images of learnt classes that may be called unknown."""
SURE = 0.9
"""Probability from which a name counts as sure."""

Scores = dict[str, Tensor]


@dataclass
class OfScore:
    """Findings of one score after one task.

    Attributes:
        false_alarms: Share of known images called unknown, of each task's classes.
        area: Area under the ROC curve by kind of unknown images.
        taken: Share of unknown images taken for known where 95 % of known ones are, by kind.
        sure: Share of unknown images that are not called unknown, and named with at least `SURE`, by kind.
        found: Share of unknown images called unknown, by kind.
    """

    false_alarms: list[float]
    area: dict[str, float]
    taken: dict[str, float]
    sure: dict[str, float]
    found: dict[str, float]


@dataclass
class OfPath:
    """Findings of one path's probabilities on known test images after one task, without temperature and with it."""

    accuracy: float
    errors: tuple[float, float]
    losses: tuple[float, float]


@dataclass
class AfterTask:
    """Findings after one task, by score and by path; `drawn` is the share of drawn digits of learnt classes called unknown."""

    scores: dict[str, OfScore]
    paths: dict[str, OfPath]
    drawn: float | None


@torch.no_grad()
def features_of(learner: SeGPCL, images: Images) -> Features:
    """Returns the features of all images in the learner's models."""
    trained = [(embedding, raw) for _, embedding, raw in learner.encode(images)]
    frozen = None if learner.frozen is None else torch.cat([raw for _, raw in learner.encode_frozen(images)])
    return Features(*(torch.cat(parts) for parts in zip(*trained, strict=True)), frozen)


def path_scores(learner: SeGPCL, features: Features) -> Scores:
    """Returns the logits of every path `[N, C]`."""
    classifier = learner.classifier()
    scale = learner.backbone.logit_scale
    return {path: classifier.scores_of(features, path, scale).double() for path in classifier.paths}


def candidates(learner: SeGPCL, features: Features, paths: Scores, held: bool = False) -> Scores:
    """Computes all scores of how well images fit the learnt classes, float64 `[N]` by name; the one in use comes first.

    Args:
        learner: The learner.
        features: Features of the images.
        paths: Logits of the paths; for images held back as if their classes had not learnt them.
        held: Whether the images are the learner's images held back.
    """
    calibration, scale = learner.classifier().calibration, learner.backbone.logit_scale
    assert calibration is not None and features.raw is not None
    models: dict[str, tuple[ClassStatistics, Tensor, Tensor, Tensor]] = {}
    if learner.frozen is not None and features.frozen is not None:
        models["frozen"] = learner.frozen, features.frozen, paths["frozen"], learner.held.frozen
    models["trained"] = learner.statistics, features.raw, paths["visual"], learner.held.feature
    found: Scores = {}
    for model, (known, feature, scores, anchors) in models.items():
        background = background_of(known)
        if background is not None:
            of_background = (
                left_out_fit_scores(known, feature, scores, background)
                if held
                else fit_scores(known, feature, scale, background)
            )
            found[f"relative Mahalanobis, {model}"] = of_background
            found[f"Mahalanobis, {model}"] = scores.amax(dim=1)
        found[f"nearest prototype, {model}"] = nearest(feature, known.prototypes)
        found[f"nearest image held back, {model}"] = nearest(feature, anchors, own=held)
    for path, scores in paths.items():
        found[f"energy, {path}"] = energy(scores, calibration.temperature(path))
        found[f"largest probability, {path}"] = largest_probability(scores, calibration.temperature(path))
    return found


def after_task(
    learner: SeGPCL, known: Images, tasks: Tensor, unknown: dict[str, Images], drawn: Images | None
) -> AfterTask:
    """Asks a learner after a task.

    Args:
        learner: The learner, which calibrates itself anew.
        known: Test images of the classes learnt, with their places among all classes.
        tasks: Task of each of them, from 0, int64 `[N]`.
        unknown: Unknown images by kind.
        drawn: Drawn digits of learnt classes.
    """
    calibration, path = learner.calibration, learner.config.inference.path
    assert calibration is not None
    held_paths = learner.held_back_scores()
    if "frozen" in held_paths:
        held_paths["auto"] = mixed_scores(held_paths["dual"], held_paths["frozen"], calibration)
    held_features = Features(None, learner.held.feature, learner.held.frozen)
    held = candidates(learner, held_features, held_paths, held=True)
    features = features_of(learner, known)
    paths = path_scores(learner, features)
    own = candidates(learner, features, paths)
    others: dict[str, tuple[Scores, Tensor]] = {}
    for kind, images in unknown.items():
        features = features_of(learner, images)
        scores = path_scores(learner, features)
        sure = largest_probability(scores[path], calibration.temperature(path)) >= SURE
        others[kind] = candidates(learner, features, scores), sure
    found = {}
    limits = {name: Calibration(len(values), fit=quantiles_of(values)).limit(RATE) for name, values in held.items()}
    for name, values in own.items():
        found[name] = OfScore(
            [share(values[tasks == task] < limits[name]) for task in range(int(tasks.max()) + 1)],
            {kind: area_under_curve(values, scores[name]) for kind, (scores, _) in others.items()},
            {kind: false_positive_rate(values, scores[name]) for kind, (scores, _) in others.items()},
            {kind: share((scores[name] >= limits[name]) & sure) for kind, (scores, sure) in others.items()},
            {kind: share(scores[name] < limits[name]) for kind, (scores, _) in others.items()},
        )
    of_paths = {name: of_path(scores, known.labels, calibration.temperature(name)) for name, scores in paths.items()}
    first = next(iter(limits))
    share_drawn = None
    if drawn is not None:
        features = features_of(learner, drawn)
        share_drawn = share(candidates(learner, features, path_scores(learner, features))[first] < limits[first])
    return AfterTask(found, of_paths, share_drawn)


def share(mask: Tensor) -> float:
    """Returns the share of true entries."""
    return float(mask.double().mean())


def of_path(scores: Tensor, label: Tensor, temperature: float) -> OfPath:
    """Measures the probabilities of one path, given the logits `[N, C]` and the classes int64 `[N]`."""
    both = [(scores / value).softmax(dim=1) for value in (1.0, temperature)]
    errors = [calibration_error(probabilities, label) for probabilities in both]
    own = [probabilities.gather(1, label[:, None]).clamp(min=1e-30) for probabilities in both]
    losses = [float(-values.log().mean()) for values in own]
    return OfPath(share(scores.argmax(dim=1) == label), (errors[0], errors[1]), (losses[0], losses[1]))


def asked(run: Path, letters: bool) -> list[AfterTask]:
    """Asks the learner of a run after each task.

    Raises:
        OSError: If a checkpoint is missing.
        ValueError: If the learner held no images back.
    """
    config, scenario = scenario_of(run)
    drawings = scans([*CAPITALS, *SMALL], 10) if letters else []
    digits = {c: scans([c], 40) for c in DIGITS} if letters else {}
    found = []
    for number in range(1, len(scenario.tasks) + 1):
        learner = SeGPCL.load(run / f"checkpoints/task-{number:03d}", config.model.device)
        if learner.calibration is None:
            raise ValueError(f"{run} held no images back; method auto is needed, or calibration.fraction above 0")
        places = {name: place for place, name in enumerate(scenario.class_names)}
        parts = [[(image, places[t.class_names[label]]) for image, label in t.test] for t in scenario.tasks]
        known = Images([pair for part in parts[:number] for pair in part], learner.reader)
        tasks = torch.tensor([task for task, part in enumerate(parts[:number]) for _ in part])
        unknown, drawn = {}, None
        if later := [pair for part in parts[number:] for pair in part]:
            unknown["later"] = Images(later, learner.reader)
        if letters:
            unknown["letters"] = Images([(image, 0) for image in drawings], learner.reader)
            drawn = Images([(image, 0) for c in learner.class_names for image in digits[c]], learner.reader)
        found.append(after_task(learner, known, tasks, unknown, drawn))
    return found


def of_orders(runs: Sequence[Sequence[OfScore]], ask: Callable[[OfScore], float | None]) -> str:
    """Writes mean and deviation over the orders of a number's mean over tasks; tasks without it are left out."""
    found = [[value for task in run if (value := ask(task)) is not None] for run in runs]
    return spread([statistics.fmean(values) for values in found if values])


def score_rows(row: str, runs: Sequence[Sequence[AfterTask]]) -> list[list[str]]:
    """Makes a row of scores.md for each score."""
    return [
        [row, name, *_score_cells([[task.scores[name] for task in run] for run in runs])] for name in runs[0][0].scores
    ]


def _score_cells(runs: Sequence[Sequence[OfScore]]) -> list[str]:
    asks: list[Callable[[OfScore], float | None]] = []
    for kind in ("letters", "later"):
        asks += [
            lambda task, kind=kind: task.area.get(kind),  # type: ignore[misc]
            lambda task, kind=kind: task.taken.get(kind),  # type: ignore[misc]
            lambda task, kind=kind: task.sure.get(kind),  # type: ignore[misc]
        ]
    return [of_orders(runs, ask) for ask in (*asks, lambda task: statistics.fmean(task.false_alarms))]


def rate_rows(row: str, runs: Sequence[Sequence[AfterTask]]) -> list[list[str]]:
    """Makes a row of rates.md for each task, for the score in use."""
    name, table = next(iter(runs[0][0].scores)), []
    for number in range(len(runs[0])):
        at = [run[number] for run in runs]
        ages = len(at[0].scores[name].false_alarms)
        alarms = [spread([task.scores[name].false_alarms[age] for task in at]) for age in (0, ages - 1)]
        whole = spread([statistics.fmean(task.scores[name].false_alarms) for task in at])
        found = [spread([task.scores[name].found.get(kind) for task in at]) for kind in ("letters", "later")]
        table.append([row, str(number + 1), whole, *alarms, *found, spread([task.drawn for task in at])])
    return table


def calibration_rows(row: str, runs: Sequence[Sequence[AfterTask]]) -> list[list[str]]:
    """Makes a row of calibration.md for each path and task."""
    table = []
    for path in runs[0][0].paths:
        for number in range(len(runs[0])):
            at = [run[number].paths[path] for run in runs]
            errors = [spread([found.errors[place] for found in at]) for place in (0, 1)]
            losses = [f"{statistics.fmean(found.losses[place] for found in at):.3f}" for place in (0, 1)]
            accuracy = percent(statistics.fmean(found.accuracy for found in at))
            table.append([row, path, str(number + 1), accuracy, *errors, *losses])
    return table


def main() -> None:
    parser = arguments("evidence.unknown", __doc__, "folder for the tables")
    parser.add_argument(
        "--letters", action="store_true", help="ask about drawn letters too; for learners of the digits"
    )
    options = parser.parse_args()
    runs = of_every_run(parser, options, lambda run: asked(run, options.letters))
    columns = [f"{what}, {kind}" for kind in ("letters", "later") for what in ("AUROC", "FPR95", "named ≥ 0.9")]
    scores = [["method", "score", *columns, "false alarms"]]
    rates = [["method", "after task", "false alarms", "first task", "last task", "letters", "later", "drawn digits"]]
    errors = [["method", "path", "after task", "accuracy", "ECE before", "ECE after", "NLL before", "NLL after"]]
    for row, found in runs.items():
        scores += score_rows(row, found)
        rates += rate_rows(row, found)
        errors += calibration_rows(row, found)
    options.out.mkdir(exist_ok=True)
    for name, table in (("scores", scores), ("rates", rates), ("calibration", errors)):
        write_table(options.out / f"{name}.md", parser.prog, table)


if __name__ == "__main__":
    main()
