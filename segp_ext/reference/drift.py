"""Eager twin of `segp_ext.ops.prototype_drift`."""

from __future__ import annotations

import torch
from torch import Tensor

from ._numerics import compute_dtype, unit_rows


@torch.no_grad()
def prototype_drift(prototypes: Tensor, before: Tensor, after: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Computes drift_c = Σ_a w_ca d_a and proximity_c = Σ_a w_ca max(0, p̂_c · ẑ_a), with w_ca = softmax_a( p̂_c · ẑ_a / τ )."""
    dtype = compute_dtype(prototypes, before, after)
    moved = after.to(dtype) - before.to(dtype)
    similarity = unit_rows(prototypes.to(dtype)) @ unit_rows(before.to(dtype)).T  # [C, A]
    weight = torch.softmax(similarity / temperature, dim=1)
    return weight @ moved, (weight * similarity.clamp(min=0)).sum(dim=1)
