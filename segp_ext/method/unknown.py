"""How well images fit the learnt classes: the lower the score, the more an image looks like none of them.

A learner uses `fit_scores`. evidence/unknown.py compares it with the other scores of this module.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext.method.class_statistics import ClassStatistics
from segp_ext.method.heads import Gaussians


@dataclass(frozen=True)
class Background:
    """One normal distribution of the images of all classes together, shrunk like the classes' own.

    Attributes:
        mean: Mean feature of all images, float64 `[Dr]`.
        factor: A factor A of the inverse covariance, A Aᵀ = Σ⁻¹, float64 `[Dr, Dr]`.
        volume: ½ log det Σ.
        count: Number of images.
        share: Share γ of the mean variance in Σ.
    """

    mean: Tensor
    factor: Tensor
    volume: float
    count: float
    share: float

    def scores(self, feature: Tensor) -> Tensor:
        """Computes log-likelihoods of features float64 `[N, Dr]`, up to the constant that `Gaussians.scores` leaves out too: `[N]`."""
        return -0.5 * self._distance(feature) - self.volume

    def left_out_scores(self, feature: Tensor) -> Tensor:
        """Computes `scores` of images that the distribution has learnt as if it had learnt the others alone; see `Gaussians`."""
        distance, ratio = self._distance(feature), self.count / (self.count - 1)
        left = (1 - (1 - self.share) * ratio / self.count * distance).clamp(min=1e-6)
        return -0.5 * ratio**2 * distance / left - self.volume - 0.5 * left.log()

    def _distance(self, feature: Tensor) -> Tensor:
        return ((feature - self.mean) @ self.factor).square().sum(dim=1)


def background_of(statistics: ClassStatistics) -> Background | None:
    """Makes the distribution of all images out of the classes' sums.

    Returns:
        The distribution; None for a head that keeps no covariances, and beside classes of an older learner, whose counts are not known.
    """
    head = statistics.head
    if not isinstance(head, Gaussians) or bool((statistics.counts < 0).any()):
        return None
    means, counts = statistics.class_means(), statistics.counts
    total = counts.sum()
    mean = counts @ means / total
    apart = means - mean
    covariance = (head.scatters.sum(dim=0) + (counts[:, None] * apart).T @ apart) / total
    variance = covariance.diagonal().mean().clamp(min=1e-12)
    values, vectors = torch.linalg.eigh((1 - head.share) * covariance)
    values = values + head.share * variance
    values = values.clamp(min=float(torch.finfo(torch.float64).eps * torch.maximum(values[-1], variance)))
    return Background(mean, vectors * values.rsqrt(), float(values.log().sum()) / 2, float(total), head.share)


def fit_scores(statistics: ClassStatistics, feature: Tensor, scale: float, background: Background | None) -> Tensor:
    """Computes how well images fit the learnt classes.

    With normally distributed classes it is the best class's log-likelihood minus that of the background: the relative Mahalanobis
    distance (Ren et al., arXiv 2106.09022), with the volumes that classes of different covariances need. With another head it is the
    largest score, with cosines thus the cosine to the nearest prototype.

    Args:
        statistics: Prototypes and head.
        feature: Raw features `[N, Dr]`.
        scale: s of the model.
        background: What `background_of` gave for these statistics.

    Returns:
        Scores, float64 `[N]`.
    """
    best = statistics.scores(feature, scale).double().amax(dim=1)
    return best if background is None else best - background.scores(_taken(statistics, feature))


def left_out_fit_scores(
    statistics: ClassStatistics, feature: Tensor, scores: Tensor, background: Background | None
) -> Tensor:
    """Computes `fit_scores` of images that the classes have learnt, as if they had not.

    Args:
        statistics: Prototypes and head.
        feature: Raw features `[N, Dr]`.
        scores: Their scores as if their classes had not learnt them `[N, C]`.
        background: What `background_of` gave for these statistics.

    Returns:
        Scores, float64 `[N]`.
    """
    best = scores.double().amax(dim=1)
    return best if background is None else best - background.left_out_scores(_taken(statistics, feature))


def _taken(statistics: ClassStatistics, feature: Tensor) -> Tensor:
    assert isinstance(statistics.head, Gaussians)
    return statistics.head.taken(feature)


# -- the scores that evidence/unknown.py compares with it ----------------------------------------------------------------------


def largest_probability(scores: Tensor, temperature: float) -> Tensor:
    """Computes the largest probability of softmax(scores / T), float64 `[N]`, of scores `[N, C]` (Hendrycks and Gimpel 2017)."""
    return (scores.double() / temperature).softmax(dim=1).amax(dim=1)


def energy(scores: Tensor, temperature: float) -> Tensor:
    """Computes the negative free energy log Σ exp(scores / T), float64 `[N]`, of scores `[N, C]` (Liu et al., arXiv 2010.03759)."""
    return (scores.double() / temperature).logsumexp(dim=1)


def nearest(feature: Tensor, anchors: Tensor, own: bool = False) -> Tensor:
    """Computes the cosine to the nearest anchor, float64 `[N]` (Sun et al., arXiv 2204.06507).

    Args:
        feature: Raw features `[N, Dr]`.
        anchors: Features of anchors `[A, Dr]`: prototypes, or images held back.
        own: Whether the features are the anchors themselves, so that each takes the nearest other one.
    """
    cosine = F.normalize(feature.double(), dim=1) @ F.normalize(anchors.double(), dim=1).T
    return (cosine.fill_diagonal_(-torch.inf) if own else cosine).amax(dim=1)
