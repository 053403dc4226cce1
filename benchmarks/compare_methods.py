"""Methods side by side on one scenario, over several class orders: `python -m benchmarks.compare_methods`.

A row is a method with settings that differ from the configuration's, for example "lora training.classes=new". Every row meets the same
class orders. Writes OUT.csv (one line per row, order and path) and OUT.md (mean ± standard deviation over orders).
"""

from __future__ import annotations

import argparse
import csv
import io
import multiprocessing
import statistics
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from datetime import date
from pathlib import Path

from benchmarks.harness import commit

METHOD_ROWS = [
    "segp",
    "segp text_geometry.weight=0",
    "visual-pgd",
    "text-pgd",
    "noise",
    "seeds",
    "lwf",
    "lwf training.classes=new",
    "lora",
    "lora training.classes=new",
    # At four times the learning rate everything is forgotten faster, and methods lie further apart.
    "segp training.learning_rate=3e-3",
    "lwf training.learning_rate=3e-3",
    "lora training.learning_rate=3e-3",
]
METRICS = ("avg", "last", "forgetting", "bwt", "fwt")


def run_one(row: str, order: int, settings: list[str], threads: int) -> tuple[dict, str]:
    """Runs one row on one class order; returns its result and what it said."""
    from segp_ext import command_line, train

    method, *changes = row.split()
    with tempfile.TemporaryDirectory() as folder:
        arguments = [*settings, "--method", method, f"--data.order={order}"]
        arguments += [f"--{change}" for change in changes]
        arguments += [f"--run.threads={threads}", f"--run.directory={folder}", "--run.name=run"]
        said = io.StringIO()
        with redirect_stdout(said), redirect_stderr(said):
            result = train.Run(command_line.parse(arguments)).execute()
    return result, said.getvalue()


def lines_of(result: dict, row: str, order: int) -> list[dict]:
    """One CSV line per scored path: the two frozen baselines once per order, the method's three paths."""
    method = row.split()[0]
    lines = []
    for name, scores in result["scores"].items():
        own = name.startswith(f"{method} (")
        label = row if own else name
        path = name.removeprefix(f"{method} (").rstrip(")") if own else {"zero-shot": "text"}.get(name, "visual")
        lines.append(
            {
                "row": label,
                "path": path,
                "order": order,
                **{metric: scores[metric] for metric in METRICS},
                "seconds": sum(p["wall"] for phase, p in result["phases"].items() if phase != "baselines") if own else None,
                "protocol": result["protocol"]["id"],
                "threads": result["threads"],
                "torch": result["versions"]["torch"],
                "date": date.today().isoformat(),
                "commit": commit(),
            }
        )
    return lines


def spread(values: list[float]) -> str:
    """Mean ± sample standard deviation in percent."""
    mean = 100 * statistics.fmean(values)
    return f"{mean:.1f} ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else f"{mean:.1f}"


def markdown(lines: list[dict], command: str) -> str:
    """The table: one row per method and path."""
    groups: dict[tuple[str, str], list[dict]] = {}
    for line in lines:
        groups.setdefault((line["row"], line["path"]), []).append(line)
    orders = sorted({line["order"] for line in lines})
    text = [
        f"`{command}`",
        "",
        f"Class orders {', '.join(map(str, orders))}; percent, mean ± standard deviation over orders.",
        "",
    ]
    text += [
        "| method | path | Avg | Last | Forgetting | BWT | FWT | seconds |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for (row, path), members in groups.items():
        cells = []
        for metric in METRICS:
            values = [m[metric] for m in members]
            cells.append("–" if None in values else spread(values))
        seconds = [m["seconds"] for m in members]
        cells.append("–" if None in seconds else f"{statistics.fmean(seconds):.0f}")
        text.append(f"| {row} | {path} | " + " | ".join(cells) + " |")
    return "\n".join(text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare_methods", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--rows", nargs="+", default=METHOD_ROWS, help="methods, each with settings that differ, in one text"
    )
    parser.add_argument("--orders", nargs="+", type=int, default=[1, 2, 3], help="class-order seeds")
    parser.add_argument("--out", type=Path, help="file name without ending; nothing is written if it is missing")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each run")
    parser.add_argument(
        "settings", nargs="*", help="settings for every run, after --, as python -m segp_ext.train takes them"
    )
    options = parser.parse_args()

    lines: list[dict] = []
    seen: set[tuple] = set()
    with ProcessPoolExecutor(options.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [
            (row, order, pool.submit(run_one, row, order, options.settings, options.threads))
            for row in options.rows
            for order in options.orders
        ]
        for row, order, job in jobs:
            result, said = job.result()
            if result["status"] != "finished":
                sys.exit(f"{row}, order {order}: {said}")
            for line in lines_of(result, row, order):
                key = (line["row"], line["path"], order)
                if key not in seen:
                    seen.add(key)
                    lines.append(line)
            last = {line["path"]: line["last"] for line in lines if line["row"] == row and line["order"] == order}
            print(f"{row}, order {order}: Last " + ", ".join(f"{p} {100 * v:.1f}" for p, v in last.items()), flush=True)

    table = markdown(
        lines, "python -m benchmarks.compare_methods " + " ".join(f"'{a}'" if " " in a else a for a in sys.argv[1:])
    )
    print(f"\n{table}")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.with_suffix(".md").write_text(table)
        with options.out.with_suffix(".csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)


if __name__ == "__main__":
    main()
