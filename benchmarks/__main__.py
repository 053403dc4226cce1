"""All micro-benchmarks, one after the other: `python -m benchmarks [--device cuda] [--no-compile] [--quick]`."""

from __future__ import annotations

import subprocess
import sys

OPS = ("dpgd", "dual_target", "distill", "drift", "transfer", "overhead")

if __name__ == "__main__":
    # Each in a process of its own: one benchmark's compiled functions and memory must not be another's.
    for op in OPS:
        done = subprocess.run([sys.executable, "-m", f"benchmarks.bench_{op}", *sys.argv[1:]])
        if done.returncode:
            sys.exit(done.returncode)
        print(flush=True)
