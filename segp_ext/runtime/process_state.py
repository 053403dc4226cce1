"""Keeps results the same whatever state a process or caller is in: random generators, default dtype, autocast, inference mode."""

from __future__ import annotations

import copy
import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch

T = TypeVar("T")
_TURN = threading.RLock()
"""Held while the process's generators are seeded. Whoever seeds them holds it, as the draws of several threads would mix."""


def _free_the_turn() -> None:
    global _TURN
    _TURN = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_the_turn)  # the thread that held it does not exist in the child


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds Python's, NumPy's and torch's generators inside the block, and restores them afterwards.

    One thread at a time is inside. The generators are the whole process's: what other threads draw meanwhile depends on the seed too.

    Args:
        seed: a whole number; NumPy gets it modulo 2³².
    """
    with _TURN:
        python, arrays, tensors = random.getstate(), np.random.get_state(), torch.default_generator.get_state()  # noqa: NPY002
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 (augmentations draw from this generator)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)  # noqa: NPY002
            torch.default_generator.set_state(tensors)


@contextmanager
def float32_by_default() -> Iterator[None]:
    """Makes float32 torch's default dtype inside the block, for all threads. Restores the default afterwards."""
    before = torch.get_default_dtype()
    if before == torch.float32:
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def without_autocast() -> Iterator[None]:
    """Switches the caller's autocast off inside a block or a decorated function: precision is a setting here."""
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


def out_of_inference_mode(state: T) -> T:
    """Returns a state that was just copied or unpickled, with tensors that may change; tensors made in inference mode never may."""
    if not torch.is_inference_mode_enabled():
        return state
    with torch.inference_mode(False):
        return copy.deepcopy(state)
