"""Class prototypes: mean raw features of new classes, and their transfer when the model moves on."""

from __future__ import annotations

import torch
from torch import Tensor

from segp_ext import ops


def class_means(feature: Tensor, label: Tensor, classes: int) -> Tensor:
    """Mean raw feature per class, `[classes, Dr]`, from features `[N, Dr]` and labels int64 `[N]`; sums run in float64."""
    total = torch.zeros(classes, feature.shape[1], dtype=torch.float64, device=feature.device)
    total.index_add_(0, label, feature.double())
    counts = torch.bincount(label, minlength=classes).unsqueeze(1)
    return (total / counts).to(feature.dtype)


def transfer(prototypes: Tensor, before: Tensor, after: Tensor, temperature: float) -> Tensor:
    """Moves old prototypes along the drift that anchors show: p_c + proximity_c · drift_c (README, method step 6).

    Args:
        prototypes: `[C, Dr]`, unnormalised.
        before: raw features of the anchors in the teacher, `[A, Dr]`.
        after: raw features of the same anchors in the trained student, `[A, Dr]`.
        temperature: τ_p.

    Returns:
        New prototypes `[C, Dr]`.
    """
    drift, proximity = ops.prototype_drift(prototypes, before, after, temperature=temperature)
    return prototypes + proximity.unsqueeze(1) * drift
