"""Eager twin of `segp_ext.ops.dual_target_loss`."""

from __future__ import annotations

import torch
from torch import Tensor

from ._numerics import compute_dtype, unit_rows


def dual_target_loss(
    embedding: Tensor,
    feature: Tensor,
    text: Tensor,
    prototypes: Tensor,
    target: Tensor,
    *,
    logit_scale: float,
    visual_weight: float,
) -> Tensor:
    """Computes −log softmax( s · v̂ · û )_c + λ · ( 1 − ẑ · p̂_c ) for each row; NaN where the target is out of range."""
    dtype = compute_dtype(embedding, feature, text, prototypes)
    if len(embedding) == 0:
        return (embedding.sum(dim=1) + feature.sum(dim=1)).to(dtype)
    image = unit_rows(embedding.to(dtype))
    visual = unit_rows(feature.to(dtype))
    classes = unit_rows(text.detach().to(dtype))
    centres = unit_rows(prototypes.detach().to(dtype))

    inside = (target >= 0) & (target < len(text))
    c = torch.where(inside, target, 0)
    log_probability = torch.log_softmax(logit_scale * image @ classes.T, dim=1)  # subtracts the row's maximum
    text_loss = -log_probability.gather(1, c[:, None]).squeeze(1)
    visual_loss = 1 - (visual * centres[c]).sum(dim=1)
    loss = text_loss + visual_weight * visual_loss
    return torch.where(inside, loss, torch.nan)
