"""What a term of the training loss is: a mean over a step's images, over its anchors, or a value of the text embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from segp_ext.config import MethodConfig
from segp_ext.method.anchors import Anchors
from segp_ext.method.inputs import TaskInputs


def clip_scores(embedding: Tensor, text: Tensor, logit_scale: float) -> Tensor:
    """Returns CLIP's scores s·v̂·û.

    Args:
        embedding: image embeddings v `[B, De]`, any norm.
        text: text embeddings u `[C, De]`, any norm.
        logit_scale: s.

    Returns:
        `[B, C]`; gradients flow to `embedding` and `text`.
    """
    return logit_scale * F.normalize(embedding, dim=-1) @ F.normalize(text, dim=-1).T


@dataclass(frozen=True)
class Samples:
    """Images or anchors of one part of a step, as the student and the teacher see them.

    Attributes:
        embedding: the student's embeddings v `[B, De]`, any norm; gradients flow to them.
        feature: the student's raw features z `[B, Dr]`, any norm; gradients flow to them.
        indices: the samples' numbers among all images or anchors of the task, int64 `[B]`, on the CPU.
        classes: the class of every image or anchor of the task, int64 `[N]`; None for anchors that belong to no class.
        teacher: the teacher's outputs for every image or anchor of the task; None for images that it has not encoded.
    """

    embedding: Tensor
    feature: Tensor
    indices: Tensor
    classes: Tensor | None
    teacher: Anchors | None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def target(self) -> Tensor:
        """Class of each sample among all classes seen, int64 `[B]`.

        Raises:
            ValueError: for anchors that belong to no class (`anchors.kind` new-images and reference).
        """
        if self.classes is None:
            raise ValueError("these anchors belong to no old class, so they have no target")
        return self.classes[self.indices.to(self.classes.device)]

    @property
    def teacher_embedding(self) -> Tensor:
        """The teacher's embeddings v `[B, De]`, without gradients.

        Raises:
            ValueError: for images that the teacher has not encoded.
        """
        teacher = self._seen()
        return teacher.take(teacher.embedding, self.indices)

    @property
    def teacher_feature(self) -> Tensor:
        """The teacher's raw features z `[B, Dr]`, without gradients.

        Raises:
            ValueError: for images that the teacher has not encoded.
        """
        teacher = self._seen()
        return teacher.take(teacher.feature, self.indices)

    def _seen(self) -> Anchors:
        if self.teacher is None:
            raise ValueError(
                "the teacher has not encoded the task's images; a loss that needs its outputs sets teacher_of_images = True"
            )
        return self.teacher


class Loss:
    """One term of the training loss.

    Override one or more of `of_images`, `of_anchors` and `of_text`; the term is their sum. A step's images and anchors can be shared out
    over processes and parts. The first two are therefore means over the samples that they get, and the caller weights each part by its
    size. A new object is made for every task, so it keeps nothing from one task to the next.

    Name a subclass as `extra_loss.kind: my_package.my_module:Mine` to train with it.

    Args:
        config: the method's settings.
        task: what the task is trained on.
        logit_scale: s of the model.

    Attributes:
        teacher_of_images: whether `Samples.teacher_embedding` and `Samples.teacher_feature` of images are needed. The teacher then
            encodes all images of the task before training starts.
    """

    teacher_of_images = False

    def __init__(self, config: MethodConfig, task: TaskInputs, logit_scale: float) -> None:
        self.config, self.task, self.logit_scale = config, task, logit_scale

    @classmethod
    def check(cls, config: MethodConfig) -> None:
        """Refuses settings that do not go with this loss.

        Raises:
            ValueError: naming the setting.
        """

    @property
    def weight(self) -> float:
        """Factor of the term in the training loss, `extra_loss.weight` for a loss of one's own; 0 leaves the term out."""
        return self.config.extra_loss.weight

    def classes_of_step(self, drawn: Tensor) -> Tensor | range:
        """Begins a step, and says which classes' text embeddings the term reads in it. All of them, unless a loss overrides this.

        The text encoder encodes no other classes, which saves most of the time of a step where many classes are known.

        Args:
            drawn: numbers of the step's anchors among all anchors of the task, int64 `[B]`, on the CPU.

        Returns:
            Places of the classes among all classes seen.
        """
        return range(len(self.task.tokens))

    def of_images(self, images: Samples, text: Tensor) -> Tensor | None:
        """Computes the term's mean over new images.

        Args:
            images: some of the step's images, at least one.
            text: the student's text embeddings u of all classes seen `[C, De]`, any norm, old classes first; gradients flow to them. Rows
                of classes that no term reads in this step are zero.

        Returns:
            A scalar; None for a term without this part.
        """
        return None

    def of_anchors(self, anchors: Samples, text: Tensor) -> Tensor | None:
        """Computes the term's mean over anchors. It is not called where a task has no anchors, as in the first task.

        Args:
            anchors: some of the step's anchors, at least one.
            text: as for `of_images`.

        Returns:
            A scalar; None for a term without this part.
        """
        return None

    def of_text(self, text: Tensor) -> Tensor | None:
        """Computes what depends on text embeddings alone, once a step.

        Args:
            text: as for `of_images`.

        Returns:
            A scalar; None for a term without this part.
        """
        return None

    def logits(self, embedding: Tensor, text: Tensor) -> Tensor:
        """Returns CLIP's scores s·v̂·û `[B, C]` of image embeddings `[B, De]` and text embeddings `[C, De]`, any norm."""
        return clip_scores(embedding, text, self.logit_scale)

    def reads_anchors(self) -> bool:
        """Says whether the term has a part of anchors, so that a step draws some."""
        return type(self).of_anchors is not Loss.of_anchors
