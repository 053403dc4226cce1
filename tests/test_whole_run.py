"""benchmarks.whole_run, the step `train` of benchmarks/run_gpu.sh: a call that is stopped loses no task, and its numbers stay right."""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from segp_ext.method.training_state import TrainingState

sys.path.append(str(Path(__file__).parents[1]))

from benchmarks import harness, whole_run

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


@pytest.mark.slow
def test_a_task_that_was_stopped_is_timed_whole_in_the_next_call(tmp_path, monkeypatch):
    """Its anchors are made again: times without them would stand beside the operations of all passes."""
    monkeypatch.setenv("SEGP_EXT_RESULTS", str(tmp_path))
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    given = argparse.Namespace(device="cpu", precision="fp32", quick=True)
    original, taken = TrainingState.step, []

    def stopped(self):
        original(self)
        taken.append(self)
        if len(taken) == 4:  # the second of three steps of the second task
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingState, "step", stopped)
    with pytest.raises(KeyboardInterrupt):
        whole_run.measure(given, tmp_path / "kept")
    whole_run.measure(given, tmp_path / "kept")
    with (tmp_path / "whole_run.csv").open(newline="") as file:
        phases = {row["phase"] for row in csv.DictReader(file) if row["task"] == "2"}
    assert {"anchors", "training"} <= phases


def test_operations_count_every_image_once_an_epoch():
    """The last batch of an epoch is smaller, and images held back train nothing."""
    one = whole_run.Operations(image=1, prompt=0, pixels=0)
    settings = whole_run.Config()
    settings.training.batch_size, settings.training.epochs = 16, 2
    learnt = whole_run.TaskReport(["a"], 44, steps=6, held_back=4)
    assert whole_run.operations_of(learnt, 1, settings, one)["training"] == 2 * 40
    learnt = whole_run.TaskReport(["a"], 44, held_back=4)
    assert whole_run.operations_of(learnt, 1, settings, one)["training"] == 0
