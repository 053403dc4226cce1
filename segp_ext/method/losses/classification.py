"""Classification: cross-entropy of the new images (SeGP-CL, arXiv 2603.12055, equation 15)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from segp_ext.method.losses.base import Loss, Samples, clip_scores


def classification_loss(embedding: Tensor, text: Tensor, target: Tensor, logit_scale: float) -> Tensor:
    """Computes the cross-entropy of s·v̂·û (SeGP-CL, arXiv 2603.12055, equation 15).

    Args:
        embedding: image embeddings v `[B, De]`, any norm.
        text: text embeddings u `[C, De]`, any norm.
        target: class of each image, int64 `[B]`, an index into `text`.
        logit_scale: s.

    Returns:
        The mean over images, a scalar; gradients flow to `embedding` and `text`.
    """
    return F.cross_entropy(clip_scores(embedding, text, logit_scale), target)


class Classification(Loss):
    """Cross-entropy of new images over the new classes, or over all classes seen (`training.classes`)."""

    @property
    def weight(self) -> float:
        return 1.0

    @property
    def first_class(self) -> int:
        """The first class of the cross-entropy; all later ones are in it."""
        return 0 if self.config.training.classes == "seen" else self.task.new.start

    def classes_of_step(self, drawn: Tensor) -> range:
        return range(self.first_class, self.task.new.stop)

    def of_images(self, images: Samples, text: Tensor) -> Tensor:
        first = self.first_class
        return classification_loss(images.embedding, text[first:], images.target - first, self.logit_scale)
