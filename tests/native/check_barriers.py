"""Takes each barrier out of a copy of the CUDA kernels, and fails unless the thread sanitizer sees that it is gone.

    python tests/native/check_barriers.py [BUILD_FOLDER]

It takes about a minute a barrier. The folder must be new; without one, a temporary folder is used.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BARRIER = "__syncthreads();"


def build(folder: Path) -> None:
    subprocess.run(
        ["cmake", "--build", folder / "build", "--parallel", "2", "--target", "emulated_cuda_tests"],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def sees_a_race(folder: Path) -> bool:
    command = [
        sys.executable,
        folder / "tests/native/check_kernels.py",
        folder / "build/tests/native/emulated_cuda_tests",
    ]
    done = subprocess.run(command, env={**os.environ, "SEGP_TESTS": "quick"}, capture_output=True, text=True)
    return done.returncode != 0 and "data race" in done.stdout + done.stderr


def main(folder: Path) -> int:
    """Returns 0 if every barrier's absence is seen."""
    for part in ("csrc", "python", "tests/native"):
        shutil.copytree(ROOT / part, folder / part)
    shutil.copy(ROOT / "CMakeLists.txt", folder)
    subprocess.run(
        ["cmake", "-S", folder, "-B", folder / "build", "-DSEGP_SANITIZE=thread", "-DSEGP_CUDA=OFF",
         f"-DPython3_EXECUTABLE={sys.executable}"],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    build(folder)
    if sees_a_race(folder):
        print("the kernels as they are have a race")
        return 1
    missed = count = 0
    for source in sorted((folder / "csrc/cuda").iterdir()):
        whole = source.read_text()
        for number, line in enumerate(whole.splitlines()):
            if BARRIER not in line:
                continue
            lines = whole.splitlines()
            lines[number] = line.replace(BARRIER, "")
            source.write_text("\n".join(lines) + "\n")
            build(folder)
            seen = sees_a_race(folder)
            print(f"{source.name}:{number + 1}: {'a race' if seen else 'MISSED'}", flush=True)
            count, missed = count + 1, missed + (not seen)
            source.write_text(whole)
    print(f"{count - missed} of {count} barriers are seen to be missing")
    return 1 if missed or not count else 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(Path(sys.argv[1])))
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(Path(temporary)))
