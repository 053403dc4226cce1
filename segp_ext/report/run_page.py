"""The page of one run: report.html and summary.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segp_ext.report import run_tables, stream_page, verdict
from segp_ext.report.confusion import class_accuracy, frequent_confusions, image_counts
from segp_ext.report.glossary import PATHS, PHASES, row_meaning
from segp_ext.report.metrics import forgetting_curve
from segp_ext.report.page import Page, side_by_side
from segp_ext.report.result import Row, RunResult
from segp_ext.report.svg_chart import Axis, Line, line_chart
from segp_ext.report.svg_confusion import MOST_CLASSES, confusion_picture
from segp_ext.report.table import Cell, Link, Share, Table, percent
from segp_ext.storage.sealed import write_atomically

_WORST = 20
"""Rows of the tables of classes and of confusions, if a run has many classes."""


def write(directory: Path, result: RunResult) -> None:
    """Writes result.json, summary.md and report.html, each whole or not at all. report.html needs no other file."""
    write_atomically(directory / "result.json", result.to_json())
    made = page(result)
    write_atomically(directory / "summary.md", made.markdown().encode())
    write_atomically(directory / "report.html", made.html().encode())


def page(result: RunResult) -> Page:
    """Puts the run on one page."""
    title = f"{result.name}: {result.method}, seed {result.seed}"
    made = Page(title, f"Protocol `{result.protocol['id']}`")
    made.lead(" ".join(verdict.of_run(result)))
    made.text(f"Status: {result.status}. {result.message}")
    if any(row.scores.pooled for row in result.scores):
        stream_page.add(made, result)
        _accuracy(made, result)
        _global(made, result)
        _tasks(made, result)
        _classes(made, result)
    _retention(made, result)
    _drift(made, result)
    _time(made, result)
    _conditions(made, result)
    return made


def _picture(result: RunResult, name: str) -> str | None:
    """Gives the path of a PNG plot that Markdown links to; None if it was not drawn."""
    return f"plots/{name}" if name in result.plots else None


def _lines(curves: Mapping[str, Sequence[float]], rows: Sequence[Row] = (), scale: float = 100) -> list[Line]:
    """Makes a line per curve; a row keeps its colour in all charts, and the frozen rows are dashed."""
    styles = {row.name: place for place, row in enumerate(rows)}
    frozen = {row.name for row in rows if row.is_baseline}
    return [
        Line(name, [scale * value for value in values], None, styles.get(name, place), name in frozen)
        for place, (name, values) in enumerate(curves.items())
    ]


def _accuracy(made: Page, result: RunResult) -> None:
    """Adds the table over seen classes, the meaning of its rows and columns, and the curves."""
    made.heading("Accuracy over seen classes")
    own = verdict.predicting_row(result)
    marked = [place for place, row in enumerate(result.scores) if row is own]
    table = run_tables.seen_table(result).optional_last()
    made.table(Table(table.caption, table.header, table.rows, optional=table.optional, marked=marked))
    made.terms(table.legend)
    meanings = {}
    for row in result.scores:
        meanings[row.name] = (
            row_meaning(row.method) if row.is_baseline else f"{result.method}, {row.path} path: {PATHS[row.path]}"
        )
    made.text(
        f"`{result.method}` is {row_meaning(result.method)}." + (f" It predicts by the {own.path} path." if own else "")
    )
    made.terms(meanings)
    rows = [row for row in result.scores if row.scores.pooled]
    beside = made.columns()
    accuracy = line_chart(
        _lines({row.name: row.scores.pooled for row in rows}, rows), Axis("Accuracy after each task", "% right")
    )
    beside.figure(
        "Accuracy over all classes seen, after each task (dashed: frozen rows)",
        accuracy,
        _picture(result, "accuracy.png"),
    )
    if max(len(row.scores.pooled) for row in rows) > 1:
        curves = {row.name: forgetting_curve(row.scores.matrix) for row in rows}
        chart = line_chart(_lines(curves, rows), Axis("Forgetting after each task", "points lost", first=2))
        beside.figure("Forgetting: mean drop of old tasks from their best", chart, _picture(result, "forgetting.png"))


def _global(made: Page, result: RunResult) -> None:
    """Adds the table and the curves of global accuracies, if they were measured."""
    table = run_tables.global_table(result).optional_last()
    if not table.rows:
        return
    made.heading("Global accuracy, future tasks included")
    made.table(Table(table.caption, table.header, table.rows, optional=table.optional))
    made.terms(table.legend)
    rows = [row for row in result.scores if row.scores.global_pooled]
    curves = {row.name: row.scores.global_pooled for row in rows}
    axis = Axis("Global accuracy before the first task and after each", "% right", first=0)
    chart = line_chart(_lines(curves, [*result.scores]), axis)
    made.figure(
        "Accuracy of the text path over all tasks' test images and all class names, before the first task and after each",
        chart,
        _picture(result, "global.png"),
    )


def _tasks(made: Page, result: RunResult) -> None:
    """Adds the matrix R of each row."""
    made.heading("Accuracy on each task")
    made.text(
        "Each row of numbers comes after one more task, each column is one task's test images, scored over all classes seen by then."
    )
    matrices = {row.name: row.scores.matrix for row in result.scores if row.scores.matrix}
    caption = "Percent right on each task's test images after each task"
    made.figure(caption, matrix_tables(matrices), _picture(result, "r_matrix.png"))


def matrix_tables(matrices: Mapping[str, Sequence[Sequence[float]]]) -> str:
    """Draws each R as a shaded table, as many beside each other as fit."""
    return side_by_side([matrix_table(name, matrix) for name, matrix in matrices.items()])


def matrix_table(caption: str, matrix: Sequence[Sequence[float]]) -> Table:
    """Makes a shaded table of R, the lower triangle of accuracies by tasks learnt and task."""
    size = len(matrix)
    rows: list[list[Cell]] = [
        [f"after {i + 1}", *(Share(row[j] if j < len(row) else float("nan"), "heat", 0) for j in range(size))]
        for i, row in enumerate(matrix)
    ]
    return Table(caption, ["task", *(str(j + 1) for j in range(size))], rows)


def _classes(made: Page, result: RunResult) -> None:
    """Adds the accuracy of each class and the confusion matrix, if they were counted."""
    own = verdict.predicting_row(result)
    if own is None or not own.scores.confusion:
        return
    made.heading("Accuracy of each class")
    seen = len(class_accuracy(own.scores.confusion))
    table = class_table(result, own)
    made.text(
        f"{own.name} after {len(own.scores.matrix)} of {len(result.protocol['tasks'])} tasks, over {seen} classes, the worst class first."
    )
    if seen <= MOST_CLASSES:
        made.table(table)
    else:
        made.table(
            Table(
                f"The {_WORST} classes with the lowest accuracy, in percent",
                table.header,
                table.rows[:_WORST],
                words=table.words,
            )
        )
        made.fold(f"All {seen} classes").table(table)
    beside = made.columns()
    if seen <= MOST_CLASSES:
        sizes = [len(names) for names in result.protocol["tasks"]][: len(own.scores.matrix)]
        title = f"Confusion matrix of {own.name}"
        drawn = confusion_picture(own.scores.confusion, result.class_names[:seen], sizes, title)
        beside.figure(f"{title}: rows are true classes, columns predicted ones, lines part the tasks", drawn)
    confusions = confusion_table(result, own, 10 if seen <= MOST_CLASSES else _WORST)
    if confusions.rows:
        beside.table(confusions)


def class_table(result: RunResult, own: Row) -> Table:
    """Makes the table of classes, the lowest accuracy first."""
    names, accuracies = result.class_names, class_accuracy(own.scores.confusion)
    images = image_counts(own.scores.confusion)
    task_of = [task for task, of_task in enumerate(result.protocol["tasks"], start=1) for _ in of_task]
    mistaken: dict[int, tuple[int, int]] = {}
    for true, guess, count in frequent_confusions(own.scores.confusion, len(own.scores.confusion)):
        mistaken.setdefault(true, (guess, count))
    frozen = _best_frozen(result)
    of_frozen = [] if frozen is None else class_accuracy(frozen.scores.confusion)
    rows: list[list[Cell]] = []
    for place, accuracy in sorted(enumerate(accuracies), key=lambda entry: (entry[1] is None, entry[1])):
        if accuracy is None:
            continue
        guess, count = mistaken.get(place, (place, 0))
        row: list[Cell] = [names[place], str(task_of[place]), str(images[place]), Share(accuracy)]
        if frozen is not None:
            row.append(percent(of_frozen[place]))
        rows.append([*row, *([names[guess], str(count)] if count else ["–", "–"])])
    header = [
        "class",
        "task",
        "images",
        own.name,
        *([] if frozen is None else [frozen.name]),
        "most often taken for",
        "times",
    ]
    return Table("Percent of each class's test images that are right", header, rows, words=[len(header) - 2])


def _best_frozen(result: RunResult) -> Row | None:
    """Finds the frozen row with the highest last accuracy, if its confusions cover the same classes as the method's."""
    done = max((len(row.scores.pooled) for row in result.own), default=0)
    rows = [row for row in result.scores if row.is_baseline and row.scores.confusion and len(row.scores.pooled) == done]
    return max(rows, key=lambda row: row.scores.pooled[-1], default=None)


def confusion_table(result: RunResult, own: Row, limit: int) -> Table:
    """Makes the table of the most frequent confusions."""
    names, images = result.class_names, image_counts(own.scores.confusion)
    rows = [
        [names[true], names[guess], str(count), percent(count / images[true])]
        for true, guess, count in frequent_confusions(own.scores.confusion, limit)
    ]
    return Table(
        "Most frequent confusions", ["true class", "predicted class", "images", "% of the class"], rows, names=2
    )


def _retention(made: Page, result: RunResult) -> None:
    """Adds the zero-shot accuracies on held-out data sets."""
    if not result.retention:
        return
    made.heading("Zero-shot accuracy on held-out data sets")
    for line in run_tables.retention(result):
        made.text(line)
    axis = Axis("Zero-shot accuracy on data sets that are never trained on", "% right over its own classes", first=0)
    made.figure(axis.title, line_chart(_lines(dict(result.retention)), axis), _picture(result, "retention.png"))


def _drift(made: Page, result: RunResult) -> None:
    """Adds the distance between old classes' prototypes and their test images."""
    if not result.prototype_distance:
        return
    made.heading("Old prototypes and the features of their classes")
    made.text(
        "1 − cos between each old class's prototype and the mean feature of its test images in the current model, mean over old classes: "
        "lower is better. Nothing learns from it."
    )
    before, after = zip(*result.prototype_distance, strict=True)
    axis = Axis("Distance of old prototypes from their classes", "1 − cos", first=2, high=2.0, digits=4)
    chart = line_chart(_lines({"before the transfer": before, "after the transfer": after}, scale=1), axis)
    made.figure("Old classes' prototypes against where their test images now are", chart, _picture(result, "drift.png"))


def _time(made: Page, result: RunResult) -> None:
    """Adds the time of each phase."""
    if not result.phases:
        return
    made.heading("Time")
    total = sum(phase.wall for phase in result.phases.values()) or 1.0
    rows: list[list[Cell]] = [
        [
            name,
            f"{phase.wall:.1f}",
            Share(phase.wall / total),
            f"{phase.wall / phase.backbone:.2f}" if phase.backbone else "–",
        ]
        for name, phase in sorted(result.phases.items(), key=lambda entry: -entry[1].wall)
    ]
    made.table(Table("Time by phase", ["phase", "seconds", "% of the run", "× backbone"], rows))
    backbone = "the phase's time over the time of the backbone's own passes in it; 1 is the floor"
    made.terms({"× backbone": backbone, **{name: PHASES[name] for name in result.phases if name in PHASES}})
    for line in run_tables.passes(result):
        made.text(line)


def _conditions(made: Page, result: RunResult) -> None:
    """Adds the protocol, and the programs and machine that measured."""
    made.heading("What was measured")
    made.text(f"Protocol `{result.protocol['id']}`:")
    made.items([f"{key}: {_plain(value)}" for key, value in result.protocol.items() if key not in ("id", "tasks")])
    made.text("Tasks:")
    tasks = []
    for index, names in enumerate(result.protocol["tasks"]):
        learnt = result.tasks[index] if index < len(result.tasks) else None
        spent = (
            "not learnt"
            if learnt is None
            else f"{learnt.images} images, {learnt.anchors} anchors, {sum(phase.wall for phase in learnt.phases.values()):.1f} s"
        )
        tasks.append(f"{', '.join(names)} ({spent})")
    made.items(tasks, numbered=True)
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    made.text(f"Made on {result.device} with {versions}.")
    made.items([Link("Every number (result.json)", "result.json"), Link("Every setting (config.yaml)", "config.yaml")])


def _plain(value: Any) -> str:
    """Writes a value of the protocol for people: entries with commas, nothing as a dash."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(entry)}" for key, entry in value.items()) or "–"
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or "–"
    return "–" if value is None else str(value)
