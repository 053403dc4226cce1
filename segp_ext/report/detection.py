"""How well a score tells images of learnt classes from images of unknown ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

ACCEPTED = 0.95
"""Share of the images of learnt classes that `false_positive_rate` takes as known."""


def area_under_curve(known: Sequence[float], unknown: Sequence[float]) -> float:
    """Computes AUROC: how often an image of a learnt class scores above one of an unknown class; equal scores count half.

    Args:
        known: Scores of images of learnt classes, at least one; higher is more likely known.
        unknown: Scores of images of unknown classes, at least one.
    """
    from sklearn.metrics import roc_auc_score

    truth = [1] * len(known) + [0] * len(unknown)
    return float(roc_auc_score(truth, np.concatenate([known, unknown])))


def false_positive_rate(known: Sequence[float], unknown: Sequence[float]) -> float:
    """Computes FPR95: the share of unknown images taken as known, where the limit takes at least 95 % of the known ones as known.

    Args:
        known: As for `area_under_curve`.
        unknown: As for `area_under_curve`.
    """
    ordered = np.sort(np.asarray(known, dtype=np.float64))[::-1]
    limit = ordered[math.ceil(ACCEPTED * len(ordered)) - 1]
    return float((np.asarray(unknown, dtype=np.float64) >= limit).mean())
