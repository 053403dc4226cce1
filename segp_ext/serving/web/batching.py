"""Batches of images that arrive together: they wait for a few milliseconds and pass through the model at once."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from segp_ext.config import ScorePath
from segp_ext.method.classifier import Classifier


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of images; images with one question may pass through the model together.

    Attributes:
        classifier: The classifier that answers.
        path: The path whose scores are used; the learner's own if None.
        unknown_rate: Share of images of learnt classes that may be called unknown; None if that is not asked.
    """

    classifier: Classifier
    path: ScorePath | None = None
    unknown_rate: float | None = None

    @property
    def key(self) -> tuple[int, ScorePath | None, float | None]:
        """Equal for questions that are the same."""
        return id(self.classifier), self.path, self.unknown_rate


class Answered(NamedTuple):
    """What was found for one image.

    Attributes:
        probabilities: Of all classes `[C]`, on the CPU.
        unknown: Whether it belongs to no learnt class; None if that was not asked.
    """

    probabilities: Tensor
    unknown: bool | None


@dataclass(frozen=True, eq=False)
class _Waiting:
    question: Question
    pixels: Tensor
    answer: Future[Answered] = field(default_factory=Future)


class Batcher:
    """Threads that take images from one queue, batch by batch. No lock is held while a model computes.

    The queue itself has no bound: whoever submits counts what is in hand (`segp_ext.serving.web.limits.Room`).

    Args:
        size: Most images in a batch; 1 for no batching.
        wait: Seconds that the first image of a batch waits for others at most.
        threads: Number of threads.
        seen: Is told the number of images of every batch.
    """

    def __init__(
        self, size: int, wait: float, threads: int = 1, seen: Callable[[int], object] = lambda images: None
    ) -> None:
        self.size, self.wait, self.seen = size, wait, seen
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._turn = threading.Lock()  # two threads that fill batches at a time would halve them
        self._threads = [threading.Thread(target=self._work, name=f"batch-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, question: Question, pixels: Tensor) -> Future[Answered]:
        """Has an image answered.

        Args:
            question: What is asked.
            pixels: The image, uint8 `[3, S, S]`.

        Returns:
            The answer to come, or the error of the model. An image whose answer is cancelled in time is left out.
        """
        waiting = _Waiting(question, pixels)
        self._queue.put(waiting)
        return waiting.answer

    def close(self) -> None:
        """Answers what was submitted, and ends the threads."""
        self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._turn:
                batch = self._batch()
            if not batch:
                return
            groups: dict[object, list[_Waiting]] = {}
            for waiting in batch:
                if waiting.answer.set_running_or_notify_cancel():
                    groups.setdefault(waiting.question.key, []).append(waiting)
            del batch
            while groups:
                _answer(groups.popitem()[1], self.seen)

    def _batch(self) -> list[_Waiting]:
        """Waits for the next batch; empty once the queue is closed and empty."""
        found: list[_Waiting] = []
        until = None
        while len(found) < self.size:
            try:
                left = None if until is None else until - time.monotonic()
                waiting = self._queue.get(timeout=left) if left is None or left > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if waiting is None:
                self._queue.put(None)  # for the other threads
                break
            found.append(waiting)
            until = time.monotonic() + self.wait if until is None else until
        return found


def _answer(group: Sequence[_Waiting], seen: Callable[[int], object]) -> None:
    question = group[0].question
    classifier = question.classifier
    try:
        pixels = classifier.backbone.to_unit(torch.stack([waiting.pixels for waiting in group]))
        found = classifier.answer(pixels, question.path, (), question.unknown_rate)
        rows = found.probabilities.cpu()
        unknown = [None] * len(group) if found.unknown is None else found.unknown.tolist()
    except Exception as error:
        for waiting in group:
            waiting.answer.set_exception(error)
        return
    seen(len(group))
    for waiting, row, verdict in zip(group, rows, unknown, strict=True):
        waiting.answer.set_result(Answered(row, verdict))
