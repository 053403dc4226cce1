"""Names what this machine lacks for `benchmarks/run_gpu.sh`, with the versions wanted: `python scripts/gpu_needs.py cuda`.

The script serves machines without a package index, and needs nothing but Python. With `cpu` instead of `cuda`, it asks for no CUDA tools.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import sys
import tomllib
from pathlib import Path

TEST_PACKAGES = ("pytest", "pytest-xdist", "hypothesis")
"""Packages of the extra `test` that the ops' tests take; the tests of other parts, which take more, are not run there."""


def name_in(requirement: str) -> str:
    """Returns the package's name in a line such as "torch>=2.11"."""
    return re.split(r"[^\w.-]", requirement)[0]


def main(device: str) -> int:
    """Prints what is there and what is missing for "cuda" or "cpu"; returns 1 if anything is missing."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    wanted = [
        *project["project"]["dependencies"],
        *(line for line in project["project"]["optional-dependencies"]["test"] if name_in(line) in TEST_PACKAGES),
        *project["build-system"]["requires"],
    ]
    missing = []
    for line in dict.fromkeys(wanted):
        try:
            print(f"{name_in(line)} {importlib.metadata.version(name_in(line))}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(line)
    tools = ["nvcc", "compute-sanitizer", "nvidia-smi"] if device == "cuda" else []
    missing += [tool for tool in tools if shutil.which(tool) is None]
    print(f"missing: {', '.join(missing) or 'nothing'}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
