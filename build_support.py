"""Finds the C++ compiler and the CUDA toolkit that `setup.py` can build with on this machine.

Every answer comes with a reason in words, so that `setup.py` can print one clear line instead of guessing silently. This file imports
neither torch nor setuptools. `tests/test_build_support.py` runs it against faked toolkits.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# Code for data-centre cards of Ampere and Hopper and desktop cards of Ampere; drivers compile the PTX for newer cards.
DEFAULT_CUDA_ARCHITECTURES = "8.0;8.6;9.0+PTX"
USUAL_TOOLKITS = ("/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda")


class BuildError(RuntimeError):
    """The build that the user asked for is not possible on this machine."""


def load_source_hash(root: Path) -> Callable[[Path], str]:
    """Loads the function `segp_ext.ops._fingerprint.source_hash` without importing the package, which would need torch."""
    spec = importlib.util.spec_from_file_location("segp_ext_sources", root / "segp_ext" / "ops" / "_fingerprint.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function: Callable[[Path], str] = module.source_hash
    return function


# ---------------------------------------------------------------------------------------------- C++ compiler


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler that builds and links a small C++17 program, or the reason why there is none.

    Attributes:
        command: how to call it; None if no compiler works.
        reason: why none works; empty otherwise.
    """

    command: str | None
    reason: str = ""


_PROBE_PROGRAM = """
#include <string>
#include <vector>
extern "C" int segp_ext_probe(int n) {
  std::vector<std::string> words(static_cast<unsigned>(n), "x");
  if constexpr (sizeof(void*) >= 8) { return static_cast<int>(words.size()); }
  return 0;
}
"""


def _probe_compiler(command: str) -> str:
    """Compiles and links a small shared library; returns "" if that works, else the compiler's first line of error."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.cpp")
        source.write_text(_PROBE_PROGRAM)
        arguments = [*shlex.split(command), "-std=c++17", "-fPIC", "-shared", str(source)]
        try:
            done = subprocess.run(
                [*arguments, "-o", str(Path(folder, "probe.so"))], capture_output=True, text=True, timeout=120
            )
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
        if done.returncode == 0:
            return ""
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        return said[0] if said else f"exit status {done.returncode}"


def find_compiler(environ: Mapping[str, str] = os.environ) -> Compiler:
    """Finds the C++ compiler to use: $CXX and no other if it is set, else the first that works of Python's own, c++, g++ and clang++."""
    asked = environ.get("CXX", "").strip()
    path = environ.get("PATH")
    candidates = [asked] if asked else [sysconfig.get_config_var("CXX") or "", "c++", "g++", "clang++"]
    complaints: list[str] = []
    tried: set[str] = set()
    for candidate in candidates:
        words = shlex.split(candidate)
        if not words:
            continue
        # Python's CXX has options that fit the machine where Python was built, so only its program is taken.
        command = candidate if asked else words[0]
        if command in tried:
            continue
        tried.add(command)
        if shutil.which(words[0], path=path) is None:
            complaints.append(f"{words[0]}: not found")
            continue
        said = _probe_compiler(command)
        if not said:
            return Compiler(command)
        complaints.append(f"{words[0]}: {said}")
    wanted = "CXX names no working compiler" if asked else "no working C++ compiler"
    return Compiler(None, f"{wanted} ({'; '.join(complaints)})")


# ---------------------------------------------------------------------------------------------- CUDA toolkit


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit that can build the kernels.

    Attributes:
        home: its folder.
        version: its version, as "13.0".
        static_runtime: its libcudart_static.a.
    """

    home: Path
    version: str
    static_runtime: Path


@dataclass(frozen=True)
class CudaChoice:
    """The decision about CUDA on this machine: a toolkit, or the reason why the build is CPU only.

    Attributes:
        toolkit: the toolkit to build with; None for a CPU build.
        reason: why the build is CPU only; empty otherwise.
    """

    toolkit: Toolkit | None
    reason: str = ""


def _ask(command: Sequence[str]) -> str:
    """Returns the standard output and error of a command; "" if it cannot run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout + done.stderr


def toolkit_of_nvcc(nvcc: Path) -> Path | None:
    """Asks an nvcc for the folder of its toolkit, as nvcc may be a wrapper script in any folder; None if it does not answer."""
    match = re.search(r"^#\$ TOP=(.+)$", _ask([str(nvcc), "--dryrun", "-x", "cu", os.devnull]), re.MULTILINE)
    if match is None:
        return None
    top = match.group(1).strip().strip('"')
    return Path(os.path.normpath(top)) if top else None


def _static_runtime(home: Path) -> Path | None:
    for folder in ("lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"):
        library = home / folder / "libcudart_static.a"
        if library.is_file():
            return library
    return None


def inspect_toolkit(home: Path) -> Toolkit | str:
    """Returns the toolkit at `home`, or a sentence that says what it lacks."""
    nvcc = home / "bin" / "nvcc"
    if not nvcc.is_file():
        return f"{home} has no bin/nvcc"
    if not (home / "include" / "cuda_runtime.h").is_file():
        return f"{home} has no include/cuda_runtime.h"
    runtime = _static_runtime(home)
    if runtime is None:
        return f"{home} has no libcudart_static.a"
    version = re.search(r"release (\d+\.\d+)", _ask([str(nvcc), "--version"]))
    if version is None:
        return f"{nvcc} does not run"
    return Toolkit(home, version.group(1), runtime)


def _candidate_homes(environ: Mapping[str, str], usual: Sequence[str]) -> list[Path]:
    """Lists the folders to look in, in order: the one that the user named and no other, else nvcc's on PATH, then the usual ones."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if environ.get(name):
            return [Path(environ[name])]
    homes: list[Path] = []
    nvcc = shutil.which("nvcc", path=environ.get("PATH"))
    if nvcc is not None:
        homes.append(Path(nvcc).resolve().parent.parent)
        asked = toolkit_of_nvcc(Path(nvcc))
        if asked is not None:
            homes.append(asked)
    homes += [Path(home) for home in usual]
    return list(dict.fromkeys(homes))


def find_toolkit(
    torch_cuda: str | None, environ: Mapping[str, str] = os.environ, usual: Sequence[str] = USUAL_TOOLKITS
) -> CudaChoice:
    """Finds the first complete toolkit of the CUDA major version that torch was built with.

    Args:
        torch_cuda: `torch.version.cuda` of the torch at build time; None for a torch without CUDA.
        environ: environment variables.
        usual: folders to look in if the user names none.
    """
    if torch_cuda is None:
        return CudaChoice(None, "the torch at build time has no CUDA")
    complaints: list[str] = []
    for home in _candidate_homes(environ, usual):
        if not home.exists():
            complaints.append(f"{home} does not exist")
            continue
        found = inspect_toolkit(home)
        if isinstance(found, str):
            complaints.append(found)
        elif found.version.split(".")[0] != torch_cuda.split(".")[0]:
            complaints.append(f"{home} is CUDA {found.version}, torch has CUDA {torch_cuda}")
        else:
            return CudaChoice(found)
    return CudaChoice(None, "no usable CUDA toolkit: " + "; ".join(complaints))


def choose_cuda(
    torch_cuda: str | None, environ: Mapping[str, str] = os.environ, usual: Sequence[str] = USUAL_TOOLKITS
) -> CudaChoice:
    """Decides, by `SEGP_EXT_CUDA=auto|0|1`, whether to build the CUDA kernels.

    Args:
        torch_cuda: as for `find_toolkit`.
        environ: environment variables.
        usual: as for `find_toolkit`.

    Raises:
        BuildError: if the value is another one, or is 1 where CUDA cannot be built.
    """
    asked = environ.get("SEGP_EXT_CUDA", "auto").strip().lower() or "auto"
    if asked not in ("auto", "0", "1"):
        raise BuildError(f"SEGP_EXT_CUDA must be auto, 0 or 1; got {asked!r}")
    if asked == "0":
        return CudaChoice(None, "SEGP_EXT_CUDA=0")
    choice = find_toolkit(torch_cuda, environ, usual)
    if choice.toolkit is None and asked == "1":
        raise BuildError(
            f"SEGP_EXT_CUDA=1, but {choice.reason}. Install the CUDA toolkit of torch's major version and set "
            "CUDA_HOME to it, or build with SEGP_EXT_CUDA=0."
        )
    return choice


def cuda_architectures(device_capabilities: Sequence[tuple[int, int]], environ: Mapping[str, str] = os.environ) -> str:
    """Returns the value of TORCH_CUDA_ARCH_LIST: the user's if set, else the default list and the visible devices that need more.

    Args:
        device_capabilities: (major, minor) of each visible device.
        environ: environment variables; "native" in TORCH_CUDA_ARCH_LIST means the visible devices alone.
    """
    asked = environ.get("TORCH_CUDA_ARCH_LIST", "").strip()
    if asked and asked != "native":
        return asked
    devices = list(dict.fromkeys(device_capabilities))
    if asked == "native" and devices:
        return ";".join(f"{major}.{minor}" for major, minor in devices)
    # Devices newer than the default list run its PTX. Only devices older than the whole list need code of their own.
    older = [f"{major}.{minor}" for major, minor in devices if (major, minor) < (8, 0)]
    return ";".join([*older, DEFAULT_CUDA_ARCHITECTURES])


# ---------------------------------------------------------------------------------------------- build info


def write_build_info(folder: Path, info: Mapping[str, object]) -> None:
    """Writes segp_build_info.h, with `info` as JSON in one string literal; leaves the file untouched if it is the same already."""
    text = json.dumps(info, sort_keys=True)
    literal = text.replace("\\", "\\\\").replace('"', '\\"')
    header = f'#pragma once\n#define SEGP_EXT_BUILD_INFO "{literal}"\n'
    target = folder / "segp_build_info.h"
    folder.mkdir(parents=True, exist_ok=True)
    if not target.is_file() or target.read_text() != header:
        target.write_text(header)
