"""The loss that pulls an image towards an old class, in text space and in the visual space."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import reference
from ..reference._numerics import compute_dtype
from ._checks import LARGEST, check_device, check_matrix, check_scalar, check_width, is_readable, shape_text
from ._dispatch import NATIVE_DEVICES, products_run_native
from ._loss import native_loss, refuse_gradients

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
    """Computes the loss of DPGD for each image and its target class c (arXiv 2603.12055, equations 11 and 12).

        −log softmax( s · v̂ · û )_c + λ · ( 1 − ẑ · p̂_c )

    The op normalises the rows. The same pass computes the loss and its gradients. The gradients cannot be differentiated
    again.

    Args:
        embedding: projected image embeddings v `[B, De]`.
        feature: raw visual features z `[B, Dr]`.
        text: text embeddings u `[C, De]`.
        prototypes: raw-space prototypes p `[C, Dr]`.
        target: class of each row, `[B]`, int64.
        logit_scale: s, from 0 to 1e6.
        visual_weight: λ, from -1e6 to 1e6.

    Dtypes: float32, float64, float16, bfloat16. Inputs may differ in dtype and may have any strides. Half types compute in
    float32. A zero row normalises to zero, and its gradient is zero. On CUDA the same holds for rows of extreme norm: below
    1.2e-38 or above 8.5e37 (float64: 2.3e-308 and 4.4e307).

    Returns:
        Losses `[B]`; float64 if an input is float64, else float32. Gradients flow to `embedding` and `feature` alone.

    Raises:
        TypeError: an argument is no floating tensor, or `target` is not int64.
        ValueError: shapes or devices do not fit, `text` or `prototypes` requires grad, or a number is out of range.
        ValueError: a target is out of range, on the CPU. On CUDA and in torch.func's transforms the loss of such a target is NaN,
            as reading the target would wait for the device.
        RuntimeError: in a backward pass with `create_graph=True`.
    """
    scale = check_scalar(_OP, "logit_scale", logit_scale, minimum=0.0)
    weight = check_scalar(_OP, "visual_weight", visual_weight, minimum=-LARGEST)
    arguments = embedding, feature, text, prototypes, target
    try:
        refuse_gradients(_OP, text=text, prototypes=prototypes)
        if products_run_native(embedding):
            return native_loss(torch.ops.segp_ext.dual_target_loss.default, *arguments, scale, weight)
    except (AttributeError, RuntimeError, TypeError):
        _validate(*arguments)  # its message names the argument
        _validate_range(target, len(text))
        raise
    _validate(*arguments)
    _validate_range(target, len(text))
    return reference.dual_target_loss(*arguments, logit_scale=scale, visual_weight=weight)


def _validate_range(target: Tensor, classes: int) -> None:
    """Names a target that is out of range, where its value can be read without waiting."""
    if len(target) and target.device.type == "cpu" and is_readable(target):
        least, most = (int(bound) for bound in torch.aminmax(target))
        if least < 0 or most >= classes:
            raise ValueError(f"{_OP}: target must be in [0, {classes}); got {least if least < 0 else most}")


def _validate(embedding: Tensor, feature: Tensor, text: Tensor, prototypes: Tensor, target: Tensor) -> None:
    """Names the argument that does not fit. The native op checks for itself: called first, this would cost as much as a small op."""
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


if NATIVE_DEVICES:

    @torch.library.register_fake("segp_ext::dual_target_loss")
    def _fake(
        embedding: Tensor, feature: Tensor, text: Tensor, prototypes: Tensor, target: Tensor, *rest: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        _validate(embedding, feature, text, prototypes, target)
        dtype = compute_dtype(embedding, feature, text, prototypes)
        embedding_gradient, feature_gradient = rest[-2:]
        return (
            embedding.new_empty((embedding.shape[0],), dtype=dtype),
            embedding.new_empty(embedding.shape if embedding_gradient else (0,), dtype=dtype),
            embedding.new_empty(feature.shape if feature_gradient else (0,), dtype=dtype),
        )
