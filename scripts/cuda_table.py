"""Writes a Markdown page of what the CUDA kernels cost, found without a GPU: registers, instructions and launches.

    python scripts/cuda_table.py [--before REVISION] > benchmarks/results/cuda_table.md

With --before, every number stands beside that of an earlier revision. The script needs nvcc and a C++ compiler. To count instructions, it
also needs cuobjdump (pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm). Launches are counted by running the host code with kernels
that do nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
EMULATION = ROOT / "tests/native/emulated_cuda"
ARCHITECTURE = "90"
DTYPES = {"float": "float32", "segp::BFloat16": "bfloat16", "segp::Half": "float16", "double": "float64"}
HOT = {"distill_rows_kernel": "geometry_distill", "dual_text_kernel": "dual_target_loss",
       "dual_rows_kernel": "dual_target_loss", "drift_chunk_kernel": "prototype_drift"}  # fmt: skip
"""Op of each kernel that goes through every similarity."""
NUMBERS_AT_A_TIME = 4  # similarities that a thread handles in one step through a row, in all of these kernels


@dataclass
class Source:
    """Costs of one compiled .cu file.

    Attributes:
        registers: registers per thread by kernel and dtype; the most of a kernel's instantiations.
        spills: bytes that spill to memory, stores and loads.
        instructions: instructions per similarity by op and dtype.
    """

    registers: dict[tuple[str, str], int] = field(default_factory=dict)
    spills: int = 0
    instructions: dict[tuple[str, str], float] = field(default_factory=dict)


def run(*command: str | Path) -> str:
    """Runs a command and returns its output and errors; ends the script with them if the command fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command[:3]))} … failed:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def dtype_of(name: str) -> str:
    """Returns the dtype in a kernel's demangled name; "?" if there is none."""
    first = re.search(r"_kernel<([\w:]+)", name)
    return DTYPES.get(first[1], first[1]) if first else "?"


def loops(assembly: str) -> list[list[str]]:
    """Returns the instructions of each innermost loop of a kernel: from the target of a backward branch up to the branch."""
    lines = re.findall(r"/\*([0-9a-f]{4,})\*/ +([^;]*);", assembly)
    places = {int(address, 16): i for i, (address, _) in enumerate(lines)}
    spans = []
    for i, (_, text) in enumerate(lines):
        target = re.search(r"\bBRA\b.*?(0x[0-9a-f]+)", text)
        if target and int(target[1], 16) in places and places[int(target[1], 16)] < i:
            spans.append((places[int(target[1], 16)], i))
    inner = [a for a in spans if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in spans)]
    return [[text for _, text in lines[begin : end + 1]] for begin, end in inner]


def per_similarity(assembly: str) -> float:
    """Counts the instructions that a kernel spends on one similarity.

    It counts in the innermost loops that raise two to a power (MUFU.EX2). Loops that read shared memory (LDS) are left out: they add up the
    warps' shares.
    """
    bodies = [
        body
        for body in loops(assembly)
        if any("MUFU.EX2" in text for text in body) and not any("LDS" in text for text in body)
    ]
    return sum(len(body) for body in bodies) / NUMBERS_AT_A_TIME


def compiled(source: Path, include: Path, folder: Path) -> Source:
    """Compiles one .cu file into `folder` with nvcc, and reads its costs; instructions only where cuobjdump is there."""
    target = folder / f"{source.stem}.o"
    text = run("nvcc", "-O3", "-std=c++17", f"-gencode=arch=compute_{ARCHITECTURE},code=sm_{ARCHITECTURE}",
               f"-I{include}", "-Xptxas=-v", "-c", source, "-o", target)  # fmt: skip
    result = Source()
    name = ""
    for line in run_filter(text).splitlines():
        if entry := re.search(r"Compiling entry function '(.*)' for", line):
            name = entry[1]
        elif used := re.search(r"Used (\d+) registers", line):
            kernel = re.search(r"(\w+)_kernel<", name)
            key = kernel[1] if kernel else "?", dtype_of(name)
            result.registers[key] = max(int(used[1]), result.registers.get(key, 0))
        elif spill := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
            result.spills += int(spill[1]) + int(spill[2])
    if shutil.which("cuobjdump"):
        for part in run_filter(run("cuobjdump", "-sass", target)).split("Function : ")[1:]:
            title = part.splitlines()[0]
            kernel = re.search(r"(\w+_kernel)<", title)
            if kernel and kernel[1] in HOT and dtype_of(title) in ("float32", "bfloat16"):
                way = ", sharpness up to 40" if "true>" in title else ""
                result.instructions[HOT[kernel[1]] + way, dtype_of(title)] = per_similarity(part)
    return result


def run_filter(text: str) -> str:
    """Demangles the C++ names in a string with c++filt."""
    return subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True).stdout


def launches(csrc: Path, folder: Path) -> dict[tuple[str, str, str], list[int]]:
    """Counts the kernels, matrix products and memsets of one call, by op, sizes and dtype."""
    program = folder / "count_launches"
    run("c++", "-std=c++20", "-O1", "-w", "-DSEGP_EMULATED_CUDA=1", f"-I{EMULATION}", f"-I{csrc}/include",
        EMULATION / "count_launches.cpp", "-x", "c++", *sorted((csrc / "cuda").glob("*.cu")), "-o", program)  # fmt: skip
    rows = (line.split("\t") for line in run(program).splitlines())
    return {(op, sizes, dtype): [int(n) for n in numbers] for op, sizes, dtype, *numbers in rows}


def look_at(csrc: Path, folder: Path) -> tuple[dict[str, Source], dict[tuple[str, str, str], list[int]]]:
    """Finds the costs of one state of the sources: of each .cu file by its name, and the launches."""
    folder.mkdir()
    sources = sorted((csrc / "cuda").glob("*.cu"))
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda source: compiled(source, csrc / "include", folder), sources))
    return {source.stem: result for source, result in zip(sources, made, strict=True)}, launches(csrc, folder)


def extracted(revision: str, folder: Path) -> Path:
    """Extracts the sources of a revision into `folder`, and returns their `csrc`.

    `launch.cuh` is that of the working tree, as the emulation needs it to start kernels.
    """
    archive = folder / "csrc.tar"
    with archive.open("wb") as file:
        subprocess.run(["git", "archive", revision, "csrc"], cwd=ROOT, stdout=file, check=True)
    run("tar", "xf", archive, "-C", folder)
    shutil.copy(ROOT / "csrc/cuda/launch.cuh", folder / "csrc/cuda/launch.cuh")
    return folder / "csrc"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Formats a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def change(before: object, now: object) -> str:
    """Formats a cell: "before → now", or `now` alone if nothing changed or there is no earlier value. None is a value that is not there."""
    if now is None:
        now = "" if before is None else "none"
    return str(now) if before is None or before == now else f"{before} → {now}"


def registers_page(old: dict[str, Source], now: dict[str, Source]) -> str:
    """Formats the section on registers and spills."""
    rows = []
    for stem, source in now.items():
        before = old.get(stem, Source()).registers
        for kernel in dict.fromkeys(kernel for kernel, _ in source.registers):
            cells = [change(before.get((kernel, d)), source.registers.get((kernel, d))) for d in DTYPES.values()]
            rows.append([stem, kernel, *cells])
    spilled = [sum(source.spills for source in state.values()) if state else None for state in (old, now)]
    return f"{table(['source', 'kernel', *DTYPES.values()], rows)}\n\nBytes that spill to memory: {change(*spilled)}."


def instructions_page(old: dict[str, Source], now: dict[str, Source]) -> str:
    """Formats the section on instructions per similarity."""
    earlier = {key: value for source in old.values() for key, value in source.instructions.items()}
    rows = []
    for source in now.values():
        for (op, dtype), value in sorted(source.instructions.items()):
            before = earlier.get((op.split(",")[0], dtype))
            rows.append([op, dtype, change(None if before is None else f"{before:.0f}", f"{value:.0f}")])
    return table(["op", "dtype", "instructions"], rows)


def launches_page(old: dict[tuple[str, str, str], list[int]], now: dict[tuple[str, str, str], list[int]]) -> str:
    """Formats the section on launches per call."""
    rows = []
    for key, numbers in now.items():
        before = old.get(key)
        pairs = zip([*before, sum(before)] if before else [None] * 4, [*numbers, sum(numbers)], strict=True)
        rows.append([*key, *(change(*pair) for pair in pairs)])
    return table(["op", "sizes", "dtype", "kernels", "products", "memsets", "all"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", metavar="REVISION", help="git revision to compare with")
    given = parser.parse_args()
    # The wheel puts cuobjdump here.
    os.environ["PATH"] += os.pathsep + str(Path(sysconfig.get_path("purelib"), "nvidia/cu13/bin"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        now, launched = look_at(ROOT / "csrc", folder / "now")
        old: dict[str, Source] = {}
        launched_before: dict[tuple[str, str, str], list[int]] = {}
        if given.before:
            old, launched_before = look_at(extracted(given.before, folder), folder / "before")
    arrow = f", `{given.before}` → now" if given.before else ""
    print("# CUDA kernels, before a GPU has run them\n")
    print(f"`{' '.join(['python scripts/cuda_table.py', *sys.argv[1:]])}`; sm_{ARCHITECTURE}.\n")
    print(f"## Registers of a thread, the most of a kernel's forms{arrow}\n")
    print(registers_page(old, now))
    if any(source.instructions for source in now.values()):
        print(f"\n## Instructions of a similarity in the kernels between the products{arrow}\n")
        print(
            'Both passes of a kernel, counted in its loops. "Sharpness" is s/τ for distillation, s for the dual loss, 1/τ for drift.\n'
        )
        print(instructions_page(old, now))
    print(f"\n## Launches of a call with all gradients{arrow}\n")
    print(launches_page(launched_before, launched))


if __name__ == "__main__":
    main()
