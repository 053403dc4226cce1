"""Validation shared by the ops: every error names the op, the argument, the expected value and the given one.

The kernels' own rules are in `csrc/include/segp/`: an op's in its header, what ops share in `contract.h`, in the same words. They
are said once more here for calls that reach no kernel: the eager path, fake tensors, and devices without native code. Change both.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from numbers import Real

import torch
from torch import Tensor

FLOAT_DTYPES = frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16})
PerChannel = float | Sequence[float] | Tensor
LARGEST = 1e6
"""Of logit scales, temperatures, their inverses and weights (`segp/scalars.h`): beyond it their products leave float32's range."""


def shape_text(tensor: Tensor) -> str:
    """The shape as people write it: [2, 3]."""
    return str(list(tensor.shape))


def is_readable(tensor: Tensor) -> bool:
    """Whether a tensor's values can be looked at, as under torch.compile and in torch.func's transforms they cannot."""
    return not torch.compiler.is_compiling() and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)


def check_float_tensor(op: str, name: str, value: Tensor) -> None:
    """A floating tensor of a dtype that the kernels know."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a Tensor; got {type(value).__name__}")
    if value.dtype not in FLOAT_DTYPES:
        raise TypeError(f"{op}: {name} must be float32, float64, float16 or bfloat16; got {value.dtype}")


def check_device(op: str, name: str, value: Tensor, like_name: str, like: Tensor) -> None:
    """Both on one device."""
    if value.device != like.device:
        raise ValueError(f"{op}: {name} must be on the device of {like_name}, {like.device}; got {value.device}")


def check_matrix(op: str, name: str, value: Tensor, axes: str) -> None:
    """A floating matrix; `axes` says what its rows and columns are, as in "[B, De]"."""
    check_float_tensor(op, name, value)
    if value.dim() != 2:
        raise ValueError(f"{op}: {name} must be {axes}; got {shape_text(value)}")


def check_width(op: str, name: str, value: Tensor, like_name: str, like: Tensor) -> None:
    """As many columns as another matrix, on the same device."""
    if value.shape[1] != like.shape[1]:
        raise ValueError(f"{op}: {name} must have the width of {like_name}, {like.shape[1]}; got {shape_text(value)}")
    check_device(op, name, value, like_name, like)


def check_same_shape(op: str, name: str, value: Tensor, like_name: str, like: Tensor, axes: str) -> None:
    """The same shape as another tensor, on the same device."""
    if value.shape != like.shape:
        raise ValueError(
            f"{op}: {name} must be {axes} like {like_name}; got {shape_text(value)} and {shape_text(like)}"
        )
    check_device(op, name, value, like_name, like)


def check_scalar(op: str, name: str, value: float | Tensor, *, minimum: float) -> float:
    """A number from `minimum` to LARGEST, as a float. A CUDA tensor is read, which waits for it."""
    if type(value) is float and minimum <= value <= LARGEST:  # by far the most frequent
        return value
    if isinstance(value, Tensor):
        if value.numel() != 1:
            raise ValueError(f"{op}: {name} must be a number; got a tensor {shape_text(value)}")
        if value.requires_grad and torch.is_grad_enabled():
            raise ValueError(f"{op}: {name} requires grad, but the op has no gradient with respect to it; give a float")
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{op}: {name} must be a number; got {type(value).__name__}")
    if not minimum <= value <= LARGEST:
        raise ValueError(f"{op}: {name} must be from {minimum:g} to {LARGEST:g}; got {value}")
    return float(value)


def check_per_channel(op: str, name: str, value: PerChannel, channels: int, *, minimum: float) -> list[float]:
    """One finite value, or one per channel, as a list of 1 or `channels` floats."""
    if type(value) is float:  # by far the most frequent
        values = [value]
    elif isinstance(value, Tensor):
        if value.dim() > 1 or not (value.dtype.is_floating_point or value.dtype in (torch.int64, torch.int32)):
            raise ValueError(
                f"{op}: {name} must be a number or one number per channel, [{channels}]; "
                f"got a {value.dtype} tensor {shape_text(value)}"
            )
        values = value.detach().reshape(-1).tolist()
        if value.dim() == 1 and len(values) != channels:
            raise ValueError(f"{op}: {name} must have one value per channel, {channels}; got {len(values)}")
    elif isinstance(value, Real) and not isinstance(value, bool):
        values = [float(value)]
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        if len(value) != channels:
            raise ValueError(f"{op}: {name} must have one value per channel, {channels}; got {len(value)}")
        if any(isinstance(item, bool) or not isinstance(item, Real) for item in value):
            raise TypeError(f"{op}: {name} must hold numbers; got {value!r}")
        values = [float(item) for item in value]
    else:
        raise TypeError(f"{op}: {name} must be a number or one number per channel; got {type(value).__name__}")
    for item in values:
        if not minimum <= item < inf or item == -inf:
            bound = "" if minimum == -inf else f" and >= {minimum:g}"
            raise ValueError(f"{op}: {name} must be finite{bound}; got {item}")
    return values
