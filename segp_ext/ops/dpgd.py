"""One step of dual-path projected gradient descent (DPGD) on images."""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor

from .. import reference
from ._checks import PerChannel, check_float_tensor, check_per_channel, check_same_shape, shape_text
from ._dispatch import NATIVE_DEVICES, runs_native
from ._loss import refuse_gradients


def dpgd_step(
    x: Tensor,
    grad: Tensor,
    seed: Tensor,
    *,
    step_size: PerChannel,
    epsilon: PerChannel,
    lower: PerChannel = 0.0,
    upper: PerChannel = 1.0,
) -> Tensor:
    """Takes one sign step against a gradient, and projects it onto the l-inf ball around the seed and the pixel range.

        clip( Π_{|x − seed|∞ ≤ ε}( x − γ · sign(grad) ), lower, upper )

    This is the anchor update of SeGP-CL (arXiv 2603.12055, equations 10 to 14), in one pass over memory. sign(0) and
    sign(NaN) are 0. A NaN in `x` or `seed` stays NaN in that pixel.

    Args:
        x: images `[B, C, H, W]`; float32, float64, float16 or bfloat16, any strides.
        grad: gradient of the loss at `x`, `[B, C, H, W]`; may differ from `x` in dtype.
        seed: the images from which the walk started, `[B, C, H, W]`, of x's dtype.
        step_size: γ ≥ 0, in pixel units: a number, or one per channel (a sequence or a tensor `[C]`).
        epsilon: ε ≥ 0, the ball's radius, likewise.
        lower: lowest pixel value, likewise.
        upper: highest pixel value, likewise, `lower ≤ upper`.

    The four bounds live on the host. A bound that is a CUDA tensor is copied there, which waits for the device. Under
    `torch.compile(fullgraph=True)` give numbers or sequences.

    Keep `x` and `seed` in float32, and let only `grad` be half. Half types compute in float32 and round once. The
    rounding may pass the ball by half a unit in the last place. A γ below this unit may leave a pixel where it is:
    bfloat16 near 1 has steps of 1/256.

    Returns:
        A new tensor of x's shape, dtype and layout. Every pixel is within `[lower, upper]` exactly, in any dtype. Bounds
        that the dtype cannot hold are rounded inwards; where no value is left between them, the nearest one to `lower`
        is taken. In float32 and float64 every pixel is within `[seed − ε, seed + ε]`, evaluated in that dtype.

    Raises:
        TypeError: an argument is no floating tensor, or `seed` differs from `x` in dtype.
        ValueError: shapes or devices differ, γ or ε is negative, a bound is not finite, or `lower > upper`.
        ValueError: an input requires grad while autograd records; the step has no gradient.
    """
    bounds = _validate("dpgd_step", (x, grad, seed), (step_size, epsilon, lower, upper))
    if runs_native(x):
        return torch.ops.segp_ext.dpgd_step.default(x, grad, seed, *bounds)
    gamma, radius, lowest, highest = map(_number_or_list, bounds)
    return reference.dpgd_step(x, grad, seed, step_size=gamma, epsilon=radius, lower=lowest, upper=highest)


def dpgd_step_(
    x: Tensor,
    grad: Tensor,
    seed: Tensor,
    *,
    step_size: PerChannel,
    epsilon: PerChannel,
    lower: PerChannel = 0.0,
    upper: PerChannel = 1.0,
) -> Tensor:
    """Does what `dpgd_step` does in place: writes into `x` and returns it.

    It moves about a quarter less memory and allocates nothing. `grad` and `seed` may be `x` itself, but may not share a
    part of its memory. No two elements of `x` may share memory, as elements of an expanded tensor do.

    Args:
        x: images `[B, C, H, W]`, overwritten.
        grad: as in `dpgd_step`.
        seed: as in `dpgd_step`.
        step_size: as in `dpgd_step`.
        epsilon: as in `dpgd_step`.
        lower: as in `dpgd_step`.
        upper: as in `dpgd_step`.

    Returns:
        `x`.

    Raises:
        TypeError: as in `dpgd_step`.
        ValueError: as in `dpgd_step`.
        RuntimeError: memory is shared in a way that is not allowed.
    """
    bounds = _validate("dpgd_step_", (x, grad, seed), (step_size, epsilon, lower, upper))
    if runs_native(x):
        torch.ops.segp_ext.dpgd_step_.default(x, grad, seed, *bounds)
        if not torch.compiler.is_compiling():
            torch.autograd.graph.increment_version(x)  # autograd notices if it had saved the old pixels
        return x
    gamma, radius, lowest, highest = map(_number_or_list, bounds)
    return reference.dpgd_step_(x, grad, seed, step_size=gamma, epsilon=radius, lower=lowest, upper=highest)


def _number_or_list(values: list[float]) -> PerChannel:
    return values[0] if len(values) == 1 else values


def _validate(
    op: str, pixels: tuple[Tensor, Tensor, Tensor], numbers: tuple[PerChannel, PerChannel, PerChannel, PerChannel]
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Checks all arguments but the pixels' values, and returns the four bounds as lists of 1 or C floats."""
    (x, grad, seed), (step_size, epsilon, lower, upper) = pixels, numbers
    check_float_tensor(op, "x", x)
    check_float_tensor(op, "grad", grad)
    check_float_tensor(op, "seed", seed)
    if x.dim() != 4:
        raise ValueError(f"{op}: x must be [B, C, H, W]; got {shape_text(x)}")
    check_same_shape(op, "grad", grad, "x", x, "[B, C, H, W]")
    check_same_shape(op, "seed", seed, "x", x, "[B, C, H, W]")
    if seed.dtype != x.dtype:
        raise TypeError(f"{op}: seed must have the dtype of x, {x.dtype}; got {seed.dtype}")
    refuse_gradients(op, x=x, grad=grad, seed=seed)
    channels = x.shape[1]
    gammas = check_per_channel(op, "step_size", step_size, channels, minimum=0.0)
    radii = check_per_channel(op, "epsilon", epsilon, channels, minimum=0.0)
    lowest = check_per_channel(op, "lower", lower, channels, minimum=-inf)
    highest = check_per_channel(op, "upper", upper, channels, minimum=-inf)
    for c in range(max(len(lowest), len(highest)) if channels else 0):
        low = lowest[c if len(lowest) > 1 else 0]
        high = highest[c if len(highest) > 1 else 0]
        if low > high:
            raise ValueError(f"{op}: lower must be <= upper; got {low} > {high}")
    return gammas, radii, lowest, highest


if NATIVE_DEVICES:

    @torch.library.register_fake("segp_ext::dpgd_step")
    def _dpgd_step_fake(
        x: Tensor,
        grad: Tensor,
        seed: Tensor,
        step_size: list[float],
        epsilon: list[float],
        lower: list[float],
        upper: list[float],
    ) -> Tensor:
        return torch.empty_like(x)

    @torch.library.register_fake("segp_ext::dpgd_step_")
    def _dpgd_step_inplace_fake(
        x: Tensor,
        grad: Tensor,
        seed: Tensor,
        step_size: list[float],
        epsilon: list[float],
        lower: list[float],
        upper: list[float],
    ) -> None:
        return None
