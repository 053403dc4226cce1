"""ACGD: anchors keep the teacher's scores over the old classes (SeGP-CL, arXiv 2603.12055, equations 16 to 18)."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from segp_ext import ops
from segp_ext.config import MethodConfig
from segp_ext.method.inputs import TaskInputs
from segp_ext.method.losses.base import Loss, Samples


class Acgd(Loss):
    """Distillation of the teacher's scores on anchors, `segp_ext.ops.geometry_distill`.

    `distillation.weight` is stated at a logit scale of 100. It is multiplied by 100/s (ours), as the loss grows with s².
    `distillation.classes` anchors (ours) takes the scores over the old classes that the step's anchors stand for.
    """

    def __init__(self, config: MethodConfig, task: TaskInputs, logit_scale: float) -> None:
        super().__init__(config, task, logit_scale)
        self._of_anchors: Tensor | None = (
            None  # the old class of every anchor, on the CPU, where only the step's classes count
        )
        if config.distillation.classes == "anchors" and task.anchor_classes is not None:
            self._of_anchors = task.anchor_classes.cpu()
        self._classes: Tensor | slice = slice(task.new.start)

    @property
    def weight(self) -> float:
        return 0.0 if self.task.anchors is None else self.config.distillation.weight * 100 / self.logit_scale

    def classes_of_step(self, drawn: Tensor) -> Tensor | range:
        if self._of_anchors is None:
            return range(self.task.new.start)
        classes = self._of_anchors[drawn].unique()
        self._classes = classes.to(self.task.teacher_text.device)
        return classes

    def of_anchors(self, anchors: Samples, text: Tensor) -> Tensor:
        settings = self.config.distillation
        distil = partial(ops.geometry_distill, logit_scale=self.logit_scale, temperature=settings.temperature)
        student = anchors.embedding, text[self._classes]
        teacher = anchors.teacher_embedding, self.task.teacher_text[self._classes]
        loss = distil(*student, *teacher)
        return loss + distil(*student[::-1], *teacher[::-1]) if settings.both_directions else loss
