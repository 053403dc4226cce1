"""A run's result: all that result.json holds, written, read and checked here. docs/result.md is made from it.

Accuracies are fractions, times are seconds.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from segp_ext.config import ScorePath, fits
from segp_ext.report import metrics
from segp_ext.runtime.timing import Phase
from segp_ext.storage import sealed

Status = Literal["running", "finished", "interrupted", "failed"]

FORMAT = 1
"""Of result.json. A reader refuses every other one."""


@dataclass
class PathResult:
    """Accuracies of one path over a run; see `segp_ext.report.metrics` for R, A and the metrics.

    Attributes:
        matrix: R, a lower triangle: row i holds tasks 0 to i.
        pooled: A_i.
        next_task: zero-shot accuracy on task i + 1 after task i, over that task's classes; None where it is not defined, and for a task
            of one class, which is always right.
        global_matrix: the global R, of all tasks over the classes of all tasks; row i comes after i tasks. Empty if not measured.
        global_pooled: the global A_i, over all test images, for the same rows.
    """

    matrix: list[list[float]] = field(default_factory=list)
    pooled: list[float] = field(default_factory=list)
    next_task: list[float | None] = field(default_factory=list)
    global_matrix: list[list[float]] = field(default_factory=list)
    global_pooled: list[float] = field(default_factory=list)

    def metrics(self) -> dict[str, float | None]:
        """Avg, Last, Forgetting, BWT and FWT over seen classes."""
        return {
            "avg": metrics.average_accuracy(self.pooled),
            "last": metrics.last_accuracy(self.pooled),
            "forgetting": metrics.forgetting(self.matrix),
            "bwt": metrics.backward_transfer(self.matrix),
            "fwt": metrics.forward_transfer(self.next_task),
        }

    def global_metrics(self) -> dict[str, float | None]:
        """Global FWT, BWT and Forgetting."""
        return {
            "global_fwt": metrics.global_forward_transfer(self.global_matrix),
            "global_bwt": metrics.global_backward_transfer(self.global_matrix),
            "global_forgetting": metrics.global_forgetting(self.global_matrix),
        }

    def to_dict(self) -> dict[str, Any]:
        """Raw numbers and metrics, for JSON; the global ones only where they were measured."""
        found = {
            **(self.metrics() if self.pooled else {}),
            "A": self.pooled,
            "R": self.matrix,
            "next_task": self.next_task,
        }
        if self.global_matrix:
            found |= {**self.global_metrics(), "global_A": self.global_pooled, "global_R": self.global_matrix}
        return found

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> PathResult:
        """The raw numbers that `to_dict` gave."""
        measured = found.get("global_R") or [], found.get("global_A") or []
        return cls(found["R"], found["A"], found["next_task"], *measured)

    def is_whole(self, tasks: int) -> bool:
        """Whether these are fractions, of so many tasks."""

        def fractions(values: Any) -> bool:
            return isinstance(values, list) and all(isinstance(v, (int, float)) and 0 <= v <= 1 for v in values)

        def all_fractions(rows: Any) -> bool:
            return isinstance(rows, list) and all(map(fractions, rows))

        if not (
            all_fractions(self.matrix) and fractions(self.pooled) and len(self.matrix) == len(self.pooled) == tasks
        ):
            return False
        if self.global_matrix == self.global_pooled == []:
            return True
        return (
            all_fractions(self.global_matrix)
            and fractions(self.global_pooled)
            and len(self.global_matrix) == len(self.global_pooled) == tasks + 1  # one before the first task
            and len({len(row) for row in self.global_matrix}) == 1
            and len(self.global_matrix[0]) >= tasks
        )


@dataclass
class Row:
    """One row of a result's table: a path of the run's method, or a baseline that every run measures beside it.

    Attributes:
        method: the method's name, or the baseline's.
        path: by which it scores.
        is_baseline: whether it is zero-shot CLIP or a head on the frozen model.
        scores: its accuracies.
    """

    method: str
    path: ScorePath
    is_baseline: bool
    scores: PathResult

    @property
    def name(self) -> str:
        """For people, and the key in result.json. Nothing reads the parts back from it."""
        return self.method if self.is_baseline else f"{self.method} ({self.path})"

    def to_dict(self) -> dict[str, Any]:
        return {"method": self.method, "path": self.path, "baseline": self.is_baseline, **self.scores.to_dict()}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Row:
        return cls(found["method"], found["path"], found["baseline"], PathResult.from_dict(found))


@dataclass
class TaskReport:
    """What learning one task took and showed.

    Attributes:
        classes: the task's class names.
        images: number of training images.
        steps: optimiser steps.
        anchors: number of anchors the task was distilled on.
        phases: time per phase.
        losses: mean of each weighted loss term over the last epoch.
    """

    classes: list[str]
    images: int
    steps: int = 0
    anchors: int = 0
    phases: dict[str, Phase] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)


@dataclass
class Resumption:
    """A place where a run was gone on with: after how many tasks, when, and on which device."""

    after: int
    at: str
    on: str


@dataclass
class RunResult:
    """What a run has found, and under which conditions. The page that describes result.json is made from these fields."""

    name: Annotated[str, "of the run's folder"]
    status: Annotated[Status, "where the run stands"]
    message: Annotated[str, "the same in a sentence, with the error if there was one"]
    method: Annotated[str, "the method's name"]
    seed: Annotated[int, "of everything random"]
    settings: Annotated[dict[str, Any], "all settings, with what the method fixes (docs/settings.md)"]
    protocol: Annotated[
        dict[str, Any],
        "what is measured: data, split, tasks, names, weights. Results compare only if their `hash` is the same",
    ]
    scores: Annotated[
        list[Row],
        "by row, as `segp (dual)`: `method`, `path`, `baseline`, the metrics, and the accuracies that they come from (`A`, `R`, "
        "`next_task`, `global_A`, `global_R`; see segp_ext.report.metrics)",
    ]
    retention: Annotated[
        dict[str, list[float]],
        "zero-shot accuracy on data sets that are never learnt: before the first task, then after each",
    ]
    prototype_distance: Annotated[
        list[list[float]],
        "after each task from the second on: 1 − cos between old classes' prototypes and their test images' mean, before the transfer "
        "and after it",
    ]
    tasks: Annotated[list[TaskReport], "what learning each task took and showed"]
    phases: Annotated[
        dict[str, Phase], "time by phase: `wall`, and `backbone`, which the encoders' own passes took of it"
    ]
    passes: Annotated[
        dict[str, int], "of compiled encoders: `total` passes, and `eager` ones that could not be compiled"
    ]
    device: Annotated[str, "name of the GPU or the processor"]
    processes: Annotated[int, "that learnt together"]
    threads: Annotated[int, "of torch, in each process"]
    versions: Annotated[dict[str, str], "of Python, segp_ext and the packages that it stands on"]
    build: Annotated[dict[str, Any], "what `segp_ext.build_info()` said"]
    code: Annotated[dict[str, str], "SHA-256 of the files of your own parts, by the names that settings have for them"]
    started: Annotated[str, "date and time"]
    resumed: Annotated[
        list[Resumption], "where the run was gone on with: `after` so many tasks, `at` this time, `on` this device"
    ] = field(default_factory=list)
    trained_parameters: Annotated[int | None, "that the optimiser changes; null until the learner is made"] = None
    plots: Annotated[list[str], "files in plots/"] = field(default_factory=list)
    updated: Annotated[str, "date and time of the last change"] = ""

    def row(self, path: ScorePath) -> Row:
        """The method's own row of a path.

        Raises:
            KeyError: if it was not measured.
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
        """Puts a row in its place, or behind the others."""
        for place, other in enumerate(self.scores):
            if other.name == row.name:
                self.scores[place] = row
                return
        self.scores.append(row)

    def spend(self, name: str, phase: Phase) -> None:
        """Adds time to a phase."""
        self.phases.setdefault(name, Phase()).add(phase)

    def to_json(self) -> bytes:
        """As result.json has it."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain = {name: _plain(value) for name, value in values.items()}
        plain["scores"] = {row.name: row.to_dict() for row in self.scores}
        return (json.dumps({"format": FORMAT, **plain}, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def read(cls, file: Path, tasks: int | None = None) -> RunResult:
        """Reads a result.

        Args:
            file: result.json, or a checkpoint's copy.
            tasks: how many tasks it must tell of; by default as many as it says.

        Raises:
            OSError: if it cannot be read.
            ValueError: if it is none, naming the file and the entry.
        """
        found = sealed.read_json(file)
        if found.get("format") != FORMAT:
            raise ValueError(f"{file} is no result of format {FORMAT}: it has {found.get('format', 'none')}")
        try:
            scores = found.get("scores")
            if not isinstance(scores, dict):
                raise _WrongEntryError("scores")
            made: RunResult = _typed(
                cls, {key: value for key, value in found.items() if key != "format"} | {"scores": []}, ""
            )
            made.scores = [_row(name, row) for name, row in scores.items()]
            count = len(made.tasks) if tasks is None else tasks
            if len(made.tasks) != count:
                raise _WrongEntryError("tasks")
            for row in made.own:
                if not row.scores.is_whole(count):
                    raise _WrongEntryError(f"scores: {row.name}")
        except _WrongEntryError as error:
            which = "a run" if tasks is None else f"a run after {tasks} tasks"
            raise ValueError(f"{file} is no result of {which}: {error} is not as it must be") from None
        return made


class _WrongEntryError(Exception):
    """An entry that is not as it must be."""


def _row(name: str, found: Any) -> Row:
    lists = ("A", "R", "next_task")
    if not isinstance(found, dict) or not all(isinstance(found.get(key), list) for key in lists):
        raise _WrongEntryError(f"scores: {name}")
    hints = get_type_hints(Row)
    if not (
        isinstance(found.get("method"), str)
        and fits(found.get("path"), hints["path"])
        and isinstance(found.get("baseline"), bool)
    ):
        raise _WrongEntryError(f"scores: {name}")
    return Row.from_dict(found)


def _plain(value: Any) -> Any:
    """What JSON can hold of a value."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return value


def _typed(kind: Any, value: Any, place: str) -> Any:
    """A value of JSON as what a field's type says; dataclasses are made from their entries."""
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        needed = {f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING}
        if not isinstance(value, dict) or not needed <= value.keys() <= hints.keys():
            named = isinstance(value, dict) and sorted({*needed - value.keys(), *value.keys() - hints.keys()})
            raise _WrongEntryError(".".join(filter(None, (place, named[0] if named else ""))) or "it")
        return kind(
            **{name: _typed(hints[name], entry, f"{place}.{name}" if place else name) for name, entry in value.items()}
        )  # type: ignore[operator]
    inside = get_args(kind)
    if get_origin(kind) is list and isinstance(value, list):
        return [_typed(inside[0], entry, place) for entry in value]
    if get_origin(kind) is dict and isinstance(value, dict):
        return {key: _typed(inside[1], entry, place) for key, entry in value.items()}
    if not fits(value, kind):
        raise _WrongEntryError(place)
    return value
