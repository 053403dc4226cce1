"""How native losses are differentiated: by gradients that the op computed together with the loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
