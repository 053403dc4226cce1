"""The loss that pulls an image towards an old class, in text space and in the visual space."""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor

from .. import reference
from ._checks import check_device, check_matrix, check_scalar, check_width, shape_text

_OP = "dual_target_loss"


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
    """Per-sample loss of DPGD (arXiv 2603.12055) for a target class c, with rows normalised inside:

        −log softmax( s · v̂ · û )_c + λ · ( 1 − ẑ · p̂_c )

    It runs its eager twin in `segp_ext.reference` for now; a fused kernel will take its place.

    Args:
        embedding: projected image embeddings v `[B, De]`.
        feature: raw visual features z `[B, Dr]`.
        text: text embeddings u `[C, De]`.
        prototypes: raw-space prototypes p `[C, Dr]`.
        target: class of each row, `[B]`, int64.
        logit_scale: s ≥ 0.
        visual_weight: λ.

    float32, float64, float16 and bfloat16, any strides; dtypes may differ. Half types compute in float32. A zero
    row normalises to zero and gets a zero gradient.

    Returns:
        `[B]`; float64 if an input is float64, else float32. Gradients flow to `embedding` and `feature` only.

    Raises:
        TypeError: an argument is no floating tensor, or `target` is not int64.
        ValueError: shapes or devices do not fit, a number is not finite, or a target is out of range (on the
            CPU; on CUDA and under `torch.compile` its row becomes NaN, as looking would wait for the device).
    """
    check_matrix(_OP, "embedding", embedding, "[B, De]")
    check_matrix(_OP, "feature", feature, "[B, Dr]")
    check_matrix(_OP, "text", text, "[C, De]")
    check_matrix(_OP, "prototypes", prototypes, "[C, Dr]")
    check_width(_OP, "text", text, "embedding", embedding)
    check_width(_OP, "prototypes", prototypes, "feature", feature)
    rows, classes = embedding.shape[0], text.shape[0]
    if feature.shape[0] != rows:
        raise ValueError(f"{_OP}: feature must have a row per row of embedding, {rows}; got {shape_text(feature)}")
    if prototypes.shape[0] != classes:
        raise ValueError(f"{_OP}: prototypes must have a row per row of text, {classes}; got {shape_text(prototypes)}")
    check_device(_OP, "feature", feature, "embedding", embedding)
    if not isinstance(target, Tensor) or target.dtype != torch.int64:
        came = target.dtype if isinstance(target, Tensor) else type(target).__name__
        raise TypeError(f"{_OP}: target must be an int64 Tensor; got {came}")
    if target.shape != (rows,):
        raise ValueError(f"{_OP}: target must be [{rows}], one class per row; got {shape_text(target)}")
    check_device(_OP, "target", target, "embedding", embedding)
    if rows > 0 and classes == 0:
        raise ValueError(f"{_OP}: text must have at least one class; got {shape_text(text)}")
    scale = check_scalar(_OP, "logit_scale", logit_scale, minimum=0.0)
    weight = check_scalar(_OP, "visual_weight", visual_weight, minimum=-inf)
    if rows > 0 and target.device.type == "cpu" and not torch.compiler.is_compiling():
        least, most = (int(bound) for bound in torch.aminmax(target))
        if least < 0 or most >= classes:
            raise ValueError(f"{_OP}: target must be in [0, {classes}); got {least if least < 0 else most}")
    return reference.dual_target_loss(
        embedding, feature, text, prototypes, target, logit_scale=scale, visual_weight=weight
    )
