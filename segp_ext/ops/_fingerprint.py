"""The fingerprint of the native sources, shared by the build and the loader.

The build writes it into the library. The loader compares it where the sources lie beside the package. This file uses
the standard library alone: `setup.py` loads it by its path, without importing the package.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

NATIVE_FOLDERS = ("csrc", "python")
NATIVE_SUFFIXES = (".h", ".cpp", ".cu", ".cuh")


def native_files(root: Path) -> list[Path]:
    """Lists the native sources under a checkout's root, in a fixed order."""
    return sorted(
        (path for folder in NATIVE_FOLDERS for path in (root / folder).rglob("*") if path.suffix in NATIVE_SUFFIXES),
        key=lambda path: path.relative_to(root).as_posix(),
    )


def has_sources(root: Path) -> bool:
    """Tells whether `root` is a checkout, or an unpacked source distribution, with the native sources."""
    return (root / "csrc" / "include" / "segp").is_dir() and (root / "python" / "library.cpp").is_file()


def source_hash(root: Path) -> str:
    """Hashes the names and contents of the native sources into 16 hexadecimal digits; line ends do not count."""
    digest = hashlib.sha256()
    for path in native_files(root):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()[:16]
