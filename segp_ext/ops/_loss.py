"""Derivatives of native losses: the op computes the gradients together with the loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ._dispatch import is_transformed


class _Loss(torch.autograd.Function):
    """Differentiates a native op's loss by the gradients that the op computed together with it.

    The op returns (loss, gradient, gradient): the gradients of the sum of the loss's entries with respect to its first two
    arguments. Each entry depends on its own row of these arguments alone, or there is only one entry.

    The first backward pass multiplies the gradients in place and hands them over, so that there are never two copies. A second
    backward pass (retain_graph=True) lets the op compute the gradients again.
    """

    @staticmethod
    def forward(ctx: Any, op: Any, *arguments: Any) -> Tensor:
        loss, *gradients = op(*arguments)
        ctx.set_materialize_grads(False)
        ctx.compiled = torch.compiler.is_compiling()  # torch.compile frees unused gradients by itself
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
            functorch = torch._C._functorch
            # Tensors of vmap and is_grads_batched have more entries than the gradients: no room in place.
            aside = (
                ctx.compiled or functorch.is_functorch_wrapped_tensor(grad) or functorch.is_legacy_batchedtensor(grad)
            )
            if ctx.compiled:
                gradients = ctx.saved_tensors
            elif ctx.gradients is not None:
                gradients, ctx.gradients = ctx.gradients, None
            else:
                _, *gradients = ctx.op(*ctx.saved_tensors, *ctx.numbers)
            for place, (gradient, dtype) in enumerate(zip(gradients, ctx.dtypes, strict=True)):
                if ctx.needs_input_grad[1 + place]:
                    if aside:
                        result[place] = (weight * gradient).to(dtype)
                    else:  # one pass; a half type goes into new memory
                        out = gradient if gradient.dtype == dtype else gradient.new_empty(gradient.shape, dtype=dtype)
                        result[place] = torch.mul(gradient, weight, out=out)
        return (None, *result, *[None] * ctx.others)


def refuse_gradients(op: str, **constants: Tensor) -> None:
    """Refuses arguments that require a gradient, or have a tangent, where the op has no gradient for them.

    Raises:
        ValueError: while autograd records; it names the first such argument.
    """
    transformed = is_transformed() and not torch.compiler.is_compiling()
    for name, value in constants.items():
        if (value.requires_grad and torch.is_grad_enabled()) or (transformed and _is_followed(value)):
            raise ValueError(
                f"{op}: {name} requires grad, but the op has no gradient with respect to it; detach() it, or call under torch.no_grad()"
            )


def _is_followed(value: Tensor) -> bool:
    """Tells whether autograd, or a transform at any level, follows this tensor."""
    functorch = torch._C._functorch
    while True:
        if value.requires_grad and torch.is_grad_enabled():
            return True
        if forward_ad._current_level >= 0 and forward_ad.unpack_dual(value).tangent is not None:
            return True
        if not functorch.is_functorch_wrapped_tensor(value):
            return False
        value = functorch.get_unwrapped(value)


def _told_apart(*arguments: Any) -> list[Any]:
    """Replaces a tensor that comes again by a view: torch.compile takes no tensor twice for an autograd.Function."""
    apart: list[Any] = []
    for argument in arguments:
        again = isinstance(argument, Tensor) and any(argument is other for other in apart)
        apart.append(argument.view_as(argument) if again else argument)
    return apart


def native_loss(op: Any, first: Tensor, second: Tensor, *others: Any) -> Tensor:
    """Calls a native loss op, and has it compute the gradients that autograd will ask for.

    Args:
        op: takes these arguments and two flags that say which gradients are wanted; see `_Loss`.
        first: the first argument with a gradient.
        second: the second argument with a gradient.
        others: the other arguments.
    """
    if torch.is_grad_enabled() and (first.requires_grad or second.requires_grad):
        if torch.compiler.is_compiling():
            first, second, *others = _told_apart(first, second, *others)  # type: ignore[assignment]
        loss: Tensor = _Loss.apply(op, first, second, *others, first.requires_grad, second.requires_grad)
        return loss
    loss, _, _ = op(first, second, *others, False, False)
    return loss
