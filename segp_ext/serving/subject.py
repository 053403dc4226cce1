"""The learner that is exported: its classifier as exported code, and the scores that every export is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from segp_ext.config import ScorePath
from segp_ext.method.classifier import Classifier
from segp_ext.method.learner import SeGPCL
from segp_ext.serving.agreement import prepared_pixels
from segp_ext.serving.scorer import in_float32, program_of
from segp_ext.serving.source import Source


@dataclass(frozen=True)
class Subject:
    """A learner on the CPU that is exported.

    Attributes:
        learner: the learner, which has learnt a class at least.
        path: the path whose scores the export gives.
        source: where it was loaded from; None if that is not known.
    """

    learner: SeGPCL
    path: ScorePath
    source: Source | None

    @cached_property
    def plain(self) -> Classifier:
        """The classifier in float32."""
        return in_float32(self.learner.classifier())

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        """The classifier as a program of torch.export."""
        return program_of(self.plain, self.path)

    def expected(self, images: Sequence[Image.Image]) -> Tensor:
        """Scores images with the learner itself, or with `plain` where the learner computes in half precision; returns `[N, C]`."""
        half = self.learner.backbone.precision in ("bf16", "fp16")
        classifier = self.plain if half else self.learner.classifier()
        return self.in_batches(lambda pixels: classifier.logits(pixels, self.path).float(), images)

    def in_batches(self, score: Callable[[Tensor], Tensor], images: Sequence[Image.Image]) -> Tensor:
        """Scores images: the first alone, as sizes of batches must not matter, the others in batches of the learner's size.

        Args:
            score: maps pixels `[B, 3, S, S]` in [0, 1] to scores `[B, C]`.
            images: PIL RGB images of any size.
        """
        pixels = prepared_pixels(self.learner.classifier(), images)
        batches = [pixels[:1], *pixels[1:].split(self.learner.config.inference.batch_size)]
        return torch.cat([score(batch) for batch in batches if len(batch)])
