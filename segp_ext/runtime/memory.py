"""How much memory this process may still take: what is free on the machine, and no more than its container or batch job leaves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that may still be taken.

    Args:
        root: where `proc` and `sys` are.
    """
    import psutil

    return max(0, min([psutil.virtual_memory().available, *_left_in_groups(root)]))


def _left_in_groups(root: Path) -> Iterator[int]:
    """What is left of every limit that Linux's control groups set to this process; the system tells of the whole machine's memory alone.

    Pages of files that were not read lately count as free, as they give way.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        top = root / "sys/fs/cgroup"
        names = ("memory.max", "memory.current", "inactive_file")
        if controllers:  # of the groups' first version
            if "memory" not in controllers.split(","):
                continue
            top /= "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        inner = Path(path.strip("/"))  # seen from the host; in a container its own group is the top one
        for group in (inner, *inner.parents):
            limit, used = (_number(top / group / name) for name in names[:2])
            if limit is not None and used is not None:
                yield limit - used + _of_files(top / group / "memory.stat", names[2])


def _number(file: Path) -> int | None:
    """The number in a file; none if it is not there, or says "max"."""
    try:
        return int(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _of_files(file: Path, name: str) -> int:
    try:
        values = dict(line.split() for line in file.read_text(encoding="utf-8").splitlines())
        return int(values[name])
    except (OSError, ValueError, KeyError):
        return 0
