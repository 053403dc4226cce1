"""The result of a run: `RunResult` holds all that result.json holds, writes it, reads it and checks it.

Accuracies are fractions and times are seconds. `scripts/result_page.py` makes docs/result.md from these classes.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from segp_ext.config import ScorePath, fits
from segp_ext.report import metrics
from segp_ext.report.confusion import Confusion, class_accuracy, confusion_fits
from segp_ext.report.typed_json import WrongEntryError, in_words, plain, typed
from segp_ext.runtime.timing import Phase
from segp_ext.storage import sealed

WholeSetting = Literal["global", "task-known"]
"""Settings of evaluation in which every task has an accuracy before it is learnt."""
Status = Literal["running", "finished", "interrupted", "failed"]

FORMAT = 1
"""Format of result.json. A reader refuses every other format."""
_THREE_NUMBERS = re.compile(rb"\[\n +(\d+),\n +(\d+),\n +(\d+)\n +\]")
"""A list of three whole numbers as indented JSON has it. JSON strings hold no line breaks, so none of them matches."""


@dataclass
class PathResult:
    """Accuracies of one path over a run. `segp_ext.report.metrics` defines R, A and the metrics.

    Attributes:
        matrix: R, a lower triangle: row i holds tasks 0 to i.
        pooled: A_i.
        next_task: zero-shot accuracy on task i + 1 after task i, over that task's classes. None where it is not defined, and for a
            task of one class, which is always right.
        global_matrix: the global R, of all tasks over the classes of all tasks; row i comes after i tasks. Empty if not measured.
        global_pooled: the global A_i, over all test images, for the same rows.
        confusion: [true class, predicted class, number of test images] after the last task learnt so far, over all classes seen.
            Empty before the first task, and in results of versions that did not count it.
        whole: accuracy on all tasks, by setting; row i comes after i tasks. global: over the class names of all tasks. task-known: over
            the names of each image's own task. Names that are not learnt yet are scored by text alone. Empty if not measured.
        calibration_error: expected calibration error over all test images of the classes seen, after each task: [without temperature,
            with it]. Empty for a learner that held no images back.
    """

    matrix: list[list[float]] = field(default_factory=list)
    pooled: list[float] = field(default_factory=list)
    next_task: list[float | None] = field(default_factory=list)
    global_matrix: list[list[float]] = field(default_factory=list)
    global_pooled: list[float] = field(default_factory=list)
    confusion: Confusion = field(default_factory=list)
    calibration_error: list[list[float]] = field(default_factory=list)
    whole: dict[WholeSetting, list[list[float]]] = field(default_factory=dict)

    def metrics(self) -> dict[str, float | None]:
        """Computes Avg, Last, Forgetting, BWT and FWT over seen classes."""
        return {
            "avg": metrics.average_accuracy(self.pooled),
            "last": metrics.last_accuracy(self.pooled),
            "forgetting": metrics.forgetting(self.matrix),
            "bwt": metrics.backward_transfer(self.matrix),
            "fwt": metrics.forward_transfer(self.next_task),
        }

    def global_metrics(self) -> dict[str, float | None]:
        """Computes global FWT, BWT and Forgetting."""
        return {
            "global_fwt": metrics.global_forward_transfer(self.global_matrix),
            "global_bwt": metrics.global_backward_transfer(self.global_matrix),
            "global_forgetting": metrics.global_forgetting(self.global_matrix),
        }

    def stream_metrics(self, setting: WholeSetting) -> dict[str, float | None]:
        """Computes Transfer, Avg and Last of a whole matrix."""
        rows = self.whole[setting]
        return {
            "transfer": metrics.stream_transfer(rows),
            "avg": metrics.stream_average(rows),
            "last": metrics.stream_last(rows),
        }

    def to_dict(self) -> dict[str, Any]:
        """Gives raw numbers and metrics, for JSON. Global numbers and confusions stand there only if they were measured."""
        found: dict[str, Any] = {
            **(self.metrics() if self.pooled else {}),
            "A": self.pooled,
            "R": self.matrix,
            "next_task": self.next_task,
        }
        if self.global_matrix:
            found |= {**self.global_metrics(), "global_A": self.global_pooled, "global_R": self.global_matrix}
        if self.confusion:
            found |= {"class_accuracy": class_accuracy(self.confusion), "confusion": self.confusion}
        if self.whole:
            found["settings"] = {name: {**self.stream_metrics(name), "R": rows} for name, rows in self.whole.items()}
        if self.calibration_error:
            found["calibration_error"] = self.calibration_error
        return found

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> PathResult:
        """Takes the raw numbers that `to_dict` gave; missing entries stay empty."""
        made = cls(found["R"], found["A"], found["next_task"])
        made.global_matrix, made.global_pooled = found.get("global_R") or [], found.get("global_A") or []
        made.confusion, made.calibration_error = found.get("confusion") or [], found.get("calibration_error") or []
        made.whole = {name: numbers["R"] for name, numbers in found.get("settings", {}).items()}
        return made

    def fault(self, tasks: int) -> str:
        """Says which of the accuracies do not fit a run of so many tasks; empty if all fit."""

        def fractions(values: Any) -> bool:
            return isinstance(values, list) and all(isinstance(v, (int, float)) and 0 <= v <= 1 for v in values)

        def all_fractions(rows: Any) -> bool:
            return isinstance(rows, list) and all(map(fractions, rows))

        if not (fractions(self.pooled) and len(self.pooled) == tasks):
            return f"A must be {tasks} numbers from 0 to 1"
        if not (all_fractions(self.matrix) and len(self.matrix) == tasks):
            return f"R must be {tasks} rows of numbers from 0 to 1"
        errors = self.calibration_error
        if errors and not (all_fractions(errors) and [len(row) for row in errors] == [2] * tasks):
            return f"calibration_error must be {tasks} pairs of numbers from 0 to 1"
        rows = tasks + 1  # one before the first task
        for name, matrix in self.whole.items():
            same_length = all_fractions(matrix) and len({len(row) for row in matrix}) == 1
            if not (same_length and len(matrix) == rows and len(matrix[0]) >= tasks):
                return f"settings: {name}: R must be {rows} rows of one length, of numbers from 0 to 1"
        if self.global_matrix == self.global_pooled == []:
            return ""
        if not (fractions(self.global_pooled) and len(self.global_pooled) == rows):
            return f"global_A must be {rows} numbers from 0 to 1"
        same_length = all_fractions(self.global_matrix) and len({len(row) for row in self.global_matrix}) == 1
        if not (same_length and len(self.global_matrix) == rows and len(self.global_matrix[0]) >= tasks):
            return f"global_R must be {rows} rows of one length, of numbers from 0 to 1"
        return ""


@dataclass
class Row:
    """One row of a result's table: one path of the run's method, or a baseline that every run measures beside its method.

    Attributes:
        method: name of the method or the baseline.
        path: score path: text, visual or dual.
        is_baseline: whether this is zero-shot CLIP or a head on the frozen model.
        scores: accuracies of this row.
    """

    method: str
    path: ScorePath
    is_baseline: bool
    scores: PathResult

    @property
    def name(self) -> str:
        """Name for people, and the row's key in result.json. Nothing reads the parts back from it."""
        return self.method if self.is_baseline else f"{self.method} ({self.path})"

    def to_dict(self) -> dict[str, Any]:
        """Gives the row as result.json holds it."""
        return {"method": self.method, "path": self.path, "baseline": self.is_baseline, **self.scores.to_dict()}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Row:
        """Makes a row from what `to_dict` gave."""
        return cls(found["method"], found["path"], found["baseline"], PathResult.from_dict(found))


@dataclass
class TaskReport:
    """Cost and losses of learning one task.

    Attributes:
        classes: the task's class names.
        images: number of training images.
        steps: number of optimiser steps.
        anchors: number of anchors that the task was distilled on.
        phases: time per phase, in seconds.
        losses: mean of each weighted loss term over the last epoch.
        held_back: number of the images that were held back from training.
    """

    classes: list[str]
    images: int
    steps: int = 0
    anchors: int = 0
    phases: dict[str, Phase] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    held_back: int = 0


@dataclass
class Resumption:
    """A point where a stopped run went on.

    Attributes:
        after: number of tasks learnt before.
        at: date and time.
        on: name of the device.
    """

    after: int
    at: str
    on: str


@dataclass
class RunResult:
    """Findings of a run and the conditions under which it found them. docs/result.md describes each field."""

    name: Annotated[str, "name of the run's folder"]
    status: Annotated[Status, "where the run stands"]
    message: Annotated[str, "the status in a sentence, with the error if there was one"]
    method: Annotated[str, "the method's name"]
    seed: Annotated[int, "seed of everything random"]
    settings: Annotated[dict[str, Any], "all settings, with the ones that the method fixes (docs/settings.md)"]
    protocol: Annotated[
        dict[str, Any],
        "what is measured: data, split, tasks, names, weights. Two results compare only if their `hash` is the same",
    ]
    scores: Annotated[
        list[Row],
        "one entry per row, as `segp (dual)`: `method`, `path`, `baseline`, the metrics, and the accuracies behind them (`A`, `R`, "
        "`next_task`, `global_A`, `global_R`; see segp_ext.report.metrics). Two entries hold the state after the last task learnt "
        "so far, over all classes seen. `class_accuracy` has one number per class. `confusion` is a list of [true class, predicted class, "
        "number of test images]; its classes are places in `class_names`, from 0. `settings` holds, for global and task-known, `R` of all "
        "tasks, with a row before the first task and after each, and its `transfer`, `avg` and `last` (docs/streams.md). Of a learner "
        "that held images back, `calibration_error` has two numbers after each task: the expected calibration error without temperature, "
        "and with it",
    ]
    retention: Annotated[
        dict[str, list[float]],
        "zero-shot accuracy on data sets that are never learnt: before the first task, then after each task",
    ]
    prototype_distance: Annotated[
        list[list[float]],
        "1 − cos between old classes' prototypes and the mean of their test images. Each task from the second on has two values: before "
        "the transfer and after it",
    ]
    tasks: Annotated[list[TaskReport], "cost and losses of each task"]
    phases: Annotated[
        dict[str, Phase], "time by phase: `wall`, and `backbone`, the part of it that the encoders' own passes took"
    ]
    passes: Annotated[
        dict[str, int],
        "counts for compiled encoders: `total` passes, and `eager` passes, which torch could not compile",
    ]
    device: Annotated[str, "name of the GPU or the processor"]
    processes: Annotated[int, "number of processes that learnt together"]
    threads: Annotated[int, "threads of torch in each process"]
    versions: Annotated[dict[str, str], "versions of Python, segp_ext and the packages that it needs"]
    build: Annotated[dict[str, Any], "the answer of `segp_ext.build_info()`"]
    code: Annotated[dict[str, str], "SHA-256 of the files of your own parts, by the names that settings have for them"]
    started: Annotated[str, "date and time"]
    resumed: Annotated[
        list[Resumption], "where the run went on after a stop: `after` so many tasks, `at` this time, `on` this device"
    ] = field(default_factory=list)
    trained_parameters: Annotated[
        int | None, "number of parameters that the optimiser changes; null until the learner is made"
    ] = None
    plots: Annotated[list[str], "files in plots/"] = field(default_factory=list)
    updated: Annotated[str, "date and time of the last change"] = ""
    class_names: Annotated[list[str], "the classes of all tasks, in task order"] = field(default_factory=list)

    def row(self, path: ScorePath) -> Row:
        """Finds the method's own row of a path.

        Raises:
            KeyError: if the run did not measure this path.
        """
        for row in self.scores:
            if not row.is_baseline and row.path == path:
                return row
        raise KeyError(path)

    @property
    def own(self) -> list[Row]:
        """The method's own rows."""
        return [row for row in self.scores if not row.is_baseline]

    def record(self, row: Row) -> None:
        """Puts a row in the place of the row of its name, or behind the others."""
        for place, other in enumerate(self.scores):
            if other.name == row.name:
                self.scores[place] = row
                return
        self.scores.append(row)

    def spend(self, name: str, phase: Phase) -> None:
        """Adds time to a phase."""
        self.phases.setdefault(name, Phase()).add(phase)

    def to_json(self) -> bytes:
        """Writes the result as result.json holds it."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        entries = {name: plain(value) for name, value in values.items()}
        entries["scores"] = {row.name: row.to_dict() for row in self.scores}
        text = json.dumps({"format": FORMAT, **entries}, indent=1, ensure_ascii=False) + "\n"
        return _THREE_NUMBERS.sub(rb"[\1, \2, \3]", text.encode())  # each count of a confusion on one line

    @classmethod
    def read(cls, file: Path, tasks: int | None = None) -> RunResult:
        """Reads a result.

        Args:
            file: result.json, or a checkpoint's copy.
            tasks: number of tasks that the result must hold; None takes any number.

        Raises:
            OSError: if the file cannot be read.
            ValueError: if the file holds no result. The error names the file and the entry.
        """
        found = sealed.read_json(file)
        if found.get("format") != FORMAT:
            raise ValueError(f"{file} is no result of format {FORMAT}: it has {found.get('format', 'none')}")
        try:
            scores = found.get("scores")
            if not isinstance(scores, dict):
                raise WrongEntryError("scores must be an object")
            entries = {key: value for key, value in found.items() if key != "format"} | {"scores": []}
            made: RunResult = typed(cls, entries, "")
            made.scores = [_row(name, row, made.class_names) for name, row in scores.items()]
            count = len(made.tasks) if tasks is None else tasks
            if len(made.tasks) != count:
                raise WrongEntryError(f"tasks must have {count} entries; got {len(made.tasks)}")
            for row in made.own:
                if fault := row.scores.fault(count):
                    raise WrongEntryError(f"scores: {row.name}: {fault}")
        except WrongEntryError as error:
            which = "a run" if tasks is None else f"a run after {tasks} tasks"
            raise ValueError(f"{file} is no result of {which}: {error}") from None
        return made


def _row(name: str, found: Any, class_names: list[str]) -> Row:
    """Checks and makes one row of `scores`."""
    place = f"scores: {name}"
    if not isinstance(found, dict):
        raise WrongEntryError(f"{place} must be an object")
    for key in ("A", "R", "next_task"):
        if not isinstance(found.get(key), list):
            raise WrongEntryError(f"{place}: {key} must be a list")
    for key, kind in {"method": str, "path": get_type_hints(Row)["path"], "baseline": bool}.items():
        if not fits(found.get(key), kind):
            raise WrongEntryError(f"{place}: {key} must be {in_words(kind)}; got {found.get(key)!r}")
    settings = found.get("settings", {})
    known = isinstance(settings, dict) and set(settings) <= {*get_args(WholeSetting)}
    if not known or not all(isinstance(one, dict) and "R" in one for one in settings.values()):
        raise WrongEntryError(
            f"{place}: settings must be an object of {' and '.join(get_args(WholeSetting))}, each with R"
        )
    if not confusion_fits(found.get("confusion", []), class_names):
        raise WrongEntryError(
            f"{place}: confusion must be a list of [true class, predicted class, number of images], with classes from 0 to "
            f"{len(class_names) - 1}"
        )
    return Row.from_dict(found)
