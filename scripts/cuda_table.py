"""What the CUDA kernels cost before any GPU runs them, beside an earlier revision, as a Markdown page.

python scripts/cuda_table.py [--before REVISION] > benchmarks/results/cuda_table.md

Needs nvcc and a C++ compiler; cuobjdump too (pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm) for the count of instructions.
Nothing is run on a GPU. Launches are counted by running the host code with kernels that do nothing.
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
"""The kernels that go through every similarity, and their ops."""
NUMBERS_AT_A_TIME = 4  # of a thread's step through a row, in all of them


@dataclass
class Source:
    """One .cu file, compiled."""

    registers: dict[tuple[str, str], int] = field(
        default_factory=dict
    )  # the most of a kernel's forms, by kernel and dtype
    spills: int = 0
    instructions: dict[tuple[str, str], float] = field(default_factory=dict)  # of a similarity, by kernel and dtype


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command[:3]))} … failed:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def dtype_of(name: str) -> str:
    """The dtype of a kernel from its demangled name."""
    first = re.search(r"_kernel<([\w:]+)", name)
    return DTYPES.get(first[1], first[1]) if first else "?"


def loops(assembly: str) -> list[list[str]]:
    """The bodies of a kernel's innermost loops: what lies between a branch backwards and its target."""
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
    """Instructions that a kernel spends on one similarity: of its loops that raise two to a power, but for those over warps' shares."""
    bodies = [
        body
        for body in loops(assembly)
        if any("MUFU.EX2" in text for text in body) and not any("LDS" in text for text in body)
    ]
    return sum(len(body) for body in bodies) / NUMBERS_AT_A_TIME


def compiled(source: Path, include: Path, folder: Path) -> Source:
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
    return subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True).stdout


def launches(csrc: Path, folder: Path) -> dict[tuple[str, str, str], list[int]]:
    """Kernels, products and memsets of a call, by op, sizes and dtype."""
    program = folder / "count_launches"
    run("c++", "-std=c++20", "-O1", "-w", "-DSEGP_EMULATED_CUDA=1", f"-I{EMULATION}", f"-I{csrc}/include",
        EMULATION / "count_launches.cpp", "-x", "c++", *sorted((csrc / "cuda").glob("*.cu")), "-o", program)  # fmt: skip
    rows = (line.split("\t") for line in run(program).splitlines())
    return {(op, sizes, dtype): [int(n) for n in numbers] for op, sizes, dtype, *numbers in rows}


def look_at(csrc: Path, folder: Path) -> tuple[dict[str, Source], dict[tuple[str, str, str], list[int]]]:
    """Everything about one state of the sources."""
    folder.mkdir()
    sources = sorted((csrc / "cuda").glob("*.cu"))
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda source: compiled(source, csrc / "include", folder), sources))
    return {source.stem: result for source, result in zip(sources, made, strict=True)}, launches(csrc, folder)


def extracted(revision: str, folder: Path) -> Path:
    """The sources of a revision; kernels are started as they are now, which the emulation needs."""
    archive = folder / "csrc.tar"
    with archive.open("wb") as file:
        subprocess.run(["git", "archive", revision, "csrc"], cwd=ROOT, stdout=file, check=True)
    run("tar", "xf", archive, "-C", folder)
    shutil.copy(ROOT / "csrc/cuda/launch.cuh", folder / "csrc/cuda/launch.cuh")
    return folder / "csrc"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def change(before: object, now: object) -> str:
    """Two cells in one."""
    return str(now) if before is None or before == now else f"{before} → {now}"


def registers_page(old: dict[str, Source], now: dict[str, Source]) -> str:
    rows = []
    for stem, source in now.items():
        before = old.get(stem, Source()).registers
        for kernel in dict.fromkeys(kernel for kernel, _ in source.registers):
            cells = [change(before.get((kernel, d)), source.registers.get((kernel, d), "")) for d in DTYPES.values()]
            rows.append([stem, kernel, *cells])
    spilled = [sum(source.spills for source in state.values()) if state else None for state in (old, now)]
    return f"{table(['source', 'kernel', *DTYPES.values()], rows)}\n\nBytes that spill to memory: {change(*spilled)}."


def instructions_page(old: dict[str, Source], now: dict[str, Source]) -> str:
    earlier = {key: value for source in old.values() for key, value in source.instructions.items()}
    rows = []
    for source in now.values():
        for (op, dtype), value in sorted(source.instructions.items()):
            before = earlier.get((op.split(",")[0], dtype))
            rows.append([op, dtype, change(None if before is None else f"{before:.0f}", f"{value:.0f}")])
    return table(["op", "dtype", "instructions"], rows)


def launches_page(old: dict[tuple[str, str, str], list[int]], now: dict[tuple[str, str, str], list[int]]) -> str:
    rows = []
    for key, numbers in now.items():
        before = old.get(key)
        pairs = zip([*before, sum(before)] if before else [None] * 4, [*numbers, sum(numbers)], strict=True)
        rows.append([*key, *(change(*pair) for pair in pairs)])
    return table(["op", "sizes", "dtype", "kernels", "products", "memsets", "all"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", metavar="REVISION", help="a revision to compare with")
    given = parser.parse_args()
    os.environ["PATH"] += os.pathsep + str(Path(sysconfig.get_path("purelib"), "nvidia/cu13/bin"))  # cuobjdump's wheel
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
