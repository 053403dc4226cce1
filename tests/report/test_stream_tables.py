"""Transfer, Avg and Last of a stream, by hand; which settings are shown, and how."""

import pytest
from made_results import made_run

from segp_ext.report import metrics, run_page, terminal, verdict
from segp_ext.report.stream_tables import setting_table, shown_settings, task_names

ROWS = [[0.5, 0.2, 0.1], [0.9, 0.4, 0.3], [0.8, 0.7, 0.6], [0.7, 0.6, 0.9]]
"""Accuracies on three tasks, before the first one and after each."""


def test_the_metrics_of_a_stream():
    # Transfer: task 2 after task 1, 0.4; task 3 after tasks 1 and 2, 0.3 and 0.6
    assert metrics.stream_transfer(ROWS) == pytest.approx((0.4 + (0.3 + 0.6) / 2) / 2)
    assert metrics.stream_average(ROWS) == pytest.approx((1.6 + 2.1 + 2.2) / 9)
    assert metrics.stream_last(ROWS) == pytest.approx(2.2 / 3)


def test_zero_shot_of_mtil_has_one_average():
    """The published row 69.4/65.3/65.3: Avg and Last of a model that never changes are equal, Transfer leaves out the first task."""
    same = [[0.2, 0.9, 0.7]] * 4
    assert metrics.stream_average(same) == pytest.approx(metrics.stream_last(same)) == pytest.approx(0.6)
    assert metrics.stream_transfer(same) == pytest.approx(0.8)


@pytest.mark.parametrize(("rows", "expected"), [(ROWS[:1], (None, None, None)), (ROWS[:2], (None, 1.6 / 3, 1.6 / 3))])
def test_few_tasks_have_no_transfer(rows, expected):
    assert (metrics.stream_transfer(rows), metrics.stream_average(rows), metrics.stream_last(rows)) == pytest.approx(
        expected
    )


def stream(**protocol):
    result = made_run(3, 2)
    result.protocol |= protocol
    for row in result.scores:
        row.scores.whole = {"global": [[v / 2 for v in values] for values in ROWS], "task-known": ROWS}
    return result


def test_streams_and_other_settings_are_shown_the_leading_one_first():
    assert shown_settings(stream()) == []
    assert shown_settings(stream(sources=["a", "b", "c"])) == ["task-known", "global"]
    assert shown_settings(stream(setting="global")) == ["global", "task-known"]


def test_tasks_are_called_by_their_data_sets_where_each_has_one():
    assert task_names(stream(sources=["a", "b", "c"])) == ["a", "b", "c"]
    assert task_names(stream(sources=["a", "a", "c"])) == task_names(stream()) == ["1", "2", "3"]


def test_a_table_has_the_metrics_and_the_last_row():
    table = setting_table(stream(sources=["a", "b", "c"]), "task-known")
    assert table.header == ["row", "Transfer", "Avg", "Last", "a", "b", "c"]
    assert table.rows[0][1:] == ["42.5", "65.6", "73.3", "70.0", "60.0", "90.0"]


def test_the_terminal_the_page_and_the_verdict_lead_with_the_setting():
    result = stream(sources=["a", "b", "c"], setting="task-known")
    written = terminal.run_text(result)
    assert written.startswith("Task-known: accuracy in percent") and max(map(len, written.splitlines())) <= 80
    assert verdict.of_run(result)[0].startswith(
        "In the setting task-known, Transfer/Avg/Last in percent are: segp (dual) 42.5/65.6/73.3"
    )
    html = run_page.page(result).html()
    assert (
        html.index("Every data set, task-known")
        < html.index("Every data set, global")
        < html.index("Accuracy over seen")
    )
    assert "Tasks: 1 a, 2 b, 3 c." in html
    assert "Every task" not in run_page.page(stream()).html()
