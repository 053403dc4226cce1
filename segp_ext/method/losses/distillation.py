"""ACGD: anchors keep the teacher's scores over the old classes (SeGP-CL, arXiv 2603.12055, equations 16 to 18)."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from segp_ext import ops
from segp_ext.method.losses.base import Loss, Samples


class Acgd(Loss):
    """Distillation of the teacher's scores on anchors, `segp_ext.ops.geometry_distill`.

    `distillation.weight` is stated at a logit scale of 100. It is multiplied by 100/s (ours), as the loss grows with s².
    """

    @property
    def weight(self) -> float:
        return 0.0 if self.task.anchors is None else self.config.distillation.weight * 100 / self.logit_scale

    def of_anchors(self, anchors: Samples, text: Tensor) -> Tensor:
        settings = self.config.distillation
        distil = partial(ops.geometry_distill, logit_scale=self.logit_scale, temperature=settings.temperature)
        student = anchors.embedding, text[: self.task.new.start]
        teacher = anchors.teacher_embedding, self.task.teacher_text
        loss = distil(*student, *teacher)
        return loss + distil(*student[::-1], *teacher[::-1]) if settings.both_directions else loss
