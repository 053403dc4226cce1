"""Keeps forked processes from waiting for ever: servers that load and then fork (`gunicorn --preload`), `multiprocessing` on Linux.

A fork copies one thread alone. If OpenMP has used other threads before, it waits for them for ever (pytorch/pytorch#17199).
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
    """Makes torch compute in one thread if this process was forked, and warns of it once. Call it before anything is computed."""
    global _forked
    if not _forked:
        return
    _forked = False
    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)
        warnings.warn(
            "this process was forked after segp_ext was imported: torch computes in one thread here, as with more it could wait for ever. "
            "Spawned processes use all threads. If nothing was computed before the fork, torch.set_num_threads may set more from now on",
            RuntimeWarning,
            stacklevel=4,
        )
