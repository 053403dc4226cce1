"""Eager twin of `segp_ext.ops.prototype_transfer`."""

from __future__ import annotations

import torch
from torch import Tensor

from ._numerics import compute_dtype, unit_rows


@torch.no_grad()
def prototype_transfer(prototypes: Tensor, before: Tensor, after: Tensor, target: Tensor) -> Tensor:
    """Computes unit( μ_c + mean_{x∈A_c} a(x) · d(x) ), a = r̂_T · μ_c, d = r̂_S − r̂_T; all NaN if a target is out of range."""
    dtype = compute_dtype(prototypes, before, after)
    centre = unit_rows(prototypes.to(dtype))
    if len(prototypes) == 0:
        return centre
    teacher, student = unit_rows(before.to(dtype)), unit_rows(after.to(dtype))

    inside = (target >= 0) & (target < len(prototypes))
    c = torch.where(inside, target, 0)
    d = student - teacher  # (24)
    a = (teacher * centre[c]).sum(dim=1, keepdim=True)  # (25)
    # g_c · Δ_c of (26) to (28) is (1/n Σ a) · (Σ a·d / Σ a): the sum of a cancels.
    moved = torch.zeros_like(centre).index_add(0, c, a * d)
    count = centre.new_zeros(len(centre), 1).index_add(0, c, torch.ones_like(a))
    result = unit_rows(centre + moved / count.clamp(min=1))  # (29)
    return torch.where(inside.all(), result, torch.nan)
