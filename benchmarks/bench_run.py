"""Times the built-in run with fused ops and with their eager twins, and checks that both find the same accuracies.

The two take turns on the same class orders. They round differently, and training amplifies that. So an accuracy may differ by a few of the
540 test images. The command fails where one differs by more than --tolerance percentage points.

    python -m benchmarks.bench_run [--orders 1 2 3] [--quick]
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout

import torch

import segp_ext
from segp_ext.report.result import RunResult

from .harness import Table, print_setting

SHOWN = ("avg", "last", "forgetting")
OPS = ("fused", "eager")


def run_once(order: int, settings: list[str]) -> RunResult:
    """Returns the result of the built-in run on one class order.

    If the run does not finish, ends the process with the run's output.
    """
    from segp_ext.run import command_line
    from segp_ext.run.run import run_config

    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(said), redirect_stderr(said):
        arguments = [
            f"--data.order={order}",
            f"--run.threads={torch.get_num_threads()}",
            f"--run.directory={folder}",
            *settings,
        ]
        result = run_config(command_line.parse(arguments), say=print)
    if result.status != "finished":
        sys.exit(f"order {order}, {' '.join(settings)}: {said.getvalue()}")
    return result


def figures(result: RunResult) -> dict[tuple[str, str], float]:
    """Returns the percentages of the run's table by (row, metric)."""
    found = {row.name: row.scores.metrics() for row in result.scores}
    return {(row, shown): 100 * (metrics[shown] or 0.0) for row, metrics in found.items() for shown in SHOWN}


def learning_seconds(result: RunResult) -> float:
    """Adds up the seconds of all phases that use the ops: all but baselines and evaluation."""
    return sum(p.wall for phase, p in result.phases.items() if phase not in ("baselines", "evaluation"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", nargs="+", type=int, default=[1, 2, 3], help="class-order seeds")
    parser.add_argument(
        "--tolerance", type=float, default=1.0, help="percentage points by which an accuracy may differ"
    )
    parser.add_argument(
        "--quick", action="store_true", help="train one epoch with one anchor step per task; write no CSV"
    )
    given = parser.parse_args()
    if segp_ext.build_info()["ops_path"] != "native":
        sys.exit(f"there are no fused ops to measure: {segp_ext.build_info()['reason']}")

    print_setting("built-in run, fused and eager ops", "cpu")
    columns = [("order", 5), ("ops", 5), ("text Last", 9), ("visual Last", 11), ("dual Last", 9), ("seconds", 8),
               ("eager s / fused s", 17), ("largest gap, points", 19)]  # fmt: skip
    table = Table("run", "cpu", columns, keep=not given.quick)
    run_once(given.orders[0], ["--training.epochs=1", "--anchors.steps=1"])  # a process's first run is slow
    apart = False
    for order in given.orders:
        settings = ["--model.device", "cpu"]
        if given.quick:
            settings += ["--training.epochs=1", "--anchors.steps=1"]
        # The first run of a pair has the cooler machine, so the two take turns at being first.
        turns = OPS if order % 2 else OPS[::-1]
        results = {}
        for ops in turns:
            results[ops] = run_once(order, [*settings, "--ops", ops])
        fused, eager = (figures(results[ops]) for ops in OPS)
        gap = max(abs(fused[cell] - eager[cell]) for cell in fused)
        apart = apart or not gap <= given.tolerance
        ratio = learning_seconds(results["eager"]) / learning_seconds(results["fused"])
        for ops in OPS:
            cells = figures(results[ops])
            last = [cells[f"segp ({path})", "last"] for path in ("text", "visual", "dual")]
            table.add(order, ops, *last, learning_seconds(results[ops]), ratio if ops == "fused" else "-",
                      f"{gap:.2f}" if ops == "fused" else "-")  # fmt: skip
    if not given.quick:
        print(f"appended to {table.name}.csv")
    if apart:
        sys.exit(f"a figure differs by more than {given.tolerance} points")


if __name__ == "__main__":
    main()
