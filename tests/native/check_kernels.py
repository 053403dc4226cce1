"""Runs the emulated CUDA tests and fails unless they pass and every kernel of the binary was launched.

python check_kernels.py EMULATED_CUDA_TESTS
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

KERNEL = re.compile(r"segp::cuda::.*_kernel<.*>\(.*\)$")  # and none of the parts that a compiler splits off


def kernels(binary: str) -> dict[int, str]:
    """The kernels in a binary's symbol table, by address."""
    symbols = subprocess.run(["nm", "-C", "--defined-only", binary], capture_output=True, text=True, check=True).stdout
    found = (line.split(maxsplit=2) for line in symbols.splitlines())
    return {int(address, 16): name for address, kind, name in found if kind in "tTW" and KERNEL.search(name)}


def main(binary: str) -> int:
    # The kernels for small sizes, few of them, as a thread of the emulation takes long; and the products of matrices with the blocks in
    # the other order. Both at a time.
    ways = (
        {"EMULATED_CUDA_SMALL_WORK": "1000"},
        {"EMULATED_CUDA_SMALL_WORK": "0", "EMULATED_CUDA_ORDER": "backward"},
    )
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"launched-{i}" for i in range(len(ways))]
        running = [
            subprocess.Popen([binary], env={**os.environ, **way, "EMULATED_CUDA_LAUNCHED": str(file)})
            for way, file in zip(ways, files, strict=True)
        ]
        statuses = [process.wait() for process in running]
        if any(statuses):
            for way, status in zip(ways, statuses, strict=True):
                print(f"status {status} with {' '.join(f'{name}={value}' for name, value in way.items())}")
            return 1
        addresses = {int(line, 16) for file in files for line in file.read_text().split()}
    expected = kernels(binary)
    missing = sorted(name for address, name in expected.items() if address not in addresses)
    print(f"{len(expected) - len(missing)} of {len(expected)} kernels launched")
    for name in missing:
        print(f"never launched: {name}")
    return 1 if missing or not expected or not addresses <= set(expected) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
