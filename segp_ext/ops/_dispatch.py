"""The choice between native kernels and eager twins: by device once at import, and by each call."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active
from torch.autograd import forward_ad

from ._native import native

_state = native()

# "meta" has fake kernels, which describe the results of the native ones.
NATIVE_DEVICES = frozenset(["cpu", "meta", *(["cuda"] if _state.info.get("cuda") else [])] if _state.loaded else [])
_warned: set[str] = set()


def _note_eager(what: str) -> None:
    """Warns once for a kind of calls that they take the eager path though the library is loaded."""
    if what in _warned or not _state.loaded:  # without a library, loading has said so already
        return
    message = f"segp_ext has no native kernels {what}"
    if os.environ.get("SEGP_EXT_REQUIRE_NATIVE") == "1":
        raise RuntimeError(f"{message}, and SEGP_EXT_REQUIRE_NATIVE=1")
    _warned.add(what)
    warnings.warn(f"{message}; such calls take the slow eager path", RuntimeWarning, stacklevel=4)


def is_transformed() -> bool:
    """Tells whether torch.func's transforms or forward-mode differentiation are at work."""
    return _are_functorch_transforms_active() or forward_ad._current_level >= 0


_asked_for_eager = False


@contextmanager
def eager() -> Iterator[None]:
    """Makes every op run its eager twin from `segp_ext.reference` inside this block, in all threads."""
    global _asked_for_eager
    before, _asked_for_eager = _asked_for_eager, True
    try:
        yield
    finally:
        _asked_for_eager = before


def runs_native(tensor: Tensor) -> bool:
    """Tells whether the native kernel takes this tensor. Warns once for each type of device without kernels, and once for transforms."""
    if _asked_for_eager:
        return False
    device = tensor.device.type
    transformed = is_transformed()
    if device in NATIVE_DEVICES and not transformed:
        return True
    if not torch.compiler.is_compiling():
        if transformed:
            _note_eager("for torch.func's transforms and forward-mode differentiation")
        else:
            why = _state.info.get("cuda_reason") if device == "cuda" else "there are no kernels for it"
            _note_eager(f"for {device} tensors ({why})")
    return False


def products_run_native(tensor: Tensor) -> bool:
    """Tells the same as `runs_native` for an op with matrix products.

    While torch tunes products (`torch.cuda.tunable`), it refuses products of half types with float32 results.
    """
    if not runs_native(tensor):
        return False
    if (
        tensor.device.type != "cuda"
        or tensor.dtype not in (torch.float16, torch.bfloat16)
        or torch.compiler.is_compiling()
    ):
        return True
    if torch.cuda.tunable.is_enabled():
        _note_eager("for half types on CUDA while torch.cuda.tunable is enabled")
        return False
    return True
