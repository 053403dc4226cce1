"""Runs all micro-benchmarks, one after the other: `python -m benchmarks [--device cuda] [--no-compile] [--quick]`."""

from __future__ import annotations

import subprocess
import sys

OPS = ("dpgd", "dual_target", "distill", "drift", "transfer", "overhead")

if __name__ == "__main__":
    # Each benchmark gets its own process, so that none inherits compiled functions or memory from another.
    for op in OPS:
        done = subprocess.run([sys.executable, "-m", f"benchmarks.bench_{op}", *sys.argv[1:]])
        if done.returncode:
            sys.exit(done.returncode)
        print(flush=True)
