"""The traps of building, with faked compilers and toolkits."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from segp_ext.ops import _native

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
import build_support  # noqa: E402


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def make_toolkit(home: Path, version: str = "13.0", without: str = "") -> Path:
    """A toolkit whose nvcc answers --version and --dryrun, less one of its parts."""
    answers = (
        f'case "$*" in *dryrun*) echo "#\\$ TOP={home}/bin/.." >&2;; *) echo "release {version}, V{version}";; esac'
    )
    script(home / "bin" / "nvcc", answers)
    for part in ("include/cuda_runtime.h", "lib64/libcudart_static.a"):
        if part != without:
            (home / part).parent.mkdir(parents=True, exist_ok=True)
            (home / part).touch()
    return home


def choose(path: Path | str = "", torch_cuda: str | None = "13.2", usual: tuple[str, ...] = (), **environ: str):
    return build_support.choose_cuda(torch_cuda, {"PATH": f"{path}:/usr/bin:/bin", **environ}, usual)


def test_toolkit_beside_nvcc(tmp_path):
    home = make_toolkit(tmp_path / "cuda")
    choice = choose(home / "bin")
    assert choice.toolkit is not None
    assert choice.toolkit.home == home
    assert choice.toolkit.version == "13.0"
    assert choice.toolkit.static_runtime == home / "lib64" / "libcudart_static.a"


def test_wrapper_nvcc_is_asked_where_its_toolkit_is(tmp_path):
    home = make_toolkit(tmp_path / "far" / "cuda")
    script(tmp_path / "bin" / "nvcc", f'exec {home}/bin/nvcc "$@"')
    choice = choose(tmp_path / "bin")
    assert choice.toolkit is not None
    assert choice.toolkit.home == home


def test_linked_nvcc(tmp_path):
    home = make_toolkit(tmp_path / "far" / "cuda")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "nvcc").symlink_to(home / "bin" / "nvcc")
    choice = choose(tmp_path / "bin")
    assert choice.toolkit is not None
    assert choice.toolkit.home == home


def test_usual_place_where_nvcc_is_not_on_the_path(tmp_path):
    home = make_toolkit(tmp_path / "cuda")
    choice = choose(tmp_path / "none", usual=(str(tmp_path / "absent"), str(home)))
    assert choice.toolkit is not None
    assert choice.toolkit.home == home


def test_cuda_home_is_the_last_word(tmp_path):
    named = make_toolkit(tmp_path / "named", without="include/cuda_runtime.h")
    other = make_toolkit(tmp_path / "other")
    choice = choose(other / "bin", CUDA_HOME=str(named))
    assert choice.toolkit is None
    assert "named has no include/cuda_runtime.h" in choice.reason


@pytest.mark.parametrize("missing", ["include/cuda_runtime.h", "lib64/libcudart_static.a"])
def test_half_a_toolkit(tmp_path, missing):
    home = make_toolkit(tmp_path / "cuda", without=missing)
    choice = choose(home / "bin")
    assert choice.toolkit is None
    assert f"{home} has no {missing.removeprefix('lib64/')}" in choice.reason
    assert "\n" not in choice.reason
    with pytest.raises(build_support.BuildError, match="SEGP_EXT_CUDA=1, but no usable CUDA toolkit"):
        choose(home / "bin", SEGP_EXT_CUDA="1")


def test_half_a_toolkit_does_not_hide_a_whole_one(tmp_path):
    half = make_toolkit(tmp_path / "half", without="lib64/libcudart_static.a")
    whole = make_toolkit(tmp_path / "whole")
    choice = choose(half / "bin", usual=(str(whole),))
    assert choice.toolkit is not None
    assert choice.toolkit.home == whole


def test_another_major_version(tmp_path):
    home = make_toolkit(tmp_path / "cuda", version="12.4")
    choice = choose(home / "bin")
    assert choice.toolkit is None
    assert "is CUDA 12.4, torch has CUDA 13.2" in choice.reason
    with pytest.raises(build_support.BuildError, match=r"CUDA 12\.4, torch has CUDA 13\.2"):
        choose(home / "bin", SEGP_EXT_CUDA="1")


def test_no_toolkit_at_all(tmp_path):
    assert "no usable CUDA toolkit" in choose(tmp_path, usual=(str(tmp_path / "absent"),)).reason


def test_torch_without_cuda(tmp_path):
    home = make_toolkit(tmp_path / "cuda")
    assert choose(home / "bin", torch_cuda=None).reason == "the torch at build time has no CUDA"


def test_switch(tmp_path):
    home = make_toolkit(tmp_path / "cuda")
    assert choose(home / "bin", SEGP_EXT_CUDA="0").reason == "SEGP_EXT_CUDA=0"
    assert choose(home / "bin", SEGP_EXT_CUDA="1").toolkit is not None
    with pytest.raises(build_support.BuildError, match="must be auto, 0 or 1; got 'yes'"):
        choose(home / "bin", SEGP_EXT_CUDA="yes")


def test_architectures():
    """Without a GPU torch would raise; here there is a default, which includes PTX for what comes later."""
    default = "8.0;8.6;9.0+PTX"
    assert build_support.cuda_architectures([], {}) == default
    assert build_support.cuda_architectures([(9, 0), (9, 0)], {}) == default
    assert build_support.cuda_architectures([(7, 5)], {}) == "7.5;8.0;8.6;9.0+PTX"
    assert build_support.cuda_architectures([(10, 0), (8, 9)], {}) == default
    assert build_support.cuda_architectures([], {"TORCH_CUDA_ARCH_LIST": "9.0"}) == "9.0"
    assert build_support.cuda_architectures([(8, 6)], {"TORCH_CUDA_ARCH_LIST": "native"}) == "8.6"
    assert build_support.cuda_architectures([], {"TORCH_CUDA_ARCH_LIST": "native"}) == default


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_a_working_compiler_is_found():
    assert build_support.find_compiler({"PATH": os.environ["PATH"]}).command


def test_no_compiler(tmp_path):
    found = build_support.find_compiler({"PATH": str(tmp_path)})
    assert found.command is None
    assert "no working C++ compiler (" in found.reason
    assert "g++: not found" in found.reason
    assert "\n" not in found.reason


def test_a_compiler_that_cannot_compile(tmp_path):
    script(tmp_path / "c++", 'echo "fatal error: vector: No such file or directory" >&2; exit 1')
    found = build_support.find_compiler({"PATH": str(tmp_path), "CXX": str(tmp_path / "c++")})
    assert found.command is None
    assert "CXX names no working compiler" in found.reason
    assert "fatal error: vector" in found.reason


def test_build_info_header_survives_quotes(tmp_path):
    build_support.write_build_info(tmp_path, {"cuda_reason": 'no "toolkit" \\ here'})
    header = tmp_path / "segp_build_info.h"
    before = header.stat().st_mtime_ns
    build_support.write_build_info(tmp_path, {"cuda_reason": 'no "toolkit" \\ here'})
    assert header.stat().st_mtime_ns == before, "an equal header must not cause a rebuild"
    literal = header.read_text().split("SEGP_EXT_BUILD_INFO ", 1)[1]
    assert json.loads(json.loads(literal)) == {"cuda_reason": 'no "toolkit" \\ here'}


def run_setup(folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """setup.py in a copy of the checkout, with nothing on PATH that compiles."""
    for name in ("setup.py", "build_support.py", "pyproject.toml", "MANIFEST.in"):
        shutil.copy(ROOT / name, folder)
    for name in ("README.md", "LICENSE"):
        (folder / name).write_text("text\n")
    ignore = shutil.ignore_patterns("*.so", "__pycache__", "assets")
    for name in ("segp_ext", "csrc", "python"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    clean = {k: v for k, v in os.environ.items() if k not in ("CXX", "CC") and not k.startswith("SEGP_EXT")}
    environment = {**clean, "PATH": str(folder / "empty"), **environ}
    command = [sys.executable, "setup.py", "-q", "build", "--build-base", "build"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_without_a_compiler_it_installs_the_eager_path_and_says_so(tmp_path):
    stale = tmp_path / "build" / "lib" / "segp_ext" / "_C.abi3.so"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"left by an earlier build")
    done = run_setup(tmp_path)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if line.startswith("segp_ext:")]
    assert len(said) == 1
    assert "no working C++ compiler" in said[0]
    assert "eager path" in said[0]
    assert not stale.exists()
    package = tmp_path / "build" / "lib" / "segp_ext"
    assert (package / "py.typed").is_file()
    path, reason = _native.find_library(package)
    assert "no working C++ compiler" in reason or path is not None  # an installed library may stand in


def test_without_a_compiler_a_demand_for_native_fails_clearly(tmp_path):
    done = run_setup(tmp_path, SEGP_EXT_REQUIRE_NATIVE="1")
    assert done.returncode != 0
    assert "the native library was demanded, but there is no working C++ compiler" in done.stderr
