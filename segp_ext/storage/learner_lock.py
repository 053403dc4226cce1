"""Lets one process at a time change a saved learner, from reading it until it is written."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # a system without these locks
    fcntl = None  # type: ignore[assignment]

_HELD: set[IO[bytes]] = set()


@contextmanager
def held_alone(path: Path) -> Iterator[None]:
    """Keeps other processes of this host from changing a saved learner meanwhile. They may read it.

    The lock is on the hidden file `.NAME.lock` beside the learner's folder NAME, which is there as long as the lock. The lock ends with
    the process, however that ends. Where the system or the disk has no locks, it warns and goes on. Folders above that are not there are
    made, and go again if nothing comes into them.

    Args:
        path: The learner's folder, there or not.

    Raises:
        FileExistsError: If another process, or another thread, changes the learner.
        OSError: If the folder above cannot be made, or takes no file.
    """
    path = path.resolve()
    lock = path.with_name(f".{path.name}.lock")
    made = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise NotADirectoryError(
            f"no folder {str(path.parent)!r} can be made, as a part of this path is a file"
        ) from error
    file = _locked(lock, path)
    _HELD.add(file)
    try:
        yield
    finally:
        _HELD.discard(file)
        lock.unlink(missing_ok=True)  # before the lock ends, so that nobody locks a file that goes
        file.close()
        with suppress(OSError):  # one that is not empty ends it
            for folder in made:
                folder.rmdir()


def _locked(lock: Path, path: Path) -> IO[bytes]:
    """Opens the file and takes its lock."""
    while True:
        file = open(lock, "ab")  # noqa: SIM115 (it is open as long as the lock)
        try:
            if fcntl is None:
                raise OSError("this system has no such locks")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise FileExistsError(f"another process changes {path}; try again when it has ended") from None
        except OSError as error:
            warnings.warn(
                f"{lock} cannot be locked ({error}): no second process may change {path} meanwhile",
                RuntimeWarning,
                stacklevel=4,
            )
            return file
        if _is_there(lock, file):
            return file
        file.close()  # the one who held it before has removed it meanwhile


def _is_there(lock: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(os.stat(lock), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _close_in_child() -> None:
    """Closes the files of locks in a forked child, which would go on holding them after this process has died."""
    for file in _HELD:
        file.close()
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)
