"""Writes a Markdown page about the results of `benchmarks/run_gpu.sh`: `python scripts/gpu_page.py OUT > OUT/results.md`.

The page begins with the outcome of each step. A table for each op follows. It holds the op's time divided by its floor, which is its matrix
products alone or a stream of its memory. It also holds the time of each other candidate divided by the op's. Where the op loses, that ratio
is below 1 and bold. The script needs nothing but Python.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from pathlib import Path

STAMP = ("date", "commit", "device", "torch")
OPS = ("geometry_distill", "distill"), ("dual_target_loss", "dual_target"), ("prototype_drift", "drift"), \
      ("prototype_transfer", "transfer"), ("dpgd_step", "dpgd")  # fmt: skip
"""Each op, and the name of its benchmark's CSV file."""
FLOORS = ("GEMMs alone", "stream")
Row = dict[str, str]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Formats a Markdown table."""
    head = list(head)
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rows])


def read(path: Path) -> list[Row]:
    """Reads a benchmark's rows, and leaves out a row that a kill cut off; no rows if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if all(value is not None for value in row.values())]


def op_table(rows: list[Row]) -> str:
    """Formats an op's table: a line per case and fused candidate, with its time, and each other candidate's time divided by it."""
    columns = list(rows[0])
    unit = "us" if "us" in columns else "ms"
    sizes = columns[len(STAMP) : columns.index("candidate")]
    cases: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:  # where a case was measured again, the last row counts
        cases.setdefault(tuple(row[c] for c in sizes), {})[row["candidate"]] = row
    names = list(dict.fromkeys(row["candidate"] for row in rows))
    fused = [name for name in names if name.startswith("fused")]
    floor = next((name for name in names if name in FLOORS), None)
    others = [name for name in names if name not in fused and name != floor]
    lines = []
    for case, measured in cases.items():
        for name in fused:
            if name not in measured:
                continue
            mine = float(measured[name][unit])
            cells = [f"{mine / float(measured[floor][unit]):.2f}" if floor in measured else ""]
            for other in others:
                ratio = float(measured[other][unit]) / mine if other in measured else None
                cells.append("" if ratio is None else f"{ratio:.2f}" if ratio >= 1 else f"**{ratio:.2f}**")
            lines.append([*case, name, f"{mine:.3g}", *cells, measured[name].get("peak MB", "")])
    head = [*sizes, "kernel", unit, f"fused / {floor or 'floor'}", *(f"{other} / fused" for other in others), "peak MB"]
    return table(head, lines)


def plain_table(rows: list[Row], first: str) -> str:
    """Formats a benchmark's rows without date, commit, device and torch.

    Args:
        rows: the rows; where one was measured again, the last counts.
        first: the first column that was measured; the columns before it tell rows apart.
    """
    columns = [c for c in rows[0] if c not in STAMP]
    keys = columns[: columns.index(first)]
    last = {tuple(row[c] for c in keys): row for row in rows}
    return table(columns, [[row[c] for c in columns] for row in last.values()])


def page(folder: Path) -> str:
    """Makes the page from the files in `folder`, in Markdown."""
    parts = ["# Measured by `benchmarks/run_gpu.sh`"]
    summary = folder / "summary.txt"
    if summary.is_file():
        parts.append(f"How the steps of `benchmarks/run_gpu.sh` went:\n\n```\n{summary.read_text().rstrip()}\n```")
    for op, name in OPS:
        if rows := read(folder / f"{name}.csv"):
            parts.append(f"## `{op}`\n\n{stamp(rows)}\n\n{op_table(rows)}")
    for title, name, first in (
        ("A call on the smallest sizes", "overhead", "us"),
        ("Phases of ViT-B/16 against plain passes", "end_to_end", "phase s"),
        ("A whole protocol on made data", "whole_run", "seconds"),
    ):
        if rows := read(folder / f"{name}.csv"):
            parts.append(f"## {title}\n\n{stamp(rows)}\n\n{plain_table(rows, first)}")
    return "\n\n".join(parts) + "\n"


def stamp(rows: list[Row]) -> str:
    """Lists date, commit, device and torch of the rows; several lists, separated by "; ", if rows differ."""
    return "; ".join(dict.fromkeys(", ".join(row[c] for c in STAMP) for row in rows))


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    print(page(Path(sys.argv[1])), end="")
