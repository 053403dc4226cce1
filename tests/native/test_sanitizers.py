"""The emulated CUDA kernels under sanitizers: bounds, alignment, and threads of a block that touch one place without a barrier between.

These runs are quick ones. `cmake --workflow --preset sanitize-address` and `sanitize-thread` run everything.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CMAKE = shutil.which("cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(CMAKE is None, reason="cmake is not installed")
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_every_kernel_runs_under_the_sanitizer(sanitizer, tmp_path, record_property):
    assert CMAKE is not None
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    run(CMAKE, "-S", ROOT, "-B", tmp_path, *generator, f"-DSEGP_SANITIZE={sanitizer}", "-DSEGP_CUDA=OFF",
        f"-DPython3_EXECUTABLE={sys.executable}")  # fmt: skip
    run(CMAKE, "--build", tmp_path, "--parallel", "2", "--target", "emulated_cuda_tests")
    check = ROOT / "tests/native/check_kernels.py"
    said = run(sys.executable, check, tmp_path / "tests/native/emulated_cuda_tests", SEGP_TESTS="quick")
    record_property("summary", f"emulated CUDA under the {sanitizer} sanitizer: {said.splitlines()[-1]}")
