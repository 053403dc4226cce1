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


class SharedCovariance:
    """One covariance of raw features about their classes' means, for all classes, added up in float64 batch by batch.

    With it, prototypes score as linear discriminant analysis does; the sums of earlier tasks are those of the model at their time.

    Args:
        width: Dr.
        device: of the features.
        shrinkage: share of the mean variance on the diagonal, mixed in; None estimates it: oracle approximating shrinkage (Chen,
            Wiesel, Eldar, Hero 2010), the share that fits normally distributed features best, from the covariance and their number.

    Attributes:
        scatter: sum of (z − μ)(z − μ)ᵀ over all images so far, each about its class's mean, `[Dr, Dr]`.
        count: images so far.
    """

    def __init__(self, width: int, device: torch.device, shrinkage: float | None) -> None:
        self.shrinkage = shrinkage
        self.scatter = torch.zeros(width, width, dtype=torch.float64, device=device)
        self.count = 0
        self._factor: Tensor | None = None
        self.begin(0)

    def begin(self, classes: int) -> None:
        """Starts a task of so many classes."""
        width, device = len(self.scatter), self.scatter.device
        self._products = torch.zeros(width, width, dtype=torch.float64, device=device)
        self._sums = torch.zeros(classes, width + 1, dtype=torch.float64, device=device)  # the last column counts

    def add(self, feature: Tensor, label: Tensor, index: Tensor) -> None:
        """Takes features `[N, Dr]` of images with labels int64 `[N]` within the task; their numbers in it do not matter here."""
        z = feature.double()
        self._products += z.T @ z
        self._sums.index_add_(0, label, torch.cat([z, z.new_ones(len(z), 1)], dim=1))

    def finish(self, processes: Processes) -> None:
        """Ends the task."""
        products, sums = processes.sum(self._products), processes.sum(self._sums)
        counts = sums[:, -1:]
        means = sums[:, :-1] / counts
        self._take(self.scatter + products - (counts * means).T @ means, self.count + int(counts.sum()))
        self.begin(0)

    def _take(self, scatter: Tensor, count: int) -> None:
        """Keeps the sums, and a factor A of the inverse covariance, A Aᵀ = Σ⁻¹."""
        covariance = scatter / max(count, 1)
        ridge = covariance.diagonal().mean().clamp(min=1e-12)  # of images that are all alike there is none
        identity = torch.eye(len(scatter), dtype=torch.float64, device=scatter.device)
        shrinkage = self._estimated(covariance, count) if self.shrinkage is None else self.shrinkage
        covariance = (1 - shrinkage) * covariance + shrinkage * ridge * identity
        values, vectors = torch.linalg.eigh(covariance)
        floor = torch.finfo(torch.float64).eps * values[-1]
        self._factor = vectors * values.clamp(min=floor).rsqrt()
        self.scatter, self.count = scatter, count

    @staticmethod
    def _estimated(covariance: Tensor, count: int) -> float:
        spread, level = covariance.square().mean(), covariance.diagonal().mean().square()
        apart = (count + 1) * (spread - level / len(covariance))
        return float(((spread + level) / apart).clamp(max=1)) if apart > 0 else 1.0

    def scores(self, feature: Tensor, prototypes: Tensor) -> Tensor:
        """−½ (z − p)ᵀ Σ⁻¹ (z − p): features `[B, Dr]`, prototypes `[C, Dr]` → log-likelihoods up to a constant `[B, C]`."""
        assert self._factor is not None
        z, p = feature.double() @ self._factor, prototypes.double() @ self._factor
        return (z @ p.T - 0.5 * p.square().sum(dim=1) - 0.5 * z.square().sum(dim=1, keepdim=True)).float()

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {"scatter": self.scatter, "count": torch.tensor([float(self.count)], dtype=torch.float64)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes over what `state` gave."""
        self._take(state["scatter"].to(self.scatter.device), int(state["count"]))


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
    Drift Compensation, arXiv 2405.19074).

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
