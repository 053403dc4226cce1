"""How native losses are differentiated: by gradients that the op computed together with the loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


class _Loss(torch.autograd.Function):
    """A native op's loss, differentiated by the gradients that the op computed together with it.

    The op returns (loss, gradient, gradient): those of the sum of the loss's entries with respect to its first two
    arguments. An entry depends on its own row of these arguments alone, or there is only one entry.

    The first backward pass weights the gradients where they are and hands them over, so that there are never two copies of them; one
    more (retain_graph=True) has the op compute them again.
    """

    @staticmethod
    def forward(ctx: Any, op: Any, *arguments: Any) -> Tensor:
        loss, *gradients = op(*arguments)
        ctx.set_materialize_grads(False)
        ctx.compiled = torch.compiler.is_compiling()  # which frees what it does not need by itself
        if ctx.compiled:
            ctx.save_for_backward(*gradients)
        else:
            ctx.save_for_backward(*(argument for argument in arguments if isinstance(argument, Tensor)))
            ctx.gradients = gradients
            ctx.numbers = [argument for argument in arguments if not isinstance(argument, Tensor)]
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
            if ctx.compiled:
                gradients = ctx.saved_tensors
            elif ctx.gradients is not None:
                gradients, ctx.gradients = ctx.gradients, None
            else:
                _, *gradients = ctx.op(*ctx.saved_tensors, *ctx.numbers)
            for place, (gradient, dtype) in enumerate(zip(gradients, ctx.dtypes, strict=True)):
                if ctx.needs_input_grad[1 + place]:
                    weighted = weight * gradient if ctx.compiled else gradient.mul_(weight)
                    result[place] = weighted.to(dtype)
        return (None, *result, *[None] * ctx.others)


def refuse_gradients(op: str, **constants: Tensor) -> None:
    """Refuses, while autograd records, arguments that require a gradient which the op does not have.

    Raises:
        ValueError: naming the first of them.
    """
    for name, value in constants.items():
        if value.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"{op}: {name} requires grad, but the op has no gradient with respect to it; detach() it, or call under torch.no_grad()"
            )


def native_loss(op: Any, first: Tensor, second: Tensor, *others: Any) -> Tensor:
    """Calls a native loss op, with the gradients that autograd will ask for.

    Args:
        op: takes these arguments and two flags, which gradients are wanted; see `_Loss`.
        first, second: the arguments that have gradients.
        others: the rest.

    Raises:
        NotImplementedError: under forward-mode differentiation, whose tangents would be lost.
    """
    if not torch.compiler.is_compiling() and forward_ad._current_level >= 0:
        tensors = [t for t in (first, second, *others) if isinstance(t, Tensor)]
        if any(forward_ad.unpack_dual(t).tangent is not None for t in tensors):
            raise NotImplementedError(
                f"{op}: forward-mode differentiation is not supported; use reverse mode, or segp_ext.reference"
            )
    if torch.is_grad_enabled() and (first.requires_grad or second.requires_grad):
        loss: Tensor = _Loss.apply(op, first, second, *others, first.requires_grad, second.requires_grad)
        return loss
    loss, _, _ = op(first, second, *others, False, False)
    return loss
