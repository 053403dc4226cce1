"""Writes files and folders that appear whole or not at all, and tells when they were damaged since.

A sealed folder holds its files and `SHA256SUMS`, the checksum of each, as `sha256sum -c SHA256SUMS` reads it. It is written under another
name, flushed to the disk and renamed. A process that dies leaves hidden remains (a dot before the name); the next write removes them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # a system that is not POSIX
    fcntl = None  # type: ignore[assignment]

SUMS = "SHA256SUMS"
"""Name of the file of checksums."""
_TURN = threading.Lock()
_LINE = re.compile(r"([0-9a-f]{64})  ([A-Za-z0-9_.-]+)\n")


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file so that readers see the old content or the new, never a part of it.

    Args:
        path: the file.
        content: its new content.

    Raises:
        OSError: naming the file, if it could not be written; the old content is there then.
    """
    with replaced(path) as file:
        file.write(content)


@contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Opens a hidden file, which takes the place of `path` once it is written; after an error inside, the old file is there.

    Args:
        path: the file to replace, there or not.

    Raises:
        OSError: naming the file, if it could not be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with _written(aside) as file:
            yield file
        os.replace(aside, path)
        _sync(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def check_replaceable(path: Path, marker: str, what: str) -> None:
    """Refuses a folder that holds other things than a sealed folder of one kind.

    Args:
        path: the folder, there or not.
        marker: name of a file that every sealed folder of the kind holds.
        what: the kind in words, as in "a checkpoint".

    Raises:
        FileExistsError: if `path` is neither of the kind nor an empty folder, or is the folder that this process works in.
    """
    if path.exists() and path.samefile("."):
        raise FileExistsError(
            f"{path} is the folder that this process works in, and cannot be replaced; save under a name in it"
        )
    # Another process that replaces the folder takes it away for a moment.
    with alone_beside(path, to_read=True):
        taken = path.exists() and not (path / marker).is_file() and not _is_empty(path)
    if taken:
        raise FileExistsError(f"{path} exists and is not {what}; choose another place")


def _is_empty(path: Path) -> bool:
    """Tells whether a folder holds nothing but hidden files, as file managers leave them."""
    return path.is_dir() and all(entry.name.startswith(".") for entry in path.iterdir())


def seal(path: Path, files: Mapping[str, bytes], check: Callable[[Path], object] | None = None) -> None:
    """Writes a sealed folder, and replaces one that is there.

    A process that dies meanwhile leaves the old folder or the new one. If neither is at `path`, `recovered` finds the old one under a
    hidden name. Files in the old folder that were not sealed stay. Threads take turns, and so do the processes of a host.

    Args:
        path: the folder.
        files: contents of its files by name.
        check: reads the new folder before it takes its place, and raises if it is no good.

    Raises:
        OSError: naming the file, if one could not be written; the old folder is there then.
        Exception: what `check` raises; the old folder is there then.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _TURN, alone_beside(path):
        _seal(path, files, check)


@contextmanager
def alone_beside(path: Path, *, to_read: bool = False) -> Iterator[None]:
    """Keeps other processes of this host from sealing folders beside `path` meanwhile.

    Does nothing where the system or the disk has no locks, or the folder above may not be read.

    Args:
        path: a sealed folder, there or not.
        to_read: whether other processes may read meanwhile, as this one does.
    """
    try:
        handle = os.open(path.parent, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_SH if to_read else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)  # this ends the lock


def _seal(path: Path, files: Mapping[str, bytes], check: Callable[[Path], object] | None) -> None:
    aside, old = _hidden(path, "new"), _hidden(path, "old")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        sums = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items())]
        for name, content in files.items():
            _write(aside / name, content)
        _write(aside / SUMS, "".join(sums).encode())
        _sync(aside)
        if check is not None:
            check(aside)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        aside.rename(path)
        _sync(path.parent)
        if old.exists():
            sealed = {*_recorded(old), SUMS}
            for other in [entry for entry in old.iterdir() if entry.name not in {*sealed, *files}]:
                other.rename(path / other.name)
            shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        if not path.exists() and old.exists():
            old.rename(path)
        shutil.rmtree(aside, ignore_errors=True)
        raise


def remove(path: Path) -> None:
    """Removes a folder; it is hidden first, so that nobody finds a part of it."""
    gone = _hidden(path, "gone")
    shutil.rmtree(gone, ignore_errors=True)
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def recovered(path: Path) -> Path:
    """Returns `path`; or the hidden old folder, if a process died while it replaced the folder at `path`."""
    old = _hidden(path, "old")
    return old if not path.exists() and (old / SUMS).is_file() else path


def check_seal(path: Path) -> dict[str, str]:
    """Compares a sealed folder's files with their checksums. Other files in the folder do not belong to it.

    Returns:
        The checksums by the files' names.

    Raises:
        FileNotFoundError: if `path` is not a sealed folder.
        ValueError: naming the file that is missing or damaged.
    """
    if not (path / SUMS).is_file():
        raise FileNotFoundError(f"{path} is no checkpoint: there is no {SUMS} in it")
    text = _sums(path)
    recorded = _recorded(path)
    if "".join(f"{digest}  {name}\n" for name, digest in sorted(recorded.items())) != text or not recorded:
        raise ValueError(f"{path / SUMS} is damaged")
    for name, digest in recorded.items():
        if not (path / name).is_file():
            raise ValueError(f"{path / name} is missing")
        if _sha256(path / name) != digest:
            raise ValueError(f"{path / name} is damaged: its SHA-256 is not the recorded one")
    return recorded


def read_json(path: Path) -> dict[str, Any]:
    """Reads the object in a JSON file.

    Raises:
        ValueError: naming the file, if it holds no object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold an object; got {type(content).__name__}")
    return content


def identity(path: Path) -> str:
    """SHA-256 of a sealed folder's checksums, which changes with every change of a file."""
    return _sha256(path / SUMS)


def _sums(path: Path) -> str:
    """Reads a folder's file of checksums; empty if the file is missing."""
    file = path / SUMS
    return file.read_bytes()[: 1 << 20].decode("ascii", errors="replace") if file.is_file() else ""


def _recorded(path: Path) -> dict[str, str]:
    """The checksums in a folder's file of checksums, by the names of the files."""
    return {name: digest for digest, name in _LINE.findall(_sums(path))}


def _hidden(path: Path, what: str) -> Path:
    return path.with_name(f".{path.name}.{what}")


def _write(path: Path, content: bytes) -> None:
    with _written(path) as file:
        file.write(content)


@contextmanager
def _written(path: Path) -> Iterator[BinaryIO]:
    """Opens a file to write, and flushes it to the disk at the end."""
    try:
        with open(path, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        if error.filename is None and error.errno is not None:  # an error of writing names no file
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def _sync(folder: Path) -> None:
    """Flushes a folder's entries to the disk, where the system and the disk can; some network disks cannot."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(handle)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
