"""Builds the native library of segp_ext; everything else about the package is in pyproject.toml.

Environment variables:

    SEGP_EXT_CUDA=auto|0|1        build CUDA kernels where a usable toolkit is found (auto), never (0), or always (1)
    SEGP_EXT_REQUIRE_NATIVE=1     fail instead of installing without the native library
    TORCH_CUDA_ARCH_LIST          architectures of the CUDA kernels
    MAX_JOBS                      number of compile jobs at a time

One build serves every torch >= 2.11 and every Python >= 3.11. It uses torch's stable ABI only and nothing of Python's C API, and it is
linked to no CUDA library.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build import build

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # PEP 517 builds do not put the project's folder there

import build_support  # noqa: E402

TORCH_TARGET_VERSION = (2, 11)
GENERATED = Path("build", "generated")
CPU_SOURCES = [
    "python/library.cpp",
    "python/checks.cpp",
    "python/dpgd_args.cpp",
    "python/gemm_torch.cpp",
    "python/matrix_args.cpp",
    "python/ops_cpu.cpp",
    "python/parallel_torch.cpp",
    "csrc/cpu/distill.cpp",
    "csrc/cpu/dpgd.cpp",
    "csrc/cpu/drift.cpp",
    "csrc/cpu/dual_target.cpp",
    "csrc/cpu/gemm_blocked.cpp",
    "csrc/cpu/half_rows.cpp",
    "csrc/cpu/isa.cpp",
    "csrc/cpu/transfer.cpp",
    "csrc/cpu/unit_rows.cpp",
]
CUDA_SOURCES = [
    "python/gemm_torch_cuda.cpp",
    "python/ops_cuda.cpp",
    "csrc/cuda/distill.cu",
    "csrc/cuda/dpgd.cu",
    "csrc/cuda/drift.cu",
    "csrc/cuda/dual_target.cu",
    "csrc/cuda/transfer.cu",
]
# The compiler may turn comparisons into selects. It may not contract to fused multiply-add, as every instruction set must round alike.
# No other part of fast-math is on.
CXX_FLAGS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off", "-fvisibility=hidden"]


def say(line: str) -> None:
    """Prints one line of the build log; pip shows it with -v, or when the build fails."""
    print(f"segp_ext: {line}", file=sys.stderr)


class CleanBuild(build):
    """The build command, which keeps remains of earlier builds out of the wheel.

    Attributes:
        no_native_reason: why the wheel has no native library; empty if it has one.
    """

    no_native_reason = ""

    def run(self) -> None:
        """Empties the library folder, builds, and writes the reason to a file that the loader reads."""
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        if self.no_native_reason:
            Path(self.build_lib, "segp_ext", "_no_native.txt").write_text(self.no_native_reason + "\n")


def native_extension() -> Extension | None:
    """Describes the native library to setuptools; None, after printing why, where no compiler works and none is required.

    Raises:
        BuildError: if no compiler works although the environment requires the library or CUDA, or if the CUDA kernels cannot be built.
    """
    required = os.environ.get("SEGP_EXT_REQUIRE_NATIVE") == "1"
    compiler = build_support.find_compiler()
    if compiler.command is None:
        if required or os.environ.get("SEGP_EXT_CUDA") == "1":
            raise build_support.BuildError(
                f"the native library was demanded, but there is {compiler.reason}. Install one "
                "(Debian, Ubuntu: apt-get install g++) or name it in CXX."
            )
        say(f"{compiler.reason}; installing without native kernels, the eager path will run")
        CleanBuild.no_native_reason = f"it was installed where there was {compiler.reason}"
        return None
    # torch's build helpers look for `c++`, and setuptools for a C compiler of its own choice. Both get the compiler that works.
    os.environ.setdefault("CXX", compiler.command)
    if shutil.which(os.environ.get("CC", "cc")) is None:
        os.environ["CC"] = compiler.command

    import torch
    from torch.utils import cpp_extension

    cuda = build_support.choose_cuda(torch.version.cuda)
    sources = list(CPU_SOURCES)
    link_flags: list[str] = []
    architectures = ""
    if cuda.toolkit is None:
        say(f"building CPU kernels only: {cuda.reason}")
    else:
        devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else range(0)
        architectures = build_support.cuda_architectures([torch.cuda.get_device_capability(d) for d in devices])
        say(f"building CPU and CUDA kernels: {cuda.toolkit.home}, CUDA {cuda.toolkit.version}, for {architectures}")
        os.environ["TORCH_CUDA_ARCH_LIST"] = architectures
        # torch chose CUDA_HOME when it was imported, perhaps the folder of a wrapper script without a toolkit.
        os.environ["CUDA_HOME"] = str(cuda.toolkit.home)
        cpp_extension.CUDA_HOME = str(cuda.toolkit.home)
        sources += CUDA_SOURCES
        # The runtime is linked statically and hidden, so that the library also loads where there is no CUDA.
        link_flags = [str(cuda.toolkit.static_runtime), "-Wl,--exclude-libs,ALL", "-ldl", "-lrt", "-lpthread"]

    build_support.write_build_info(
        ROOT / GENERATED,
        {
            "source_hash": build_support.load_source_hash(ROOT)(ROOT),
            "torch_target": ".".join(map(str, TORCH_TARGET_VERSION)),
            "torch_at_build": torch.__version__,
            "compiler": compiler.command,
            "platform": platform.machine(),
            "cuda": cuda.toolkit is not None,
            "cuda_version": cuda.toolkit.version if cuda.toolkit else None,
            "cuda_reason": cuda.reason,
            "cuda_architectures": architectures,
        },
    )
    major, minor = TORCH_TARGET_VERSION
    return cpp_extension.CppExtension(
        name="segp_ext._C",
        sources=sources,
        include_dirs=[str(ROOT / "csrc" / "include"), str(ROOT / GENERATED)],
        define_macros=[("TORCH_TARGET_VERSION", f"0x{major:02x}{minor:02x}000000000000ull")],
        extra_compile_args={"cxx": CXX_FLAGS, "nvcc": ["-O3", "--compiler-options", "-fvisibility=hidden"]},
        extra_link_args=link_flags,
        depends=[str(path.relative_to(ROOT)) for path in sorted(ROOT.glob("csrc/**/*.h"))],
        py_limited_api=True,
    )


def command_classes(extension: Extension | None) -> dict[str, type]:
    """Returns the build commands by name; torch's own command only where there is something to compile."""
    if extension is None:
        return {"build": CleanBuild}
    from torch.utils.cpp_extension import BuildExtension

    return {"build": CleanBuild, "build_ext": BuildExtension}


# A frontend that asks only for metadata or a source archive must not need a compiler.
BUILDS = not {"egg_info", "dist_info", "sdist", "clean"} & set(sys.argv[1:])
library = native_extension() if BUILDS else None
setup(
    ext_modules=[library] if library else [],
    cmdclass=command_classes(library),
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
