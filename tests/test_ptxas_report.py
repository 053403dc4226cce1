"""scripts/ptxas_report.py, which CMake puts in front of nvcc."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPORT = Path(__file__).resolve().parents[1] / "scripts" / "ptxas_report.py"
PTXAS = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z4stepv' for 'sm_80'
ptxas info    : Function properties for _Z4stepv
    0 bytes stack frame, {spilled} bytes spill stores, {spilled} bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers
ptxas info    : Compiling entry function '_Z4walkv' for 'sm_80'
ptxas info    : Function properties for _Z4walkv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 16 registers
"""


def report(text: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    compiler = f"import sys; sys.stderr.write({text!r}); sys.exit({status})"
    return subprocess.run([sys.executable, REPORT, sys.executable, "-c", compiler], capture_output=True, text=True)


def test_registers_are_summed_up_per_architecture():
    done = report(PTXAS.format(spilled=0))
    assert done.returncode == 0
    assert done.stdout == "CUDA: sm_80: 2 kernels, 16 to 40 registers a thread, no spills\n"


def test_a_kernel_that_spills_fails_the_build_by_name():
    done = report(PTXAS.format(spilled=8))
    assert done.returncode == 1
    assert "sm_80: _Z4stepv spills (8 bytes" in done.stderr
    assert "_Z4walkv" not in done.stderr
    assert "no spills" not in done.stdout


@pytest.mark.parametrize("status", [0, 2])
def test_what_compiles_no_kernel_passes_through(status):
    done = report("kernel.cu(3): error: what is this\n", status)
    assert (done.returncode, done.stderr) == (status, "kernel.cu(3): error: what is this\n")
