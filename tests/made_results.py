"""Makes results without a run, for tests of the code that reads, compares and shows results."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from segp_ext.config import PATHS
from segp_ext.report.confusion import Confusion
from segp_ext.report.result import PathResult, Row, RunResult, TaskReport
from segp_ext.runtime.timing import Phase


def task(steps: int, seconds: float) -> TaskReport:
    """Makes the report of a task of one class and ten images, with seconds of training unless `steps` is 0."""
    return TaskReport(["a"], 10, steps, phases={"training": Phase(seconds)} if steps else {})


def made(last: float, drop: float, **changed: Any) -> RunResult:
    """Makes the result of a finished run of two tasks by a method m, with the same accuracies on all paths, and global ones on text.

    Args:
        last: accuracy of the last task, and of all classes, after the last task.
        drop: how far the first task's accuracy falls by then.
        **changed: values of `RunResult` to replace.
    """
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
    """Writes a result to a folder, as a run does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_bytes(result.to_json())


def keep(run: RunResult, retention: dict[str, list[float]]) -> None:
    """Gives a made result accuracies on held-out data sets of 1,000 images and ten classes."""
    run.retention = retention
    run.protocol = {**run.protocol, "held_out": {name: {"images": 1000, "classes": 10} for name in retention}}


def made_run(tasks: int, per_task: int, method: str = "segp", seed: int = 1, name: str = "class") -> RunResult:
    """Makes the result of a finished run with every entry that a result can have.

    There are 20 test images per class. Method and seed draw the numbers.

    Args:
        tasks: number of tasks.
        per_task: classes per task.
        method: name of the method.
        seed: seed of the run.
        name: first word of the class names.
    """
    draws = random.Random(f"{method} {seed}")
    names = [f"{name} {place}" for place in range(tasks * per_task)]
    rows = [
        ("zero-shot", "text", True, 0.6),
        ("frozen prototypes", "visual", True, 0.75),
        ("frozen rda", "visual", True, 0.85),
    ]
    rows += [(method, "text", False, 0.7), (method, "visual", False, 0.84), (method, "dual", False, 0.86)]
    scores = []
    for row, path, baseline, level in rows:
        scores.append(Row(row, path, baseline, _made_path(tasks, per_task, level, path == "text", draws)))  # type: ignore[arg-type]
    parts = [names[first : first + per_task] for first in range(0, len(names), per_task)]
    reports = [TaskReport(part, 50 * per_task, 20, 5, {"training": Phase(5.0, 4.0)}, {"acgd": 0.1}) for part in parts]
    held_out = {name: {"images": 1000, "classes": 10} for name in ("flowers", "noise")}
    return made(
        0.5, 0.1, name=f"{method}-{seed}", message=f"All {tasks} tasks learnt.", method=method, seed=seed, scores=scores, tasks=reports,
        protocol={"id": f"made-{tasks}x{per_task}", "data": "made", "tasks": parts, "held_out": held_out},
        retention={"flowers": [0.7 - 0.01 * task for task in range(tasks + 1)], "noise": [0.1] * (tasks + 1)},
        prototype_distance=[[0.02 * task, 0.01 * task] for task in range(1, tasks)],
        phases={"baselines": Phase(3.0, 2.0), "training": Phase(50.0, 45.0), "evaluation": Phase(4.0, 3.5)}, class_names=names,
    )  # fmt: skip


def _made_path(tasks: int, per_task: int, level: float, measures_global: bool, draws: random.Random) -> PathResult:
    """Makes a path's accuracies, which fall from task to task, and its confusions after the last task."""
    confusion, last = _made_confusion(tasks, per_task, level, draws)
    matrix = [[min(1.0, last[j] + 0.02 * (tasks - 1 - i)) for j in range(i + 1)] for i in range(tasks)]
    pooled = [sum(row) / len(row) for row in matrix]
    result = PathResult(matrix, pooled, [None] * tasks, confusion=confusion)
    if measures_global:
        result.next_task = [*(level for _ in range(tasks - 1)), None]
        result.global_matrix = [[0.5 * value for value in last], *([*row, *last[len(row) :]] for row in matrix)]
        result.global_pooled = [sum(row) / tasks for row in result.global_matrix]
    return result


def _made_confusion(tasks: int, per_task: int, level: float, draws: random.Random) -> tuple[Confusion, list[float]]:
    """Draws the confusion counts of 20 images per class; returns them, and each task's accuracy by these counts."""
    count, images = tasks * per_task, 20
    confusion, right = [], [0] * tasks
    for true in range(count):
        guesses = [true if count == 1 or draws.random() < level else draws.randrange(count) for _ in range(images)]
        confusion += [[true, guess, guesses.count(guess)] for guess in sorted({*guesses})]
        right[true // per_task] += guesses.count(true)
    return confusion, [hits / (images * per_task) for hits in right]
