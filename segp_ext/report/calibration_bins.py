"""How well probabilities fit: the best probability of images against the share of right ones, bin by bin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

BINS = 15
"""Bins of equal width, as in Guo et al. (arXiv 1706.04599)."""


@dataclass(frozen=True)
class CalibrationBin:
    """Images whose best probability lies in one bin.

    Attributes:
        images: Number of these images.
        confidence: Mean of their best probabilities.
        accuracy: Share of them whose best class is right.
    """

    images: int
    confidence: float
    accuracy: float


def calibration_bins(confidence: Sequence[float], right: Sequence[bool]) -> list[CalibrationBin]:
    """Sorts images into `BINS` bins by their best probability. Bin k holds probabilities above k / 15, up to (k + 1) / 15.

    Args:
        confidence: Best probability of each image, from 0 to 1.
        right: Whether the best class of each image is right.

    Returns:
        All bins, also empty ones, whose means are 0.
    """
    best, hit = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    place = np.clip(np.ceil(best * BINS), 1, BINS).astype(int) - 1
    images = np.bincount(place, minlength=BINS)
    most = np.maximum(images, 1)
    means = [np.bincount(place, values, BINS) / most for values in (best, hit)]
    return [CalibrationBin(int(n), float(c), float(a)) for n, c, a in zip(images, *means, strict=True)]


def expected_error(bins: Sequence[CalibrationBin]) -> float:
    """Computes the expected calibration error: the mean gap between confidence and accuracy, weighted by the bins' images.

    Args:
        bins: What `calibration_bins` returned.
    """
    images = sum(one.images for one in bins)
    gap = sum(one.images * abs(one.confidence - one.accuracy) for one in bins)
    return gap / images if images else 0.0
