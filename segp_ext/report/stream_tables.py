"""The numbers of a stream of data sets as tables: Transfer, Avg and Last in each setting of evaluation."""

from __future__ import annotations

from typing import get_args

from segp_ext.report.result import RunResult, WholeSetting
from segp_ext.report.table import Cell, Share, Table, percent

STREAM_METRICS = {"transfer": "Transfer", "avg": "Avg", "last": "Last"}
"""Column of each metric of a stream, by its key in result.json."""
COMPETING: dict[WholeSetting, str] = {
    "task-known": "the names of its own task compete for an image",
    "global": "the names of all tasks compete for an image, future ones too",
}
"""Which names compete in each setting."""
STREAM_COLUMNS = {
    "Transfer": "mean accuracy on tasks that are not learnt yet, after each task before them",
    "Avg": "mean accuracy on all tasks, after each task",
    "Last": "mean accuracy on all tasks, after the last one",
}
"""Meaning of these columns."""


def stream_key(setting: WholeSetting, metric: str) -> str:
    """Names a metric of a setting among a comparison's values."""
    return f"{setting} {metric}"


def shown_settings(result: RunResult) -> list[WholeSetting]:
    """Lists the settings of evaluation to show, the leading one first: measured ones, of a run on a stream or led by another setting."""
    leading = result.protocol.get("setting")
    if leading is None and "sources" not in result.protocol:
        return []
    measured = [
        name for name in get_args(WholeSetting) if any(len(row.scores.whole.get(name, ())) > 1 for row in result.scores)
    ]
    return sorted(measured, key=lambda name: (name != leading, name != "task-known"))


def setting_table(result: RunResult, setting: WholeSetting) -> Table:
    """Makes the table of one setting: Transfer, Avg and Last of each row, and the accuracies after the last task learnt."""
    rows: list[list[Cell]] = []
    names = task_names(result)
    for row in result.scores:
        matrix = row.scores.whole.get(setting, [])
        if len(matrix) > 1:
            found = row.scores.stream_metrics(setting)
            rows.append([row.name, *(percent(found[key]) for key in STREAM_METRICS), *map(percent, matrix[-1])])
    first = 1 + len(STREAM_METRICS)
    legend = {**STREAM_COLUMNS, f"{names[0]} to {names[-1]}": "accuracy on each task after the last one"}
    header = ["row", *STREAM_METRICS.values(), *names]
    caption = f"{setting.capitalize()}: accuracy in percent where {COMPETING[setting]}; names not learnt yet are scored by text alone"
    return Table(caption, header, rows, legend, optional=range(first, len(header)))


def task_names(result: RunResult) -> list[str]:
    """Names the tasks by their data sets where each has one of its own, else by numbers."""
    sources, tasks = result.protocol.get("sources", []), result.protocol["tasks"]
    if len(sources) == len({*sources}) == len(tasks):
        return [*sources]
    return [str(number) for number in range(1, len(tasks) + 1)]


def whole_matrix(caption: str, matrix: list[list[float]]) -> Table:
    """Makes a shaded table of accuracies on all tasks, before the first task and after each."""
    rows: list[list[Cell]] = [
        ["before" if after == 0 else f"after {after}", *(Share(value, "heat", 0) for value in row)]
        for after, row in enumerate(matrix)
    ]
    return Table(caption, ["task", *(str(task) for task in range(1, len(matrix[0]) + 1))], rows)
