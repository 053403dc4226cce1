"""Which devices have native kernels, decided once when the ops are imported, and whether they are to run."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

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
