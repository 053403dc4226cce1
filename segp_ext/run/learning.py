"""Lets a saved learner learn a folder of images as its next task: what is in the folder, learning it, and what came of it."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext.clip.wording import Wordings
from segp_ext.data.class_images import ClassImages, class_images
from segp_ext.data.messages import several
from segp_ext.method.calibration import mixed_scores
from segp_ext.method.learner import SeGPCL
from segp_ext.report.result import TaskReport
from segp_ext.storage import sealed
from segp_ext.storage.task_progress import TaskProgress

Known = Literal["refuse", "skip", "update", "train"]
_CHECKPOINT_STEPS = 50
"""Optimiser steps between two positions that a learning process keeps."""


@dataclass(frozen=True)
class Findings:
    """What a folder holds for a learner.

    Attributes:
        new: Images of classes that the learner does not know.
        known: Images of classes that it knows.
        refused: Reasons by class, for classes that cannot be learnt.
        stray: Files that are left alone.
    """

    new: ClassImages
    known: ClassImages
    refused: dict[str, str]
    stray: list[str]

    def lines(self) -> list[str]:
        """Says in lines what was found."""

        def counted(images: ClassImages) -> str:
            return several([f"{name} ({_images(len(files))})" for name, files in images.files.items()])

        found = [
            f"{kind}: {counted(images)}" for kind, images in (("new", self.new), ("known", self.known)) if images.files
        ]
        if self.refused:
            found.append(f"refused: {several([f'{name} ({reason})' for name, reason in self.refused.items()])}")
        if self.stray:
            found.append(f"left alone: {several(self.stray)}")
        return found


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def look(learner: SeGPCL, folder: Path, names: Literal["spaces", "folders"] = "spaces") -> Findings:
    """Finds new and known classes in a folder.

    Args:
        learner: The learner.
        folder: Folder of class folders, or a data set with a part `train`.
        names: How class names are made of folders' names.

    Raises:
        OSError, ValueError: As `class_images`.
    """
    images = class_images(folder, names)
    learnt, least = {*learner.class_names}, learner.config.min_images_per_class
    refused = {}
    for name, files in images.files.items():
        fewest = 1 if name in learnt else least
        if len(files) < fewest:
            refused[name] = f"{_images(len(files))}; {fewest} are needed"
    taken = images.only([name for name in images.files if name not in refused])
    new = taken.only([name for name in taken.files if name not in learnt])
    known = taken.only([name for name in taken.files if name in learnt])
    return Findings(new, known, refused, images.stray)


def chosen(found: Findings, known: Known) -> ClassImages:
    """Chooses the images to learn.

    Args:
        found: What the folder holds.
        known: What to do with known classes.

    Raises:
        ValueError: If known classes are refused, or nothing is left to learn.
    """
    if found.known.files and known == "refuse":
        raise ValueError(
            f"learnt already: {several([*found.known.files])}; --known update lets these classes take the new images, --known skip leaves "
            "them out"
        )
    images = found.new if known == "skip" else ClassImages({**found.new.files, **found.known.files}, [])
    if not images.files:
        reasons = f"; {'; '.join(found.lines())}" if found.lines() else ""
        raise ValueError(f"the folder holds no class to learn{reasons}")
    return images


@dataclass(frozen=True)
class Learnt:
    """What learning a folder came to.

    Attributes:
        report: The task's report.
        seconds: Time that it took.
        before: Prototypes of the old classes before it `[C_old, Dr]`.
    """

    report: TaskReport
    seconds: float
    before: Tensor

    def lines(self, learner: SeGPCL) -> list[str]:
        """Says in lines what was learnt, how well, and what the old classes' distributions moved by."""
        phases = ", ".join(
            f"{name} {phase.wall:.1f} s" for name, phase in self.report.phases.items() if phase.wall >= 0.1
        )
        names = several(self.report.classes) if self.report.classes else "more images of known classes"
        found = [
            f"learnt {names}: {self.report.images} images, {len(learner.class_names)} classes in all, in {self.seconds:.1f} s"
            + (f" ({phases})" if phases else "")
        ]
        return [*found, *_held_back(learner, self.report), *_moved(learner, self.before)]


def _held_back(learner: SeGPCL, report: TaskReport) -> list[str]:
    """Says how well the images held back are named, new and all, and which scores are used."""
    measured = learner.calibration
    if measured is None:
        return []
    label, scores = learner.held.label, dict(learner.held_back_scores())
    if "frozen" in scores:
        scores["auto"] = mixed_scores(scores["dual"], scores["frozen"], measured)
    path = learner.config.inference.path
    right = scores[path].argmax(dim=1) == label
    found = []
    if report.held_back:
        new = right[-report.held_back :]
        found.append(
            f"held back {report.held_back} images of the new classes: {100 * new.double().mean():.1f} % named right"
        )
    found.append(
        f"all {len(label)} images held back so far: {100 * right.double().mean():.1f} % named right (path {path})"
    )
    if path == "auto":
        each = ", ".join(f"{name} {100 * measured.paths[name].accuracy:.1f} %" for name in ("dual", "frozen"))
        share = measured.trained_share
        what = {0.0: "the frozen head alone", 1.0: "the trained model alone"}.get(
            share, f"{100 * share:.0f} % trained model, {100 * (1 - share):.0f} % frozen head"
        )
        found.append(
            f"scores from now on: {what}. Of all mixtures that fit these images best, or as well up to chance, it is the most even one "
            f"({each})"
        )
    return found


def _moved(learner: SeGPCL, before: Tensor) -> list[str]:
    """Says how far the old classes' prototypes moved, along with the model or by images of their own."""
    if not len(before) or torch.equal(before, learner.prototypes[: len(before)]):
        return []
    apart = 1 - F.cosine_similarity(before, learner.prototypes[: len(before)], dim=1)
    most = int(apart.argmax())
    return [
        f"old classes moved by {float(apart.mean()):.4f} on average (1 − cos of the prototype), "
        f"{learner.class_names[most]} most, by {float(apart[most]):.4f}"
    ]


def learn_images(
    learner: SeGPCL,
    images: ClassImages,
    place: Path,
    known: Known,
    checkpoint: Path | None,
    wording: Wordings | None = None,
) -> Learnt:
    """Lets a learner learn images. Its progress is kept beside `place`, and an earlier process's progress is gone on with.

    Args:
        learner: The learner.
        images: What `chosen` gave.
        place: Folder where the learner will be saved. It is not written here.
        known: What happens with images of known classes.
        checkpoint: Folder that the learner was loaded from; None for a new one.
        wording: How the text encoder reads classes, by name.

    Raises:
        ValueError, FloatingPointError: As `SeGPCL.learn_task`.
    """
    begun, setting, prototypes = time.perf_counter(), learner.config.known_classes, learner.prototypes
    before = "new" if checkpoint is None else sealed.identity(sealed.recovered(checkpoint))
    settings = json.dumps(dataclasses.asdict(learner.config), sort_keys=True)
    said = {name: dataclasses.asdict(own) for name, own in sorted((wording or {}).items())}
    start = f"{before} {images.digest()} {known} {settings}{json.dumps(said) if said else ''}"
    kept = TaskProgress(progress_folder(place), _CHECKPOINT_STEPS, learner.processes, learner.backbone.device, start)
    kept.remove_others()
    try:
        if known in ("update", "train"):
            learner.config.known_classes = known
        report = learner.learn_task(images.data_set(), [*images.files], kept, wording)
    finally:
        learner.config.known_classes = setting
    return Learnt(report, time.perf_counter() - begun, prototypes)


def progress_folder(place: Path) -> Path:
    """Returns the hidden folder where the progress of learning is kept, beside the learner's own."""
    return place.with_name(f".{place.name}.learning")
