"""Drift of the feature space around each prototype, from the anchors near it."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import reference
from ..reference._numerics import compute_dtype
from ._checks import LARGEST, check_matrix, check_same_shape, check_scalar, check_width
from ._dispatch import NATIVE_DEVICES, products_run_native
from ._loss import refuse_gradients

_OP = "prototype_drift"


def prototype_drift(prototypes: Tensor, before: Tensor, after: Tensor, *, temperature: float) -> tuple[Tensor, Tensor]:
    """Computes each prototype's drift as the weighted drift of the anchors near it.

        d_a = after_a − before_a
        w_ca = softmax_a( p̂_c · ẑ_a / τ ),  z_a = before_a
        drift_c = Σ_a w_ca d_a
        proximity_c = Σ_a w_ca max(0, p̂_c · ẑ_a)

    For unit rows these are the weights of semantic drift compensation (SDC, arXiv 2004.00440) with σ² = τ.

    No `[C, A]` matrix is kept: anchors go through in chunks with an online softmax and at most 64 MiB of working memory.
    CUDA needs six more numbers for each prototype. It also copies inputs whose dtypes differ, or whose rows have gaps
    between their numbers. The op has no gradients.

    Args:
        prototypes: raw-space prototypes p `[C, Dr]`.
        before: raw features of the anchors in the teacher, `[A, Dr]`.
        after: raw features of the same anchors in the student, `[A, Dr]`.
        temperature: τ, from 1e-6 to 1e6.

    Dtypes: float32, float64, float16, bfloat16. Inputs may differ in dtype and may have any strides. Half types compute in
    float32. A zero row normalises to zero. On CUDA the same holds for rows of extreme norm: below 1.2e-38 or above 8.5e37
    (float64: 2.3e-308 and 4.4e307).

    Returns:
        The drift `[C, Dr]` and the proximity `[C]`; float64 if an input is float64, else float32. Without anchors both
        are zeros.

    Raises:
        TypeError: an argument is no floating tensor.
        ValueError: shapes or devices do not fit; an argument requires grad while autograd records; or the temperature
            is out of range.
    """
    tau = check_scalar(_OP, "temperature", temperature, minimum=1 / LARGEST)
    matrices = prototypes, before, after
    try:
        refuse_gradients(_OP, prototypes=prototypes, before=before, after=after)
        if products_run_native(prototypes):
            with torch.no_grad():
                drift, proximity = torch.ops.segp_ext.prototype_drift.default(*matrices, tau)
            return drift, proximity
    except (AttributeError, RuntimeError, TypeError):
        _validate(*matrices)  # its message names the argument
        raise
    _validate(*matrices)
    return reference.prototype_drift(*matrices, temperature=tau)


def _validate(prototypes: Tensor, before: Tensor, after: Tensor) -> None:
    """Names the argument that does not fit. The native op checks for itself: called first, this would cost as much as a small op."""
    check_matrix(_OP, "prototypes", prototypes, "[C, Dr]")
    check_matrix(_OP, "before", before, "[A, Dr]")
    check_matrix(_OP, "after", after, "[A, Dr]")
    check_width(_OP, "before", before, "prototypes", prototypes)
    check_same_shape(_OP, "after", after, "before", before, "[A, Dr]")


if NATIVE_DEVICES:

    @torch.library.register_fake("segp_ext::prototype_drift")
    def _fake(prototypes: Tensor, before: Tensor, after: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        _validate(prototypes, before, after)
        dtype = compute_dtype(prototypes, before, after)
        return (
            prototypes.new_empty(prototypes.shape, dtype=dtype),
            prototypes.new_empty((prototypes.shape[0],), dtype=dtype),
        )
