"""The learner on disk: read again when it changes, while the one before it goes on to answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch

from segp_ext.method.classifier import Classifier
from segp_ext.method.learner import SeGPCL
from segp_ext.run.directory import saved_tasks
from segp_ext.run.saved_learner import find_checkpoint
from segp_ext.runtime.progress import first_line
from segp_ext.storage import sealed
from segp_ext.storage.class_records import ClassRecord

AGAIN = 30.0
"""Seconds after which a learner that could not be read is tried again, unless it changes before."""


@dataclass(frozen=True, eq=False)
class Served:
    """A learner that answers; nothing changes it.

    Attributes:
        classifier: What answers.
        records: What is noted of each class.
        identity: SHA-256 of the checkpoint's checksums.
        folder: The checkpoint.
        unknown_rate: The rate asked for, where this learner tells unknown images; else None.
        since: When it was read.
    """

    classifier: Classifier
    records: tuple[ClassRecord, ...]
    identity: str
    folder: Path
    unknown_rate: float | None
    since: datetime


class LearnerWatch:
    """Holds the learner that answers, and looks in a thread for a newer one.

    Args:
        place: Folder of a saved learner, or of a run, whose newest checkpoint counts.
        load: Reads a learner from a checkpoint.
        unknown_rate: Share of images of learnt classes that may be called unknown; None for no such verdict.
        every: Seconds between two looks.

    Attributes:
        current: The learner that answers.
        trouble: Why the learner on disk is not the one that answers; None if it is.
        swaps: How often another learner took over.

    Raises:
        OSError, ValueError: If there is no learner at `place`, or it cannot be read, or has learnt no class.
    """

    def __init__(
        self, place: Path, load: Callable[[Path], SeGPCL], unknown_rate: float | None = None, every: float = 1.0
    ) -> None:
        self.place, self.load, self.unknown_rate, self.every = place.resolve(), load, unknown_rate, every
        self.trouble: str | None = None
        self.swaps = 0
        folder = find_checkpoint(self.place)
        self.current = self._served(folder, sealed.identity(sealed.recovered(folder)))
        self._failed: tuple[str, float] | None = None  # identity that could not be read, and when
        self._asked, self._ends = threading.Event(), False
        self._turn = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to look."""
        self._thread = threading.Thread(target=self._run, name="learner-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends looking."""
        self._ends = True
        self._asked.set()
        if self._thread is not None:
            self._thread.join()

    def soon(self) -> None:
        """Has the thread look now."""
        self._asked.set()

    def look(self) -> None:
        """Looks once. A learner that is damaged or gone leaves the one that answers, and is told in `trouble`."""
        with self._turn:
            self._look()

    def _look(self) -> None:
        try:
            folder = _newest(self.place)
            identity = sealed.identity(folder)
        except OSError as error:
            self.trouble = f"there is no learner at {self.place} any more: {first_line(error)}"
            return
        if identity == self.current.identity:
            self.trouble = self._failed = None
            return
        if self._failed is not None and self._failed[0] == identity and time.monotonic() < self._failed[1] + AGAIN:
            return
        try:
            found = self._served(folder, identity)
        except Exception as error:  # whatever is wrong with the new one, the old one answers
            self.trouble, self._failed = first_line(error), (identity, time.monotonic())
            return
        self.current, self.trouble, self._failed = found, None, None
        self.swaps += 1

    def _run(self) -> None:
        while not self._ends:
            self._asked.wait(self.every)
            self._asked.clear()
            if not self._ends:
                self.look()

    def _served(self, folder: Path, identity: str) -> Served:
        learner = self.load(folder)
        if not learner.class_names:
            raise ValueError(f"the learner at {folder} has learnt no class yet")
        classifier = learner.classifier()
        backbone = classifier.backbone
        # The first pass takes longer than the others, so it is made here.
        pixels = backbone.to_unit(torch.zeros(1, 3, backbone.image_size, backbone.image_size, dtype=torch.uint8))
        rate = self.unknown_rate if classifier.calibration is not None else None
        try:
            classifier.answer(pixels, None, (), rate)
        except ValueError:
            if rate is None:
                raise
            rate = None
            classifier.answer(pixels)
        return Served(classifier, learner.records, identity, folder, rate, datetime.now().astimezone())


def _newest(place: Path) -> Path:
    """Finds the checkpoint that counts, whole or not.

    Raises:
        FileNotFoundError: If there is none.
    """
    folder = sealed.recovered(place)
    if (folder / sealed.SUMS).is_file():
        return folder
    for newest in saved_tasks(place):
        return newest
    raise FileNotFoundError(f"neither {sealed.SUMS} nor a checkpoint is there")
