"""Builds `csrc` without torch and runs its own tests, in a folder of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CMAKE = shutil.which("cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")


@pytest.mark.slow
@pytest.mark.skipif(CMAKE is None, reason="cmake is not installed")
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_kernels_build_and_pass_their_tests_without_torch(tmp_path):
    assert CMAKE is not None
    generator = ["-G", "Ninja"] if shutil.which("ninja") else []
    for command in (
        [CMAKE, "-S", str(ROOT), "-B", str(tmp_path), *generator, "-DSEGP_CUDA=OFF",
         f"-DPython3_EXECUTABLE={sys.executable}"],
        [CMAKE, "--build", str(tmp_path), "--parallel", "2"],
        [str(Path(CMAKE).with_name("ctest")), "--test-dir", str(tmp_path), "--output-on-failure"],
    ):  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
