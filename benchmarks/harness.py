"""Measures candidates against each other in turns, so that a machine whose speed drifts treats all alike.

Callers assert correctness before they time anything. A timing holds the median of many rounds and its 20th and 80th percentiles. Results
are printed as an aligned table and appended to `benchmarks/results/<name>.csv`, row by row.
"""

from __future__ import annotations

import csv
import datetime
import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import segp_ext
from segp_ext.report.drawing import drawing

RESULTS = Path(os.environ.get("SEGP_EXT_RESULTS", Path(__file__).parent / "results"))
"""Folder of tables and plots: `SEGP_EXT_RESULTS` if the environment has it, else the folder of the committed results."""


@dataclass(frozen=True)
class Candidate:
    """One way to do the job that a benchmark compares.

    Attributes:
        name: its name in the table.
        run: does the job once.
    """

    name: str
    run: Callable[[], object]


@dataclass(frozen=True)
class Timing:
    """Seconds per call, or ratios of two timings; one value per round.

    Attributes:
        rounds: the values, in seconds or as ratios.
    """

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the rounds."""
        return float(np.percentile(self.rounds, 50))

    @property
    def p20(self) -> float:
        """20th percentile of the rounds."""
        return float(np.percentile(self.rounds, 20))

    @property
    def p80(self) -> float:
        """80th percentile of the rounds."""
        return float(np.percentile(self.rounds, 80))

    def over(self, other: Timing) -> Timing:
        """Divides by another timing round by round, so that whatever slows a whole round down cancels out."""
        return Timing(tuple(a / b for a, b in zip(self.rounds, other.rounds, strict=True)))


def processor_name() -> str:
    """Returns the processor's name as the machine tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def device_name(device: str) -> str:
    """Names the GPU, or the processor with torch's number of threads and the way in which they wait.

    OpenMP's threads spin while they wait, by default. On a shared machine they lose whole time slices at every barrier, in every candidate.
    Set OMP_WAIT_POLICY=passive there.
    """
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    waiting = os.environ.get("OMP_WAIT_POLICY", "")
    return f"{processor_name()}, {torch.get_num_threads()} threads{waiting and f' ({waiting.lower()} waiting)'}"


def commit() -> str:
    """Names the checked-out commit, with "-dirty" if tracked files other than results have changed; "none" outside a repository."""

    def git(*arguments: str) -> str:
        try:
            done = subprocess.run(["git", *arguments], cwd=Path(__file__).parents[1], capture_output=True, text=True)
        except OSError:  # no git here
            return ""
        return done.stdout.strip()

    changes = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results")
    return (git("describe", "--always") or "none") + ("-dirty" if changes else "")


def print_setting(title: str, device: str) -> None:
    """Prints a title and everything that the numbers below it depend on: device, versions, commit and ops path."""
    info = segp_ext.build_info()
    print(title)
    print(f"  device   {device_name(device)}")
    print(f"  torch    {torch.__version__}, CUDA {torch.version.cuda}, Python {platform.python_version()}")
    print(f"  segp_ext {info['version']} at {commit()}, ops path {info['ops_path']}", info["reason"])


def _once(candidate: Candidate, repeats: int, device: str) -> float:
    """Measures the mean seconds per call over `repeats` calls in a row."""
    if device.startswith("cuda"):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        for _ in range(repeats):
            candidate.run()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1e3 / repeats
    start = time.perf_counter()
    for _ in range(repeats):
        candidate.run()
    return (time.perf_counter() - start) / repeats


def measure(candidates: Sequence[Candidate], device: str, budget: float = 4.0) -> dict[str, Timing]:
    """Times all candidates in turns for about `budget` seconds, and returns their timings by name.

    A warm-up comes first. It is long enough to touch all memory once: on a virtual machine the first touch of a page costs more than
    everything measured here.
    """
    for candidate in candidates:
        start = time.perf_counter()
        while time.perf_counter() - start < budget / 10 / len(candidates) + 0.05:
            candidate.run()
    single = {c.name: _once(c, 1, device) for c in candidates}
    single = {c.name: min([single[c.name], *(_once(c, 1, device) for _ in range(2 if single[c.name] < 1 else 0))])
              for c in candidates}  # fmt: skip
    # A short call is repeated, so that reading the clock costs next to nothing beside it.
    repeats = {name: max(1, min(1000, int(1e-3 / max(seconds, 1e-7)))) for name, seconds in single.items()}
    one_round = sum(single[c.name] * repeats[c.name] for c in candidates)
    rounds = int(np.clip(budget / max(one_round, 1e-6), 7 if one_round < 5 else 3, 200))
    samples: dict[str, list[float]] = {c.name: [] for c in candidates}
    for _ in range(rounds):
        for candidate in candidates:
            samples[candidate.name].append(_once(candidate, repeats[candidate.name], device))
    return {name: Timing(tuple(values)) for name, values in samples.items()}


def checked(candidates: Sequence[Candidate], check: Callable[[Candidate], object]) -> list[Candidate]:
    """Checks every candidate before it is timed.

    Ours and its eager twin must pass. Another one that raises is left out, with a line that says why: a compiler that fails on one machine
    must not end the whole benchmark.

    Args:
        candidates: the candidates of one case.
        check: runs a candidate and raises if its result is wrong.

    Returns:
        The candidates to time.
    """
    kept = []
    for candidate in candidates:
        try:
            check(candidate)
        except Exception as error:
            if candidate.name.startswith(("fused", "eager")):
                raise
            said = next(iter(str(error).split("\n")), "")[:100]
            print(f"  {candidate.name} is left out: {type(error).__name__}: {said}", flush=True)
        else:
            kept.append(candidate)
    return kept


def peak_bytes(function: Callable[[], object], device: str) -> int | None:
    """Measures the bytes that a call adds to the process's memory at its peak; None where the system does not tell.

    The call's results count. On the CPU this is resident memory. The C library may keep small arrays there from one call to the next; it
    gives large ones back.
    """
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        function()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    status = Path("/proc/self/status")
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before = _status_bytes(status, "VmRSS")
        function()
        return max(0, _status_bytes(status, "VmHWM") - before)
    except OSError:
        return None


def _status_bytes(status: Path, field: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


class Table:
    """A table that prints each row in aligned columns, and appends it to `benchmarks/results/<name>.csv` at once.

    A benchmark that is stopped keeps the rows that it has measured.

    Args:
        name: name of the CSV file and of the plot, without ending.
        device: torch device.
        columns: title and width of each column.
        keep: whether to write the rows. They are always written where the environment sets `SEGP_EXT_RESULTS`.
    """

    def __init__(self, name: str, device: str, columns: Sequence[tuple[str, int]], *, keep: bool) -> None:
        self.name = name
        self.device = device
        self.columns = columns
        self.rows: list[list[str]] = []
        self.csv = RESULTS / f"{name}.csv" if keep or "SEGP_EXT_RESULTS" in os.environ else None
        self._stamp = [datetime.date.today().isoformat(), commit(), device_name(device), f"torch {torch.__version__}"]
        if self.csv is not None and not self.csv.is_file():
            self.csv.parent.mkdir(parents=True, exist_ok=True)
            self._write(["date", "commit", "device", "torch", *(title for title, _ in columns)])
        print("  ".join(f"{title:>{width}}" for title, width in columns))

    def add(self, *cells: object) -> None:
        """Prints one row, and writes it with date, commit, device and torch's version."""
        texts = [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in cells]
        print("  ".join(f"{text:>{width}}" for text, (_, width) in zip(texts, self.columns, strict=True)), flush=True)
        self.rows.append(texts)
        self._write([*self._stamp, *texts])

    def _write(self, row: Sequence[str]) -> None:
        if self.csv is not None:
            with self.csv.open("a", newline="") as file:
                csv.writer(file).writerow(row)

    @drawing()
    def plot(self, cases: Sequence[str], value: str, label: str) -> Path:
        """Draws one bar per row, grouped by case, on a logarithmic axis, as `benchmarks/results/<name>.png`.

        Args:
            cases: titles of the columns that name a case together.
            value: title of the column to draw; it holds a number in every row.
            label: label of the axis.

        Returns:
            The path of the picture.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        titles = [title for title, _ in self.columns]
        rows = [dict(zip(titles, row, strict=True)) for row in self.rows]
        groups = list(dict.fromkeys(" ".join(row[c] for c in cases) for row in rows))
        names = list(dict.fromkeys(row["candidate"] for row in rows))
        figure = Figure(figsize=(8, 1.2 + 0.17 * len(rows)), layout="constrained")
        axes = figure.subplots()
        height = 0.8 / len(names)
        for index, name in enumerate(names):
            mine = [r for r in rows if r["candidate"] == name]
            places = [
                groups.index(" ".join(r[c] for c in cases)) + height * (index - (len(names) - 1) / 2) for r in mine
            ]
            axes.barh(places, [float(r[value]) for r in mine], height, label=name)
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")  # labels are drawn without mathtext, which powers would need
        axes.set_yticks(range(len(groups)), groups)
        axes.invert_yaxis()
        axes.set_xlabel(label)
        axes.set_title(f"{self.name}: {device_name(self.device)}", fontsize="medium")
        axes.grid(axis="x", alpha=0.3)
        figure.legend(loc="outside lower center", ncols=len(names), fontsize="small")
        path = RESULTS / f"{self.name}.png"
        FigureCanvasAgg(figure).print_figure(path, dpi=110)
        return path
