"""Anchors without gradients: seeds as they are, seeds with noise, the new images themselves, reference images."""

from __future__ import annotations

import torch
from torch import Tensor

from segp_ext.config import MethodConfig
from segp_ext.data import named_source
from segp_ext.data.images import Images, Reader
from segp_ext.method.sources.base import Candidates, Source, Teacher


class Seeds(Source):
    """Seeds that are not moved."""


class Noise(Source):
    """Seeds plus uniform noise within epsilon."""

    def draw(self, shape: tuple[int, int, int, int], generator: torch.Generator) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float32, device="cpu") * 2 - 1

    def move(self, teacher: Teacher, seed: Tensor, target: Tensor, drawn: Tensor | None) -> Tensor:
        assert drawn is not None
        return (seed + self.settings.epsilon * drawn).clamp_(0, 1)


class NewImages(Source):
    """All of the task's own images (LwF)."""

    of_classes = False
    takes_all = True

    def doubt(self, images: int) -> None:
        return None


class Reference(Source):
    """Images of a data set that is never learnt, the same number for each old class (ZSCL)."""

    of_classes = False
    _images: Images | None = None

    @classmethod
    def check(cls, config: MethodConfig) -> None:
        super().check(config)
        if not config.anchors.reference:
            raise ValueError("anchors.reference must name images for anchors.kind reference; got none")

    def check_data(self, classes: int) -> None:
        assert self.settings.reference is not None
        self._check_count(len(named_source("anchors.reference", self.settings.reference).tasks[0].train), classes)

    @staticmethod
    def _check_count(images: int, classes: int) -> None:
        if images < classes:
            raise ValueError(
                f"anchors.reference must hold at least one image for each of {classes} old classes; got {images}"
            )

    def images(self, task: Images, reader: Reader) -> Images:
        if self._images is None or self._images.reader is not reader:
            assert self.settings.reference is not None
            self._images = Images(named_source("anchors.reference", self.settings.reference).tasks[0].train, reader)
        return self._images

    def doubt(self, images: int) -> None:
        return None

    def seeds(self, teacher: Teacher, among: Candidates) -> Tensor:
        classes = len(teacher.text)
        self._check_count(among.count, classes)
        of_each = min(self.settings.seeds_per_class, among.count // classes)
        drawn = torch.randperm(among.count, generator=among.generator, device="cpu")
        return drawn[: of_each * classes].view(classes, of_each)
