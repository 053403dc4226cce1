"""Eager twin of `segp_ext.ops.geometry_distill`."""

from __future__ import annotations

import torch
from torch import Tensor

from ._numerics import compute_dtype, unit_rows


def geometry_distill(
    student: Tensor,
    student_text: Tensor,
    teacher: Tensor,
    teacher_text: Tensor,
    *,
    logit_scale: float,
    temperature: float,
) -> Tensor:
    """Computes τ² · mean_b KL( softmax( s · v̂_T · û_T / τ ) ‖ softmax( s · v̂_S · û_S / τ ) ); see `segp_ext.ops.geometry_distill`."""
    dtype = compute_dtype(student, student_text, teacher, teacher_text)
    sharpness = logit_scale / temperature

    def log_probability(image: Tensor, text: Tensor) -> Tensor:
        logits = sharpness * unit_rows(image.to(dtype)) @ unit_rows(text.to(dtype)).T
        return torch.log_softmax(logits, dim=1)  # subtracts the row's maximum

    wanted = log_probability(teacher.detach(), teacher_text.detach())
    actual = log_probability(student, student_text)
    divergence = (wanted.exp() * (wanted - actual)).sum(dim=1)
    loss = temperature**2 * divergence.sum() / max(len(student), 1)
    return loss - loss.detach().clamp(max=0)  # rounding may make the loss negative, but not its gradient wrong
