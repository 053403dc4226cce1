"""Names the packages and tools that this machine lacks, with the versions wanted: `python scripts/gpu_needs.py cuda`.

The script serves machines without a package index, and needs nothing but Python. With `cpu` instead of `cuda`, it asks for no CUDA tools.
"""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import sys
import tomllib
from pathlib import Path


def main(device: str) -> int:
    """Prints what is there and what is missing for "cuda" or "cpu"; returns 1 if anything is missing."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    wanted = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["test"],
        *project["build-system"]["requires"],
    ]
    missing = []
    for line in dict.fromkeys(wanted):
        name = re.match(r"[\w.-]+", line)
        assert name
        try:
            print(f"{name[0]} {importlib.metadata.version(name[0])}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(line)
    tools = ["nvcc", "compute-sanitizer", "nvidia-smi"] if device == "cuda" else []
    missing += [tool for tool in tools if shutil.which(tool) is None]
    print(f"missing: {', '.join(missing) or 'nothing'}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
