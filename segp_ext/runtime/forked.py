"""Forked processes, as servers that load first and fork then (`gunicorn --preload`) and `multiprocessing` on Linux make them.

A fork copies one thread alone. OpenMP waits for its others for ever, once it has used them before (pytorch/pytorch#17199).
"""

from __future__ import annotations

import os
import warnings

import torch

_forked = False


def _note_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def one_thread_if_forked() -> None:
    """Has torch compute in one thread if this process was forked, and says so, at the first call alone. Call it before computing."""
    global _forked
    if not _forked:
        return
    _forked = False
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)
        warnings.warn(
            "this process was forked after segp_ext was imported: torch computes in one thread here, as with more it could wait for ever. "
            "Spawned processes use all threads. If nothing had computed before the fork, torch.set_num_threads gives more from here on",
            RuntimeWarning,
            stacklevel=4,
        )
