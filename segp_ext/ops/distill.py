"""Anchor-guided cross-modal geometry distillation (ACGD)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import reference
from ..reference._numerics import compute_dtype
from ._checks import LARGEST, check_matrix, check_same_shape, check_scalar, check_width
from ._dispatch import NATIVE_DEVICES, products_run_native
from ._loss import native_loss, refuse_gradients

_OP = "geometry_distill"


def geometry_distill(
    student: Tensor,
    student_text: Tensor,
    teacher: Tensor,
    teacher_text: Tensor,
    *,
    logit_scale: float,
    temperature: float,
) -> Tensor:
    """Measures how far the student's image-text similarities moved from the teacher's (ACGD, arXiv 2603.12055, equations 16 to 18).

        τ² · mean_b KL( softmax( s · v̂_T · û_T / τ ) ‖ softmax( s · v̂_S · û_S / τ ) )

    The op normalises the rows. The mean is over the B images. No `[B, C]` matrix is kept: images go through in blocks
    with at most 64 MiB of working memory. CUDA needs up to eight more numbers for each image and each class. It also
    copies inputs whose dtypes differ, or whose rows have gaps between their numbers.

    The same pass computes the loss and its gradients. The gradients cannot be differentiated again.

    Args:
        student: image embeddings v_S `[B, De]`.
        student_text: text embeddings u_S `[C, De]`.
        teacher: image embeddings v_T `[B, De]`.
        teacher_text: text embeddings u_T `[C, De]`.
        logit_scale: s, from 0 to 1e6.
        temperature: τ, from 1e-6 to 1e6.

    Dtypes: float32, float64, float16, bfloat16. Inputs may differ in dtype and may have any strides. Half types compute in
    float32. A zero row normalises to zero, and its gradient is zero. On CUDA the same holds for rows of extreme norm: below
    1.2e-38 or above 8.5e37 (float64: 2.3e-308 and 4.4e307).

    Returns:
        A scalar `[]`, never negative; float64 if an input is float64, else float32. Without images or classes it is 0.
        Gradients flow to `student` and `student_text`.

    Raises:
        TypeError: an argument is no floating tensor.
        ValueError: shapes or devices do not fit; `teacher` or `teacher_text` requires grad; or a number is out of range.
        RuntimeError: in a backward pass with `create_graph=True`.
    """
    scale = check_scalar(_OP, "logit_scale", logit_scale, minimum=0.0)
    tau = check_scalar(_OP, "temperature", temperature, minimum=1 / LARGEST)
    matrices = student, student_text, teacher, teacher_text
    try:
        refuse_gradients(_OP, teacher=teacher, teacher_text=teacher_text)
        if products_run_native(student):
            return native_loss(torch.ops.segp_ext.geometry_distill.default, *matrices, scale, tau)
    except (AttributeError, RuntimeError, TypeError):
        _validate(*matrices)  # its message names the argument
        raise
    _validate(*matrices)
    return reference.geometry_distill(*matrices, logit_scale=scale, temperature=tau)


def _validate(student: Tensor, student_text: Tensor, teacher: Tensor, teacher_text: Tensor) -> None:
    """Names the argument that does not fit. The native op checks for itself: called first, this would cost as much as a small op."""
    check_matrix(_OP, "student", student, "[B, De]")
    check_matrix(_OP, "student_text", student_text, "[C, De]")
    check_matrix(_OP, "teacher", teacher, "[B, De]")
    check_matrix(_OP, "teacher_text", teacher_text, "[C, De]")
    check_same_shape(_OP, "teacher", teacher, "student", student, "[B, De]")
    check_same_shape(_OP, "teacher_text", teacher_text, "student_text", student_text, "[C, De]")
    check_width(_OP, "student_text", student_text, "student", student)


if NATIVE_DEVICES:

    @torch.library.register_fake("segp_ext::geometry_distill")
    def _fake(
        student: Tensor, student_text: Tensor, teacher: Tensor, teacher_text: Tensor, *rest: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        _validate(student, student_text, teacher, teacher_text)
        dtype = compute_dtype(student, student_text, teacher, teacher_text)
        student_gradient, text_gradient = rest[-2:]
        return (
            student.new_empty((), dtype=dtype),
            student.new_empty(student.shape if student_gradient else (0,), dtype=dtype),
            student.new_empty(student_text.shape if text_gradient else (0,), dtype=dtype),
        )
