"""Class prototypes: mean raw features of new classes, and their transfer when the model moves on."""

from __future__ import annotations

from typing import Literal

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


def transfer(
    prototypes: Tensor,
    before: Tensor,
    after: Tensor,
    temperature: float,
    rule: Literal["anchors", "sdc", "adc"] = "anchors",
) -> Tensor:
    """Moves old prototypes along the drift that samples show.

    anchors: p_c + proximity_c · drift_c (README, method step 6). sdc: p_c + drift_c, the weights a Gaussian of the distance between unit
    vectors, σ² = τ_p (Semantic Drift Compensation, arXiv 2004.00440). adc: p_c + the mean drift of the class's own samples (Adversarial
    Drift Compensation, arXiv 2405.19074, whose authors leave out the samples that do not reach their class).

    Args:
        prototypes: `[C, Dr]`, unnormalised.
        before: raw features of the samples in the teacher, `[A, Dr]`; for adc as many of each class, class by class.
        after: raw features of the same samples in the trained student, `[A, Dr]`.
        temperature: τ_p.
        rule: whose.

    Returns:
        New prototypes `[C, Dr]`.
    """
    if rule == "adc":
        return prototypes + (after - before).view(len(prototypes), -1, prototypes.shape[1]).mean(dim=1)
    drift, proximity = ops.prototype_drift(prototypes, before, after, temperature=temperature)
    return prototypes + (drift if rule == "sdc" else proximity.unsqueeze(1) * drift)
