"""Names the packages and tools that the steps of `benchmarks/run_gpu.sh` lack here, with the versions wanted.

    python scripts/gpu_needs.py cuda

The script serves machines without a package index, and needs nothing but Python. With `cpu` instead of `cuda`, it asks for no CUDA tools.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import sys
import tomllib
from pathlib import Path

TEST = ("pytest", "pytest-xdist", "hypothesis")
"""What the tests of these steps need of the extra `test`."""
OF_OTHERS = ("ftfy", "wcwidth", "regex", "huggingface-hub")
"""What open_clip_torch needs in turn: a package that is missing cannot say so."""


def numbers(version: str) -> list[int]:
    """Returns a release's numbers, without a local part such as "+cu130"."""
    return [int(part) for part in re.findall(r"\d+", version.partition("+")[0])]


def main(device: str) -> int:
    """Prints what is there and what is missing or too old for "cuda" or "cpu"; returns 1 if anything is."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *TEST, *OF_OTHERS, *project["build-system"]["requires"]]
    missing = []
    for line in dict.fromkeys(wanted):
        name, _, least = line.partition(">=")
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(line)
            continue
        print(f"{name} {found}")
        if least and numbers(found) < numbers(least):
            missing.append(line)
    tools = ["nvcc", "compute-sanitizer", "nvidia-smi"] if device == "cuda" else []
    missing += [tool for tool in tools if shutil.which(tool) is None]
    print(f"missing: {', '.join(missing) or 'nothing'}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
