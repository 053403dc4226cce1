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
    """Keeps the student's image-text similarities where the teacher had them (ACGD, arXiv 2603.12055):

        τ² · mean_b KL( softmax( s · v̂_T · û_T / τ ) ‖ softmax( s · v̂_S · û_S / τ ) )

    with rows normalised inside, mean over the rows. No `[B, C]` matrix is kept: rows go through in blocks, with
    at most 64 MiB of working memory. CUDA adds up to eight numbers a row and class, and a copy of inputs whose dtypes differ
    or whose rows are not consecutive numbers. The gradients come out of the same pass as the loss, and cannot themselves
    be differentiated.

    Args:
        student: image embeddings v_S `[B, De]`.
        student_text: text embeddings u_S `[C, De]`.
        teacher: image embeddings v_T `[B, De]`.
        teacher_text: text embeddings u_T `[C, De]`.
        logit_scale: s, from 0 to 1e6.
        temperature: τ, from 1e-6 to 1e6.

    float32, float64, float16 and bfloat16, any strides; dtypes may differ. Half types compute in float32. A zero
    row normalises to zero and gets a zero gradient. On CUDA, so does a row whose inverse norm is no normal number: norms below 1.2e-38
    or above 8.5e37 (float64: 2.3e-308, 4.4e307).

    Returns:
        A scalar `[]`, never negative; float64 if an input is float64, else float32; 0 when there are no rows or no classes.
        Gradients flow to `student` and `student_text`.

    Raises:
        TypeError: an argument is no floating tensor.
        ValueError: shapes or devices do not fit, an argument without gradient requires one, or a number is out of its range.
        RuntimeError: in the backward pass, if it is to be differentiated (`create_graph=True`).
    """
    scale = check_scalar(_OP, "logit_scale", logit_scale, minimum=0.0)
    tau = check_scalar(_OP, "temperature", temperature, minimum=1 / LARGEST)
    matrices = student, student_text, teacher, teacher_text
    try:
        refuse_gradients(_OP, teacher=teacher, teacher_text=teacher_text)
        if products_run_native(student):
            return native_loss(torch.ops.segp_ext.geometry_distill.default, *matrices, scale, tau)
    except (AttributeError, RuntimeError, TypeError):
        _validate(*matrices)  # says better what does not fit
        raise
    _validate(*matrices)
    return reference.geometry_distill(*matrices, logit_scale=scale, temperature=tau)


def _validate(student: Tensor, student_text: Tensor, teacher: Tensor, teacher_text: Tensor) -> None:
    """Names what does not fit. The native op checks for itself: done first, this would cost as much as a small op."""
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
