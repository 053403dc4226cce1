"""benchmarks.whole_run, the step `train` of benchmarks/run_gpu.sh: a call that is stopped loses no task."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.whole_run", "--device=cpu", "--precision=fp32", "--quick",
               f"--directory={folder / 'kept'}"]  # fmt: skip
    environment = {**os.environ, "SEGP_EXT_RESULTS": str(folder), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_the_next_call_goes_on_and_sums_over_all_tasks(tmp_path):
    first = start(tmp_path)
    assert first.stdout is not None
    for line in first.stdout:
        if line.startswith("task 3/10"):
            first.terminate()
    assert first.wait(60) != 0
    second = start(tmp_path)
    said, _ = second.communicate(timeout=300)
    assert second.returncode == 0 and "going on after task" in said

    rows: dict[str, dict[str, dict[str, str]]] = defaultdict(dict)
    with (tmp_path / "whole_run.csv").open(newline="") as file:
        for row in csv.DictReader(file):  # tasks before the stop have their rows twice
            earlier = rows[row["phase"]].setdefault(row["task"], row)
            assert (row["seconds"], row["TFLOP"]) == (earlier["seconds"], earlier["TFLOP"])
    trained, anchors = rows["training"], rows["anchors"]
    assert list(trained) == [*map(str, range(1, 11)), "all"]
    assert list(anchors) == [*map(str, range(2, 11)), "all"], "the first task has no old classes"
    for phase in trained, anchors:
        total = phase.pop("all")
        for column in "seconds", "TFLOP":
            assert float(total[column]) == pytest.approx(sum(float(row[column]) for row in phase.values()), rel=0.02)
