"""Class prototypes: mean raw features of new classes, and their transfer when the model moves on."""

from __future__ import annotations

import torch
from torch import Tensor

from segp_ext import ops
from segp_ext.processes import Processes


class ClassMeans:
    """Mean raw features per class, added up in float64 batch by batch.

    Args:
        classes: number of classes.
        width: Dr.
        device: of the features.
    """

    def __init__(self, classes: int, width: int, device: torch.device) -> None:
        self._sums = torch.zeros(classes, width + 1, dtype=torch.float64, device=device)  # the last column counts

    def add(self, feature: Tensor, label: Tensor) -> None:
        """Takes features `[N, Dr]` of images with labels int64 `[N]`."""
        ones = feature.new_ones(len(feature), 1, dtype=torch.float64)
        self._sums.index_add_(0, label, torch.cat([feature.double(), ones], dim=1))

    def read(self, processes: Processes) -> Tensor:
        """Means over all processes, float32 `[classes, Dr]`; NaN for a class without images."""
        sums = processes.sum(self._sums.clone())
        return (sums[:, :-1] / sums[:, -1:]).float()


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
