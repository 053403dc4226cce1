"""Transfer of old prototypes into the new feature space, by the drift of each class's own anchors."""

from __future__ import annotations

import torch
from torch import Tensor

from .. import reference
from ..reference._numerics import compute_dtype
from ._checks import check_device, check_matrix, check_same_shape, check_width, is_readable, shape_text
from ._dispatch import NATIVE_DEVICES, runs_native
from ._loss import refuse_gradients

_OP = "prototype_transfer"


def prototype_transfer(prototypes: Tensor, before: Tensor, after: Tensor, target: Tensor) -> Tensor:
    """Moves each prototype by the mean drift of its class's anchors (arXiv 2603.12055, equations 24 to 29).

        a_x = b̂_x · p̂_c,  d_x = ŝ_x − b̂_x          for every anchor x of class c = target_x
        result_c = unit( p̂_c + 1/n_c Σ_x a_x d_x )

    Here b is `before`, s is `after`, hats are unit vectors, and n_c counts the anchors of class c. The paper weighs the
    drifts by a / Σa and multiplies by the mean of a. Σa cancels, so that nothing is divided by Σa. A class without anchors
    keeps its prototype, as a unit vector.

    Each anchor is read once. A row of the result depends on the anchors of its class alone, which are added in the order
    in which they are given. The number of threads changes nothing.

    Args:
        prototypes: raw-space prototypes p of the old classes `[C, Dr]`, of any norm.
        before: raw features of the anchors in the teacher, `[A, Dr]`, of any norm.
        after: raw features of the same anchors in the student, `[A, Dr]`, of any norm.
        target: class of each anchor, `[A]`, int64; classes may come in any order and number.

    Dtypes: float32, float64, float16, bfloat16. Inputs may differ in dtype and may have any strides. Half types compute in
    float32. A zero row normalises to zero. An anchor that is not finite makes the row of its class NaN; so does a
    prototype that is not finite. The op has no gradients.

    Returns:
        Unit prototypes `[C, Dr]`; float64 if an input is float64, else float32.

    Raises:
        TypeError: an argument is no floating tensor, or `target` is not int64.
        ValueError: shapes or devices do not fit; an argument requires grad while autograd records; or, on the CPU, a
            target is out of range. On CUDA and in torch.func's transforms such a target makes the whole result NaN, as
            reading the target would wait for the device.
    """
    arguments = prototypes, before, after, target
    try:
        refuse_gradients(_OP, prototypes=prototypes, before=before, after=after)
        if runs_native(prototypes):
            with torch.no_grad():
                result: Tensor = torch.ops.segp_ext.prototype_transfer.default(*arguments)
            return result
    except (AttributeError, RuntimeError, TypeError):
        _validate(*arguments)  # its message names the argument
        _validate_range(target, len(prototypes))
        raise
    _validate(*arguments)
    _validate_range(target, len(prototypes))
    return reference.prototype_transfer(*arguments)


def _validate_range(target: Tensor, classes: int) -> None:
    """Names a target that is out of range, where its value can be read without waiting."""
    if target.device.type == "cpu" and is_readable(target):
        outside = ((target < 0) | (target >= classes)).nonzero()
        if len(outside):
            index = int(outside[0])
            raise ValueError(f"{_OP}: target must be in [0, {classes}); got {int(target[index])} at index {index}")


def _validate(prototypes: Tensor, before: Tensor, after: Tensor, target: Tensor) -> None:
    """Names the argument that does not fit. The native op checks for itself: called first, this would cost as much as a small op."""
    check_matrix(_OP, "prototypes", prototypes, "[C, Dr]")
    check_matrix(_OP, "before", before, "[A, Dr]")
    check_matrix(_OP, "after", after, "[A, Dr]")
    check_width(_OP, "before", before, "prototypes", prototypes)
    check_same_shape(_OP, "after", after, "before", before, "[A, Dr]")
    if not isinstance(target, Tensor) or target.dtype != torch.int64:
        came = target.dtype if isinstance(target, Tensor) else type(target).__name__
        raise TypeError(f"{_OP}: target must be an int64 Tensor; got {came}")
    if target.shape != (len(before),):
        raise ValueError(f"{_OP}: target must be [{len(before)}], one class per anchor; got {shape_text(target)}")
    check_device(_OP, "target", target, "prototypes", prototypes)


if NATIVE_DEVICES:

    @torch.library.register_fake("segp_ext::prototype_transfer")
    def _fake(prototypes: Tensor, before: Tensor, after: Tensor, target: Tensor) -> Tensor:
        _validate(prototypes, before, after, target)
        return prototypes.new_empty(prototypes.shape, dtype=compute_dtype(prototypes, before, after))
