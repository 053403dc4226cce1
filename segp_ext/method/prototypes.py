"""Class prototypes: mean features of new classes, and the transfer of old ones along the drift (SeGP-CL, equations 23 to 29)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext import ops
from segp_ext.config import PrototypesConfig
from segp_ext.runtime.processes import Processes


class Means(NamedTuple):
    """What the images of some classes gave.

    Attributes:
        prototypes: prototypes `[classes, Dr]`, in the dtype of the other ones.
        lengths: lengths of the means, of which unit prototypes are the directions, float64 `[classes]`.
        counts: number of images of each class, float64 `[classes]`.
    """

    prototypes: Tensor
    lengths: Tensor
    counts: Tensor


class ClassMeans:
    """Adds up mean features per class in float64, batch by batch.

    Args:
        classes: number of classes.
        like: prototypes of other classes `[*, Dr]`, which tell width, dtype and device.
        unit: true for the direction of the mean of unit features, μ_c = unit( Σ r̂ ) (equation 23); false for means of raw features.
    """

    def __init__(self, classes: int, like: Tensor, unit: bool) -> None:
        self.unit, self.dtype = unit, like.dtype
        width = like.shape[1] + 1  # the last column counts
        self._sums = torch.zeros(classes, width, dtype=torch.float64, device=like.device)

    def add(self, feature: Tensor, label: Tensor) -> None:
        """Adds raw features `[N, Dr]` of images with labels int64 `[N]`."""
        rows = F.normalize(feature.double(), dim=1) if self.unit else feature.double()
        self._sums.index_add_(0, label, torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1))

    def read(self, processes: Processes) -> Means:
        """Returns the means over all processes; NaN for a class without images."""
        sums = processes.sum(self._sums.clone())
        means = sums[:, :-1] / sums[:, -1:]
        prototypes = (F.normalize(means, dim=1) if self.unit else means).to(self.dtype)
        return Means(prototypes, means.norm(dim=1), sums[:, -1])


def transfer(prototypes: Tensor, before: Tensor, after: Tensor, settings: PrototypesConfig) -> Tensor:
    """Moves old prototypes along the drift that samples show.

    The rules, by `settings.transfer`:

    - own-anchors: μ_c ← unit( μ_c + mean of a·d over the class's own anchors ), a = r̂_T·μ_c, d = r̂_S − r̂_T (equations 24 to 29).
    - all-anchors (ours): μ_c + proximity_c · drift_c, over all anchors.
    - sdc: μ_c + drift_c. Weights are a Gaussian of the distance between unit vectors, σ² = τ_p (Semantic Drift Compensation,
      arXiv 2004.00440).
    - adc: μ_c + the mean drift of the class's own samples (Adversarial Drift Compensation, arXiv 2405.19074). Its authors leave out
      samples that do not reach their class.

    With `settings.features` unit, the last three take unit features and give unit prototypes. With raw, own-anchors turns a prototype and
    keeps its length.

    Args:
        prototypes: old prototypes `[C, Dr]`.
        before: raw features of the samples in the teacher, `[A, Dr]`. For own-anchors and adc, each class has as many, class by class.
        after: raw features of the same samples in the trained student, `[A, Dr]`.
        settings: the rule, and the features that it takes.

    Returns:
        New prototypes `[C, Dr]`.
    """
    unit = settings.features == "unit"
    if settings.transfer == "own-anchors":
        own = torch.arange(len(prototypes), device=before.device).repeat_interleave(len(before) // len(prototypes))
        moved = ops.prototype_transfer(prototypes, before, after, own)
        return moved if unit else moved * prototypes.norm(dim=1, keepdim=True)
    if unit:
        before, after = F.normalize(before, dim=1), F.normalize(after, dim=1)
    if settings.transfer == "adc":
        moved = prototypes + (after - before).view(len(prototypes), -1, prototypes.shape[1]).mean(dim=1)
    else:
        drift, proximity = ops.prototype_drift(prototypes, before, after, temperature=settings.temperature)
        moved = prototypes + (drift if settings.transfer == "sdc" else proximity.unsqueeze(1) * drift)
    return F.normalize(moved, dim=1) if unit else moved
