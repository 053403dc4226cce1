"""Eager twin of `segp_ext.ops.dpgd_step`."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor

PerChannel = float | Sequence[float] | Tensor


def dpgd_step(
    x: Tensor,
    grad: Tensor,
    seed: Tensor,
    *,
    step_size: PerChannel,
    epsilon: PerChannel,
    lower: PerChannel = 0.0,
    upper: PerChannel = 1.0,
) -> Tensor:
    """Computes clip( Π_{|x − seed|∞ ≤ ε}( x − γ · sign(grad) ), lower, upper ); see `segp_ext.ops.dpgd_step`."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    gamma = _over_channels(step_size, x).to(dtype)
    radius = _over_channels(epsilon, x).to(dtype)
    lowest, highest = _pixel_range(_over_channels(lower, x), _over_channels(upper, x), x.dtype)

    centre = seed.to(dtype)
    stepped = x.to(dtype) - gamma * grad.sign().to(dtype)  # torch's sign(NaN) is 0
    projected = torch.clamp(stepped, centre - radius, centre + radius)
    return torch.clamp(projected, lowest.to(dtype), highest.to(dtype)).to(x.dtype)


def dpgd_step_(
    x: Tensor,
    grad: Tensor,
    seed: Tensor,
    *,
    step_size: PerChannel,
    epsilon: PerChannel,
    lower: PerChannel = 0.0,
    upper: PerChannel = 1.0,
) -> Tensor:
    """Writes the result of `dpgd_step` into `x`, and returns it."""
    return x.copy_(dpgd_step(x, grad, seed, step_size=step_size, epsilon=epsilon, lower=lower, upper=upper))


def _over_channels(value: PerChannel, x: Tensor) -> Tensor:
    """Makes a number or `[C]` a float64 tensor that broadcasts over [B, C, H, W]."""
    tensor = torch.as_tensor(value, dtype=torch.float64, device=x.device)
    return tensor if tensor.dim() == 0 else tensor.view(1, -1, 1, 1)


def _pixel_range(lower: Tensor, upper: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rounds the bounds inwards to values of `dtype`. Where they cross, both are the value nearest to `lower`."""
    nearest, highest = lower.to(dtype), upper.to(dtype)
    up, down = torch.full_like(nearest, inf), torch.full_like(highest, -inf)
    lowest = torch.where(nearest.double() < lower, torch.nextafter(nearest, up), nearest)
    highest = torch.where(highest.double() > upper, torch.nextafter(highest, down), highest)
    crossed = lowest > highest
    return torch.where(crossed, nearest, lowest), torch.where(crossed, nearest, highest)
