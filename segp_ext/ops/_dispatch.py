"""Which devices have native kernels, decided once when the ops are imported, and how native losses are differentiated."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .._native import native

_state = native()

# "meta" has the fake kernels, which describe what the native ones return.
NATIVE_DEVICES = frozenset(["cpu", "meta", *(["cuda"] if _state.info.get("cuda") else [])] if _state.loaded else [])
_warned: set[str] = set()


def _note_eager(device: str) -> None:
    """Says once per device type that its tensors take the eager path though the library is loaded."""
    if device in _warned or not _state.loaded:  # without a library, loading has said so already
        return
    why = _state.info.get("cuda_reason") if device == "cuda" else "there are no kernels for it"
    message = f"segp_ext has no native kernels for {device} tensors ({why})"
    if os.environ.get("SEGP_EXT_REQUIRE_NATIVE") == "1":
        raise RuntimeError(f"{message}, and SEGP_EXT_REQUIRE_NATIVE=1")
    _warned.add(device)
    warnings.warn(f"{message}; they take the slow eager path", RuntimeWarning, stacklevel=4)


_asked_for_eager = False


@contextmanager
def eager() -> Iterator[None]:
    """Inside this block every op runs its eager twin from `segp_ext.reference`, in all threads."""
    global _asked_for_eager
    before, _asked_for_eager = _asked_for_eager, True
    try:
        yield
    finally:
        _asked_for_eager = before


def runs_native(tensor: Tensor) -> bool:
    """Whether the native kernel takes this tensor; falling back is said once per device type."""
    if _asked_for_eager:
        return False
    device = tensor.device.type
    if device in NATIVE_DEVICES:
        return True
    if not torch.compiler.is_compiling():
        _note_eager(device)
    return False


class _Loss(torch.autograd.Function):
    """A native op's loss, differentiated by the gradients that the op computed together with it.

    The op returns (loss, gradient, gradient): those of the sum of the loss's entries with respect to its first two
    arguments. An entry depends on its own row of these arguments alone, or there is only one entry.
    """

    @staticmethod
    def forward(ctx: Any, op: Any, *arguments: Any) -> Tensor:
        loss, first, second = op(*arguments)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(first, second)
        ctx.dtypes = arguments[0].dtype, arguments[1].dtype
        ctx.others = len(arguments) - 2
        ctx.op = op
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        if torch.is_grad_enabled():
            raise RuntimeError(f"{ctx.op}: its gradient has no derivative; create_graph=True is not supported")
        result: list[Tensor | None] = [None, None]
        if grad is not None:
            weight = grad[:, None] if grad.dim() else grad
            for place, (gradient, dtype) in enumerate(zip(ctx.saved_tensors, ctx.dtypes, strict=True)):
                if ctx.needs_input_grad[1 + place]:
                    result[place] = (weight * gradient).to(dtype)
        return (None, *result, *[None] * ctx.others)


def native_loss(op: Any, first: Tensor, second: Tensor, *others: Any) -> Tensor:
    """Calls a native loss op, with the gradients that autograd will ask for.

    Args:
        op: takes these arguments and two flags, which gradients are wanted; see `_Loss`.
        first, second: the arguments that have gradients.
        others: the rest.
    """
    if torch.is_grad_enabled() and (first.requires_grad or second.requires_grad):
        loss: Tensor = _Loss.apply(op, first, second, *others, first.requires_grad, second.requires_grad)
        return loss
    loss, _, _ = op(first, second, *others, False, False)
    return loss
