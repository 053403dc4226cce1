"""Anchors moved along gradients of the teacher: DPGD (equations 9 to 14), either half of it, and ADC."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext import ops
from segp_ext.config import MethodConfig
from segp_ext.method.sources.base import Candidates, Source, Teacher, select_seeds


class Dpgd(Source):
    """Seeds moved towards an old class's text embedding and prototype, within epsilon."""

    def visual_weight(self) -> float:
        """Returns λ_p, the weight of the visual loss."""
        return self.settings.visual_weight

    def loss(self, teacher: Teacher, embedding: Tensor, feature: Tensor, target: Tensor) -> Tensor:
        """Computes the loss of every sample that the steps lower, `[B]`."""
        return ops.dual_target_loss(
            embedding,
            feature,
            teacher.text,
            teacher.prototypes,
            target,
            logit_scale=teacher.backbone.logit_scale,
            visual_weight=self.visual_weight(),
        )

    def move(self, teacher: Teacher, seed: Tensor, target: Tensor, drawn: Tensor | None) -> Tensor:
        backbone, settings = teacher.backbone, self.settings
        x = seed.clone()
        for _ in range(settings.steps):
            with torch.enable_grad():
                x.requires_grad_(True)
                outputs = backbone.encode_image(x)
                embedding, feature = leaves = [output.detach().requires_grad_() for output in outputs]
                loss = self.loss(teacher, embedding, feature, target)
                # Summed, not averaged: a sample's path must not depend on its batch. A factor keeps half-precision gradients from
                # vanishing; only their signs count.
                (loss.sum() * (1024 if backbone.precision == "fp16" else 1)).backward()
                reached = [(o, leaf.grad) for o, leaf in zip(outputs, leaves, strict=True) if leaf.grad is not None]
                grad = backbone.gradient(x, *zip(*reached, strict=True))
            x = x.detach()
            ops.dpgd_step_(x, grad, seed, step_size=settings.step_size, epsilon=settings.epsilon)
        return x


class TextPgd(Dpgd):
    """Seeds moved towards an old class's text embedding alone."""

    def visual_weight(self) -> float:
        return 0.0


class VisualPgd(Dpgd):
    """Seeds moved towards an old class's prototype alone."""

    def loss(self, teacher: Teacher, embedding: Tensor, feature: Tensor, target: Tensor) -> Tensor:
        return 1 - F.cosine_similarity(feature, teacher.prototypes[target], dim=-1)


class Adc(Source):
    """Seeds nearest to the prototype, moved towards it by steps along the gradient (arXiv 2405.19074).

    Each step is x − α·√D·g/‖g‖ with the gradient g of ‖z − p‖², D pixels, clamped to the pixel range. ADC's authors take one norm over
    the images of a class. Here each image has its own norm, so that its path does not depend on its batch.
    """

    @classmethod
    def check(cls, config: MethodConfig) -> None:
        super().check(config)
        if config.prototypes.features != "raw":
            raise ValueError(
                "prototypes.features must be raw with anchors.kind adc, which measures distances to them; got unit"
            )

    def seeds(self, teacher: Teacher, among: Candidates) -> Tensor:
        near = ((i, z) for i, _, z in among.encoded())
        count = min(self.settings.seeds_per_class, among.count)
        return select_seeds(near, teacher.prototypes, count, among.processes, by_distance=True)

    def move(self, teacher: Teacher, seed: Tensor, target: Tensor, drawn: Tensor | None) -> Tensor:
        backbone, goal = teacher.backbone, teacher.prototypes[target]
        x = seed.clone()
        for _ in range(self.settings.steps):
            with torch.enable_grad():
                x.requires_grad_(True)
                feature = backbone.encode_image(x)[1]
                loss = (feature - goal).square().mean(dim=1).sum()
                grad = backbone.gradient(x, (feature,), torch.autograd.grad(loss, (feature,), retain_graph=True))
            x = x.detach()
            norm = grad.flatten(1).norm(dim=1).clamp(min=torch.finfo(grad.dtype).tiny).view(-1, 1, 1, 1)
            x = (x - self.settings.step_size * math.sqrt(x[0].numel()) * grad / norm).clamp_(0, 1)
        return x
