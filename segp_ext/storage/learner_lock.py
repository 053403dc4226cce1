"""Keeps other processes from changing a saved learner meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # a system that is not POSIX
    fcntl = None  # type: ignore[assignment]


@contextmanager
def held_alone(path: Path) -> Iterator[None]:
    """Holds a saved learner's folder alone inside the block, by a lock on a hidden file beside it.

    Raises:
        FileExistsError: If another process holds it.
    """
    lock = path.with_name(f".{path.name}.lock")
    with open(lock, "a", encoding="utf-8") as handle:
        if fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise FileExistsError(f"another process changes {path}; try again when it has ended") from error
            except OSError:
                pass  # a disk without locks
        try:
            yield
        finally:
            with suppress(OSError):
                os.unlink(lock)
