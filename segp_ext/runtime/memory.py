"""How much memory this process may still take, where a container or batch job may have a limit; and freed memory given back."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that this process may still take.

    Args:
        root: the folder that holds `proc` and `sys`.
    """
    import psutil

    return max(0, min([psutil.virtual_memory().available, *_left_in_groups(root)]))


def _left_in_groups(root: Path) -> Iterator[int]:
    """Yields the bytes left of each memory limit that Linux's control groups set for this process.

    Memory of files that were not read lately counts as free, as the system gives it up when needed.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        top = root / "sys/fs/cgroup"
        names = ("memory.max", "memory.current", "inactive_file")
        if controllers:  # the first version of control groups
            if "memory" not in controllers.split(","):
                continue
            top /= "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        inner = Path(path.strip("/"))  # as the host sees it; a container sees its own group as the top one
        for group in (inner, *inner.parents):
            limit, used = (_number(top / group / name) for name in names[:2])
            if limit is not None and used is not None:
                yield limit - used + _entry(top / group / "memory.stat", names[2])


def _number(file: Path) -> int | None:
    """Reads the number in a file; None if the file is not there, or says "max"."""
    try:
        return int(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _entry(file: Path, name: str) -> int:
    """Reads the number of one entry in a file of names and numbers; 0 if it is not there."""
    try:
        values = dict(line.split() for line in file.read_text(encoding="utf-8").splitlines())
        return int(values[name])
    except (OSError, ValueError, KeyError):
        return 0


def give_back_memory() -> None:
    """Returns memory that this process has freed to the system; else the C library keeps it, and more of it with every task."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None  # glibc has it
    if trim is not None:
        trim(0)
