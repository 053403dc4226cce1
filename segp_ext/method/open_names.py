"""Scores over names of which some were never learnt, and the gate that leaves what is not learnt to the untouched model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from segp_ext.method.text_scores import first_alike, text_scores


@dataclass(frozen=True)
class OpenNames:
    """Text embeddings of the learnt classes, and of names that were never learnt.

    Attributes:
        text: Embeddings in the trained model, the learnt classes first `[C + O, De]`.
        learnt: Number of learnt classes C.
        untouched: The same in the untouched model, its adapter off; None without `inference.gate`.
    """

    text: Tensor
    learnt: int
    untouched: Tensor | None = None

    def of_text(self, embedding: Tensor, scale: float, temperature: float, untouched: bool = False) -> Tensor:
        """Returns logarithms of the probabilities that text alone gives, float64 `[B, C + O]`.

        Args:
            embedding: Embeddings of images in the trained model, or in the untouched one, `[B, De]`.
            scale: s.
            temperature: Temperature of the path text.
            untouched: Whether the embeddings are the untouched model's.
        """
        text, alike = (self.untouched, self._alike_untouched) if untouched else (self.text, self._alike)
        assert text is not None
        return (text_scores(embedding, text, alike, scale).double() / temperature).log_softmax(dim=1)

    @cached_property
    def _alike(self) -> Tensor | None:
        return first_alike(self.text)

    @cached_property
    def _alike_untouched(self) -> Tensor | None:
        return None if self.untouched is None else first_alike(self.untouched)


def with_others(learnt: Tensor, text: Tensor) -> Tensor:
    """Adds names that were never learnt, which text alone scores, to the learnt classes.

    p(other) = p_text(other), p(class) = Σ p_text(learnt) · p_path(class | learnt).

    Args:
        learnt: Logarithms of a path's probabilities of the learnt classes `[B, C]`.
        text: Logarithms of the text path's probabilities of all names, the learnt ones first `[B, C + O]`.

    Returns:
        Logarithms of the probabilities `[B, C + O]`.
    """
    of_learnt, of_others = text.tensor_split([learnt.shape[1]], dim=1)
    return torch.cat([of_learnt.logsumexp(dim=1, keepdim=True) + learnt, of_others], dim=1)


def gated(scores: Tensor, untouched: Tensor, far: Tensor, learnt: int) -> Tensor:
    """Leaves to the untouched model what was not learnt (ours).

    An image that fits no learnt class gets the untouched model's probabilities. For other images, the names that were never learnt share
    what they have together as the untouched model says.

    Args:
        scores: Logarithms of the probabilities of all names `[B, C + O]`.
        untouched: Logarithms of the untouched model's probabilities `[B, C + O]`.
        far: Whether each image fits no learnt class, bool `[B]`.
        learnt: Number of learnt classes C.

    Returns:
        Logarithms of the probabilities `[B, C + O]`.
    """
    together = scores[:, learnt:].logsumexp(dim=1, keepdim=True)
    shared = together + untouched[:, learnt:].log_softmax(dim=1)
    return torch.where(far.unsqueeze(1), untouched, torch.cat([scores[:, :learnt], shared], dim=1))
