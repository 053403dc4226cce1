"""Predicts many image files in a stream."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from segp_ext.config import ScorePath
from segp_ext.data.file_batches import FileBatch, file_batches
from segp_ext.method.answers import NOT_FINITE, Prediction
from segp_ext.method.classifier import Classifier
from segp_ext.report.prediction_rows import Layout, PredictionRow
from segp_ext.run.readable_files import file_reader


@dataclass(frozen=True)
class Question:
    """What is asked about every image.

    Attributes:
        topk: Number of names for each image.
        path: Path whose scores are used; the learner's own if None.
        others: Names that were never learnt, which compete too.
        unknown: Share of images of learnt classes that may be called unknown; None calls no image so.
    """

    topk: int
    path: ScorePath | None = None
    others: tuple[str, ...] = ()
    unknown: float | None = None


class FilePredictor:
    """Names image files with a classifier, batch by batch. No more than a few batches of pixels are in memory at a time.

    Args:
        classifier: Classifier that predicts.
        question: What is asked.
        batch_size: Files encoded together; the learner's setting if None.
        workers: Processes that decode ahead of the model; the learner's setting if None.

    Raises:
        ValueError: If nothing has been learnt, the learner lacks the path, a name among the question's others cannot compete, or the
            learner knows no limit for unknown images.
    """

    def __init__(
        self, classifier: Classifier, question: Question, batch_size: int | None = None, workers: int | None = None
    ) -> None:
        if not classifier.class_names:
            raise ValueError("the learner has learnt no class yet")
        classifier.chosen_path(question.path)  # refuses paths, and the following names, before any file is read
        if question.others:
            classifier.open_names(question.others)
        if question.unknown is not None:
            classifier.unknown_limit(question.unknown)  # likewise
        config, backbone = classifier.config, classifier.backbone
        self.classifier = classifier
        self.batch_size = config.inference.batch_size if batch_size is None else batch_size
        self.names = (*classifier.class_names, *question.others)
        self.question = dataclasses.replace(question, topk=min(question.topk, len(self.names)))
        self.reader = file_reader(backbone, config.loading, workers)

    def layout(self, files: Sequence[Path]) -> Layout:
        """Returns what the rows of these files have in common."""
        widths = max(len(str(file)) for file in files), max(map(len, self.names))
        return Layout(self.question.topk, *widths, self.question.unknown is not None)

    def rows(self, files: Sequence[Path]) -> Iterator[list[PredictionRow]]:
        """Yields the rows of each batch of files, in order. A file that cannot be read is a row with its error.

        Raises:
            ChildProcessError: If a worker process ends.
        """
        start = 0
        for batch in file_batches(files, self.reader, self.batch_size):
            names = [str(file) for file in files[start : start + len(batch.errors)]]
            start += len(names)
            yield self._answered(names, batch)

    def _answered(self, names: list[str], batch: FileBatch) -> list[PredictionRow]:
        ask, classifier = self.question, self.classifier
        answers: Iterator[list[Prediction] | None] = iter(())
        if batch.pixels is not None:
            unit = classifier.backbone.to_unit(batch.pixels)
            answer = classifier.answer(unit, ask.path, ask.others, ask.unknown)
            answers = classifier.best(answer, ask.topk, ask.others)
        rows = []
        for name, error in zip(names, batch.errors, strict=True):
            named = None if error is not None else next(answers)
            if named is None:
                rows.append(PredictionRow(name, error=error or f"{name}: its scores {NOT_FINITE}"))
            else:
                rows.append(PredictionRow(name, named))
        return rows
