"""Results that no run has found, for tests of what is done with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segp_ext.config import PATHS
from segp_ext.report.result import PathResult, Row, RunResult, TaskReport
from segp_ext.runtime.timing import Phase


def task(steps: int, seconds: float) -> TaskReport:
    """A report of a task of one class and ten images."""
    return TaskReport(["a"], 10, steps, phases={"training": Phase(seconds)} if steps else {})


def made(last: float, drop: float, **changed: Any) -> RunResult:
    """A finished run of two tasks by a method m: its Last and the first task's drop, the same on all paths; global rows on text."""
    paths = {path: PathResult([[0.9], [0.9 - drop, last]], [0.9, last], [None, None]) for path in PATHS}
    paths["text"].global_matrix = [[0.5, 0.4], [0.9, 0.5], [0.9 - drop, last]]
    paths["text"].global_pooled = [0.45, 0.7, last]
    method = changed.get("method", "m")
    values = {
        "name": "made", "status": "finished", "message": "", "method": method, "seed": 1, "settings": {"inference": {"path": "dual"}},
        "protocol": {"id": "p"}, "scores": [Row(method, path, False, scores) for path, scores in paths.items()], "retention": {},
        "prototype_distance": [], "tasks": [task(20, 5.0), task(20, 5.0)], "phases": {"training": Phase(10.0), "baselines": Phase(2.0)},
        "passes": {}, "device": "cpu", "processes": 1, "threads": 1, "versions": {"torch": "2", "segp_ext": "0"}, "build": {}, "code": {},
        "started": "now", "trained_parameters": 3_440_640,
    }  # fmt: skip
    return RunResult(**(values | changed))


def write(folder: Path, result: RunResult) -> None:
    """As a run's folder has it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_bytes(result.to_json())


def keep(run: RunResult, retention: dict[str, list[float]]) -> None:
    """Gives a made result accuracies on held-out data sets of 1,000 images and ten classes."""
    run.retention = retention
    run.protocol = {**run.protocol, "held_out": {name: {"images": 1000, "classes": 10} for name in retention}}
