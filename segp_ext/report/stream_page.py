"""The part of a run's page about a stream of data sets: tables, matrices and curves in each setting of evaluation."""

from __future__ import annotations

from segp_ext.report.page import Page, side_by_side
from segp_ext.report.result import Row, RunResult, WholeSetting
from segp_ext.report.stream_tables import setting_table, shown_settings, task_names, whole_matrix
from segp_ext.report.svg_chart import Axis, Line, line_chart
from segp_ext.report.table import Table
from segp_ext.report.verdict import predicting_row

_MOST_LINES = 12
"""Tasks that a chart has a line of each for."""


def add(made: Page, result: RunResult) -> None:
    """Adds the settings of evaluation that a run on a stream measured; nothing for other runs."""
    own = predicting_row(result)
    for setting in shown_settings(result):
        made.heading(f"Every data set, {setting}" if "sources" in result.protocol else f"Every task, {setting}")
        table = setting_table(result, setting)
        marked = [place for place, cells in enumerate(table.rows) if own is not None and cells[0] == own.name]
        made.table(Table(table.caption, table.header, table.rows, optional=table.optional, marked=marked))
        made.terms(table.legend)
        if "sources" in result.protocol:
            tasks = [f"{number} {name}" for number, name in enumerate(result.protocol["sources"], start=1)]
            made.text(f"Tasks: {', '.join(tasks)}.")
        _matrices(made, result, setting)
        if own is not None and len(own.scores.whole.get(setting, ())) > 1:
            _curves(made, result, own, setting)


def _matrices(made: Page, result: RunResult, setting: WholeSetting) -> None:
    measured = {
        row.name: row.scores.whole[setting] for row in result.scores if len(row.scores.whole.get(setting, ())) > 1
    }
    tables = [whole_matrix(name, matrix) for name, matrix in measured.items()]
    picture = f"plots/{setting}.png" if f"{setting}.png" in result.plots else None
    made.figure(
        f"Percent right on each task's test images ({setting}), before the first task and after each",
        side_by_side(tables),
        picture,
    )


def _curves(made: Page, result: RunResult, own: Row, setting: WholeSetting) -> None:
    matrix, names = own.scores.whole[setting], task_names(result)
    if len(names) > _MOST_LINES:
        return
    lines = [Line(name, [100 * row[task] for row in matrix], None, task, False) for task, name in enumerate(names)]
    axis = Axis(f"{own.name} on each task, {setting}", "% right", first=0)
    made.figure(
        f"Accuracy of {own.name} on each task ({setting}), before the first task and after each",
        line_chart(lines, axis),
        None,
    )
