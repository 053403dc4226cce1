"""The ops' tests with torch's CUDA entry points, its products and the CUDA kernels, on the emulation of `emulated_cuda/`.

A library with `python/ops_cuda.cpp` as the processor's implementation takes the place of the usual one in a copy of the package. Products
are torch's, called as on a GPU (`python/gemm_torch_cuda.cpp`). torch has no product of half types with a float32 result on the processor;
`PRODUCTS` adds one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EMULATION = ROOT / "tests/native/emulated_cuda"
SOURCES = [
    *(ROOT / "python" / f"{name}.cpp"
      for name in ("library", "checks", "dpgd_args", "matrix_args", "ops_cuda", "gemm_torch_cuda")),
    *sorted((ROOT / "csrc/cuda").glob("*.cu")),
    EMULATION / "runtime.cpp",
]  # fmt: skip
CPU = Path("/proc/cpuinfo")
FUSED = ["-mfma", "-ffp-contract=fast"] if CPU.is_file() and " fma " in CPU.read_text() else []
"""Flags for a * b + c with one rounding, as nvcc computes it."""
PRODUCTS = """
import torch

library = torch.library.Library("aten", "IMPL")


def mm_dtype_out(a, b, out_dtype, *, out):
    assert a.dtype == b.dtype and out.dtype == out_dtype == torch.float32, (a.dtype, b.dtype, out.dtype, out_dtype)
    return out.copy_(a.double() @ b.double())


library.impl("mm.dtype_out", mm_dtype_out, "CPU")
"""
"""A pytest plugin that gives torch the product `aten::mm.dtype_out` on the processor."""
LEFT_OUT = {
    "test_target_out_of_range": "an error on the CPU; on CUDA, where looking would wait for the device, NaN",
    "test_the_native_op_checks_the_range_for_itself": "the same",
    "test_more_rows_than_a_block_holds": "minutes here; test_distill.cpp and its likes have several blocks",
}
"""Tests that do not run here, and why."""


def build(folder: Path) -> None:
    """Writes the library into a copy of the package in `folder`."""
    from torch.utils import cpp_extension

    package = folder / "segp_ext"
    shutil.copytree(ROOT / "segp_ext", package, ignore=shutil.ignore_patterns("_C*.so", "__pycache__"))
    info = json.dumps({"source_hash": "", "torch_target": "2.11", "cuda": False, "cuda_reason": "the emulation"})
    (folder / "segp_build_info.h").write_text(f"#define SEGP_EXT_BUILD_INFO {json.dumps(info)}\n")
    (folder / "products.py").write_text(PRODUCTS)
    includes = [EMULATION, ROOT / "csrc/include", folder, *cpp_extension.include_paths()]
    flags = ["-std=c++20", "-O2", "-fPIC", "-fvisibility=hidden", "-Wno-unknown-pragmas", "-DSEGP_EMULATED_CUDA=1",
             "-DSEGP_CUDA_TILE_BYTES=40960", "-DTORCH_TARGET_VERSION=0x020b000000000000ull",
             *FUSED, *(f"-I{path}" for path in includes)]  # fmt: skip

    def compiled(source: Path) -> str:
        target = folder / f"{source.stem}-{source.parent.name}.o"
        subprocess.run(["c++", *flags, "-x", "c++", "-c", str(source), "-o", str(target)], check=True)
        return str(target)

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, SOURCES))
    libraries = [f"-L{path}" for path in cpp_extension.library_paths()] + ["-lc10", "-ltorch_cpu", "-ltorch"]
    subprocess.run(["c++", "-shared", *objects, *libraries, "-o", str(package / "_C.abi3.so")], check=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder with the package and the library."""
    folder = tmp_path_factory.mktemp("emulated")
    build(folder)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
@pytest.mark.parametrize(
    ("way", "settings"),
    [
        ("sizes up to 10,000 multiplications by the small kernels", {"EMULATED_CUDA_SMALL_WORK": "10000"}),
        (
            "products of matrices, last block first",
            {"EMULATED_CUDA_SMALL_WORK": "0", "EMULATED_CUDA_ORDER": "backward"},
        ),
    ],
)
def test_ops_pass_their_tests_with_the_cuda_code(way, settings, built, record_property):
    skipped = " and ".join(f"not {name}" for name in LEFT_OUT)
    torch_multiplies = {"SEGP_EXT_CPU_ISA": "baseline"}  # tells the tests so; no kernel of the CPU's takes part
    pytest_here = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "products"]
    done = subprocess.run(
        [*pytest_here, str(ROOT / "tests/ops"), "-k", skipped],
        cwd=built,
        env={**os.environ, "PYTHONPATH": str(built), "SEGP_EXT_REQUIRE_NATIVE": "1", **torch_multiplies, **settings},
        capture_output=True,
        text=True,
    )
    print(done.stdout[-4000:], done.stderr[-2000:])
    assert done.returncode == 0
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) > 700
    record_property("summary", f"ops' tests with the CUDA code on the emulation ({way}): {passed[1]} passed")


FAILS_ONCE = """
import torch
from segp_ext import ops
rows = torch.randn(4, 8)
try:
    ops.geometry_distill(rows, rows, rows, rows, logit_scale=10.0, temperature=1.0)
except RuntimeError as error:
    print(error)
print(float(ops.geometry_distill(rows, rows, rows, rows, logit_scale=10.0, temperature=1.0)))
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_an_error_of_the_device_is_raised_with_its_text(built):
    done = subprocess.run(
        [sys.executable, "-c", FAILS_ONCE],
        cwd=built,
        env={**os.environ, "PYTHONPATH": str(built), "SEGP_EXT_REQUIRE_NATIVE": "1", "EMULATED_CUDA_STATUS": "719"},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    assert lines == ["geometry_distill: kernel did not start: an error made for a test", "0.0"], (
        done.stdout + done.stderr
    )
