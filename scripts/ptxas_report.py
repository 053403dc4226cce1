"""Runs a CUDA compilation, and sums up the registers that its kernels use: `ptxas_report.py nvcc … -c kernel.cu`.

CMakeLists.txt puts this script in front of nvcc. The command must ask ptxas for its figures (`-Xptxas=-v`). The script prints one line per
architecture, instead of ptxas's three lines per kernel. A kernel that spills registers to memory fails the build, as it would run many
times slower.
"""

from __future__ import annotations

import re
import subprocess
import sys

_ENTRY = re.compile(r"Compiling entry function '(?P<kernel>\w+)' for '(?P<arch>\w+)'")
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")


def summary(text: str) -> tuple[list[str], list[str]]:
    """Reads ptxas's output; returns a line per architecture, and a line per kernel that spills."""
    registers: dict[str, list[int]] = {}
    spilling, kernel, arch = [], "", ""
    for line in text.splitlines():
        if entry := _ENTRY.search(line):
            kernel, arch = entry["kernel"], entry["arch"]
        elif (spills := _SPILLS.search(line)) and any(int(n) for n in spills.groups()):
            spilling.append(f"{arch}: {kernel} spills ({spills[0]})")
        elif used := _REGISTERS.search(line):
            registers.setdefault(arch, []).append(int(used[1]))
    end = "" if spilling else ", no spills"
    lines = [
        f"{arch}: {len(counts)} kernels, {min(counts)} to {max(counts)} registers a thread{end}"
        for arch, counts in registers.items()
    ]
    return lines, spilling


def main(command: list[str]) -> int:
    """Runs the compilation and prints its report; returns the compiler's exit status, or 1 if a kernel spills."""
    done = subprocess.run(command, capture_output=True, text=True)
    text = done.stdout + done.stderr
    lines, spilling = summary(text)
    if done.returncode or not lines:  # an error, or a command that compiles no kernel
        sys.stderr.write(text)
        return done.returncode
    source = next((word for word in command if word.endswith(".cu")), "CUDA")
    known = "ptxas info", "bytes stack frame"
    others = [line for line in text.splitlines() if line and not any(words in line for words in known)]
    print("\n".join(others + [f"{source.rsplit('/', 1)[-1]}: {line}" for line in lines]))
    for line in spilling:
        print(f"{source}: error: {line}", file=sys.stderr)
    return 1 if spilling else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
