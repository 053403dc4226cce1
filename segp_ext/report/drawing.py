"""The surroundings in which matplotlib draws plots as PNG files."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def drawing() -> Iterator[None]:
    """Draws every text as it is, inside this context or in a function so decorated: a $ in a folder's name begins no formula.

    A notebook tells the processes that it starts which backend shows plots (MPLBACKEND). Where that backend is not installed, matplotlib
    cannot be imported. Nothing is shown here, so such a backend is skipped.
    """
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = backend  # as matplotlib does itself
    with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}):
        yield
