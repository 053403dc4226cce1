"""Builds the native library in place, for this machine's GPU alone, unless it is there already: `python scripts/gpu_build.py cuda`.

With `cpu` instead of `cuda`, the script builds the CPU kernels alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]


def is_built(cuda: bool, architecture: str) -> bool:
    """Tells whether the library beside the sources was built from them and, with `cuda`, for this architecture."""
    code = "import segp_ext; i = segp_ext.build_info(); print(i['ops_path'], i['cuda_built'], i['cuda_architectures'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    path, _, rest = done.stdout.strip().partition(" ")
    built, _, architectures = rest.partition(" ")
    return path == "native" and (not cuda or (built == "True" and architecture in architectures))


def main(device: str) -> int:
    """Builds the library for "cuda" or "cpu"; returns the exit status."""
    cuda = device == "cuda"
    architecture = ".".join(map(str, torch.cuda.get_device_capability())) if cuda else ""
    if cuda:
        print(torch.cuda.get_device_name(), "torch", torch.__version__, "CUDA", torch.version.cuda)
    if is_built(cuda, architecture):
        print(f"built already, architecture {architecture or 'of the CPU'}")
        return 0
    settings = {"SEGP_EXT_CUDA": "1", "TORCH_CUDA_ARCH_LIST": architecture} if cuda else {"SEGP_EXT_CUDA": "0"}
    subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--inplace"], cwd=ROOT, env={**os.environ, **settings}, check=True
    )
    print(f"built, architecture {architecture or 'of the CPU'}")
    return 0 if is_built(cuda, architecture) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
