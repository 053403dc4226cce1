"""Finds and loads the native library once, and reports the outcome.

In an installed package the library lies in the folder above. From a checkout's root, Python imports the source folder,
which has no library after `pip install .`. Then the library of the installed distribution is used, if it was built from
exactly the sources of the checkout. If no library loads, the eager path runs: one warning says why, `build_info()`
repeats the reason, and `SEGP_EXT_REQUIRE_NATIVE=1` makes it an error.
"""

from __future__ import annotations

import importlib.metadata
import json
import mmap
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch

from . import _fingerprint

_PACKAGE = Path(__file__).resolve().parents[1]
_LIBRARY_PATTERN = "_C*.so"
_MARKER = b"segp_ext-build-info:"
_LONGEST_INFO = 1 << 16
_REMEDY = "run `pip install .` in the checkout, with a C++ compiler at hand"


@dataclass(frozen=True)
class Native:
    """The outcome: the library was loaded from `path`, or was not loaded for `reason`."""

    loaded: bool
    reason: str
    path: Path | None = None
    info: dict[str, Any] = field(default_factory=dict)


def read_library_info(path: Path) -> dict[str, Any] | None:
    """Reads the facts that the build wrote into a library, without loading it; None if there are none."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        start = data.find(_MARKER)
        if start < 0:
            return None
        text = data[start + len(_MARKER) : start + len(_MARKER) + _LONGEST_INFO].split(b"\0", 1)[0]
    try:
        info = json.loads(text)
    except ValueError:
        return None
    return info if isinstance(info, dict) else None


def _installed_libraries(package: Path) -> Iterator[Path]:
    """Yields the libraries of installed distributions, except files of `package` itself.

    It asks all distributions of the name: in a checkout a left-over `.egg-info` folder comes first and has no library.
    """
    for distribution in importlib.metadata.distributions(name="segp_ext"):
        for file in distribution.files or ():
            if file.match(f"segp_ext/{_LIBRARY_PATTERN}"):
                path = Path(str(distribution.locate_file(file))).resolve()
                if path.is_file() and path.parent != package:
                    yield path


def find_library(package: Path = _PACKAGE) -> tuple[Path | None, str]:
    """Finds the library to load for the package in this folder, or the reason why no library is there."""
    candidates = sorted(package.glob(_LIBRARY_PATTERN))
    checkout = _fingerprint.has_sources(package.parent)
    if checkout:  # its sources tell whether another copy's library is the right one
        candidates += _installed_libraries(package)
    if not candidates:
        note = package / "_no_native.txt"
        why = note.read_text().strip() if note.is_file() else "no compiled library is installed"
        return None, f"{why}; {_REMEDY}"
    if not checkout:
        return candidates[0], ""
    expected = _fingerprint.source_hash(package.parent)
    refused: list[str] = []
    for path in candidates:
        built_from = (read_library_info(path) or {}).get("source_hash", "unknown")
        if built_from == expected:
            return path, ""
        refused.append(f"{path} was built from sources {built_from}")
    return None, f"{'; '.join(refused)}, but this checkout's are {expected}; {_REMEDY}"


def load_library(path: Path) -> Native:
    """Loads one library into torch."""
    info = read_library_info(path) or {}
    try:
        torch.ops.load_library(str(path))
    except (OSError, RuntimeError) as error:
        target = info.get("torch_target", "2.11")
        cause: BaseException = error
        while cause.__cause__ is not None:  # torch wraps what the dynamic linker said
            cause = cause.__cause__
        first_line = (str(cause).splitlines() or [type(cause).__name__])[0]
        reason = f"{path} does not load under torch {torch.__version__} (it needs torch >= {target}): {first_line}"
        return Native(False, reason, path, info)
    return Native(True, "", path, info)


@cache
def native() -> Native:
    """Loads the library at the first call. Later calls return the same outcome.

    Raises:
        RuntimeError: no library loads, and SEGP_EXT_REQUIRE_NATIVE=1.
    """
    path, reason = find_library()
    result = Native(False, reason) if path is None else load_library(path)
    if not result.loaded:
        if os.environ.get("SEGP_EXT_REQUIRE_NATIVE") == "1":
            raise RuntimeError(f"segp_ext: SEGP_EXT_REQUIRE_NATIVE=1, but {result.reason}")
        warnings.warn(f"segp_ext runs its slow eager path: {result.reason}", RuntimeWarning, stacklevel=2)
    return result


def build_info() -> dict[str, Any]:
    """Tells which parts were built, and which are usable now.

    Returns:
        A dict with these entries:

        - `version`: the package's version.
        - `ops_path`: "native" or "eager"; `reason`: why eager, empty for native.
        - `library`: the library's path; `source_hash`: the hash of its sources; `compiler`: its compiler.
        - `torch`: the running version; `torch_at_build`: the version at the build; `torch_target`: the oldest version that
          the library runs under.
        - `cuda_built`, `cuda_usable`, `cuda_version`, `cuda_architectures`; `cuda_reason`: why CUDA was not built.
        - `devices`: where native ops run now; empty on the eager path.
    """
    from .. import __version__

    state = native()
    info = state.info
    cuda_usable = bool(state.loaded and info.get("cuda") and torch.cuda.is_available())
    devices = ["cpu"] if state.loaded else []
    if cuda_usable:
        devices += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return {
        "version": __version__,
        "ops_path": "native" if state.loaded else "eager",
        "reason": state.reason,
        "library": str(state.path) if state.path else None,
        "source_hash": info.get("source_hash"),
        "torch": torch.__version__,
        "torch_target": info.get("torch_target"),
        "torch_at_build": info.get("torch_at_build"),
        "compiler": info.get("compiler"),
        "cuda_built": bool(info.get("cuda")),
        "cuda_reason": info.get("cuda_reason") or "",
        "cuda_version": info.get("cuda_version"),
        "cuda_architectures": info.get("cuda_architectures") or "",
        "cuda_usable": cuda_usable,
        "devices": devices,
    }
