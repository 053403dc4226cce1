"""What one task is trained on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from segp_ext.data.images import Images
from segp_ext.method.anchors import Anchors


@dataclass(frozen=True)
class TaskInputs:
    """What one task is trained on. All of it is made before training starts.

    Attributes:
        number: number of the task, from 1, for messages.
        images: the images to train on; their labels are places among all classes.
        tokens: one prompt of every class, old ones first, `[C, L]`.
        new: indices of the new classes among all classes.
        anchors: the samples to distil on; None for plain fine-tuning.
        teacher_text: the teacher's text embeddings of the old classes `[C_old, De]`.
        reference: the pre-trained model's text embeddings of all classes `[C, De]`; None where no term reads them.
        anchor_classes: the old class of every anchor, int64 `[A]`; None for anchors that belong to no class.
        image_teacher: the teacher's outputs for all training images; None where no term reads them.
    """

    number: int
    images: Images
    tokens: Tensor
    new: range
    anchors: Anchors | None
    teacher_text: Tensor
    reference: Tensor | None
    anchor_classes: Tensor | None = None
    image_teacher: Anchors | None = None
