"""What depends on the whole process's state, made the same in every thread and at any time: draws from Python's, NumPy's and torch's
generators, and what takes torch's default dtype.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_TURN = threading.RLock()
"""Held while these generators are seeded for one purpose: what several threads draw would mix. All who seed them hold this one."""


def _free_the_turn() -> None:
    global _TURN
    _TURN = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free_the_turn)  # the thread that held it is not there


@contextmanager
def drawn_by(seed: int) -> Iterator[None]:
    """Lets what is inside draw from Python's, NumPy's and torch's generators as it always does for this seed; then puts these back.

    These generators are the whole process's: what other threads draw from them meanwhile, and not in here, is of this seed too.
    """
    with _TURN:
        python, arrays, tensors = random.getstate(), np.random.get_state(), torch.default_generator.get_state()  # noqa: NPY002
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 (the one that augmentations draw from)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)  # noqa: NPY002
            torch.default_generator.set_state(tensors)


@contextmanager
def float32_by_default() -> Iterator[None]:
    """For what others make, in torch's default dtype. Where it is another one, it is float32 for all threads meanwhile."""
    before = torch.get_default_dtype()
    if before == torch.float32:
        yield
        return
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
