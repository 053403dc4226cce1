"""The page and the tables of one run, of a made result."""

import json
import re

import pytest
from made_pages import parsed, pictures
from made_results import made, made_run

from segp_ext.config import PATHS
from segp_ext.report import run_page
from segp_ext.report.glossary import COLUMNS, GLOBAL_COLUMNS
from segp_ext.report.result import PathResult, Row
from segp_ext.report.run_page import write
from segp_ext.report.table import percent
from segp_ext.report.terminal import run_text
from segp_ext.runtime.timing import Phase


@pytest.fixture
def result():
    """A run of two tasks: the frozen rows, and a method whose numbers are all different."""
    run = made(0.512, 0.137, phases={"training": Phase(9.0, 6.0)}, plots=["accuracy.png", "global.png"])
    run.protocol = {"id": "p", "tasks": [["a"], ["b"]]}
    run.row("text").scores.next_task = [0.317, None]
    run.record(Row("zero-shot", "text", True, PathResult([[0.6], [0.55, 0.5]], [0.6, 0.523], [0.42, None])))
    for place, path in enumerate(PATHS):
        run.row(path).scores.pooled[0] -= place / 100
    return run


def test_the_summary_and_the_table_show_the_same_numbers(result, tmp_path):
    write(tmp_path, result)
    written = json.loads((tmp_path / "result.json").read_text())
    summary, shown = (tmp_path / "summary.md").read_text(), run_text(result)
    for scores in written["scores"].values():
        for value in (*scores["A"], scores["avg"], scores["forgetting"]):
            assert percent(value) in summary and percent(value) in shown
    for scores in (scores for scores in written["scores"].values() if "global_A" in scores):
        for value in (*scores["global_A"], scores["global_fwt"], scores["global_bwt"], scores["global_forgetting"]):
            assert percent(value) in summary.split("Global, text path:")[1].split("## ")[0]
    for meaning in (*COLUMNS.values(), *GLOBAL_COLUMNS.values()):
        assert meaning in summary and meaning in " ".join(shown.split())
    assert "G0" in shown and "global FWT" in shown and "plots/global.png" in summary
    assert "Status: finished" in summary and "plots/accuracy.png" in summary
    assert "training 9.0 s (1.50×)" in shown and "| training | 9.0 | 100.0 | 1.50 |" in summary


@pytest.mark.parametrize(("tasks", "per_task"), [(1, 1), (1, 5), (2, 2), (4, 10), (10, 10)])
def test_a_page_is_well_formed_whatever_the_number_of_tasks_and_classes(tasks, per_task):
    run = made_run(tasks, per_task, name="a class <name> & more")
    shown = run_page.page(run).html()
    links = parsed(shown)
    assert {"result.json", "config.yaml"} <= {*links}
    for text in (
        "Accuracy over seen classes",
        "Global accuracy",
        "Accuracy on each task",
        "Accuracy of each class",
        "What was measured",
    ):
        assert text in shown
    assert shown.index('class="lead"') < shown.index("<nav") < shown.index("<h2")
    titles = [svg.findtext("{http://www.w3.org/2000/svg}title") for svg in pictures(shown)]
    assert ("Confusion matrix of segp (dual)" in titles) == (tasks * per_task <= 40)
    assert ("All 100 classes" in shown) == (tasks * per_task == 100)
    assert ("Forgetting after each task" in titles[1]) == (tasks > 1)


def test_every_number_of_r_stands_in_a_cell():
    run = made_run(4, 2)
    shown = run_page.page(run).html()
    for row in run.scores:
        table = re.search(rf"<caption><span>{re.escape(row.name)}</span></caption>.*?</table>", shown, re.DOTALL)
        cells = re.findall(r'<td class="heat" style="--share:([\d.]+)%">(\d+)</td>', table[0])
        assert [text for _, text in cells] == [
            f"{100 * value:.0f}" for of_task in row.scores.matrix for value in of_task
        ]


def test_classes_stand_worst_first_beside_the_best_frozen_head():
    run = made_run(2, 3)
    own = run.row("dual")
    own.scores.confusion = [[0, 0, 20], [1, 1, 5], [1, 4, 15], [2, 2, 19], [2, 0, 1], *([n, n, 20] for n in (3, 4, 5))]
    table = run_page.class_table(run, own)
    assert table.header == ["class", "task", "images", "segp (dual)", "frozen rda", "most often taken for", "times"]
    assert [str(cell) for cell in table.rows[0]][:4] == ["class 1", "1", "20", "25.0"]
    assert table.rows[0][-2:] == ["class 4", "15"] and table.rows[1][0] == "class 2"
    assert [row[0] for row in table.rows[2:]] == ["class 0", "class 3", "class 4", "class 5"] and table.rows[5][
        -2:
    ] == ["–", "–"]
    rows = run_page.confusion_table(run, own, 10).rows
    assert rows == [["class 1", "class 4", "15", "75.0"], ["class 2", "class 0", "1", "5.0"]]


def test_a_run_in_progress_and_results_of_earlier_versions_have_a_page():
    run = made_run(3, 2)
    run.status, run.message, run.tasks = "running", "No task learnt yet.", []
    run.scores = [row for row in run.scores if row.is_baseline]
    shown = run_page.page(run).html()
    parsed(shown)
    assert "No task is learnt yet" in shown and "not learnt" in shown and "Accuracy of each class" not in shown
    run.scores, run.phases, run.retention, run.prototype_distance = [], {}, {}, []
    parsed(run_page.page(run).html())
    old = made_run(3, 2)
    old.class_names = []
    for row in old.scores:
        row.scores.confusion = []
    shown = run_page.page(old).html()
    parsed(shown)
    assert "Accuracy of each class" not in shown and "may be chance" not in shown


def test_plots_are_linked_in_markdown_if_they_were_drawn():
    run = made_run(2, 2)
    assert "![" not in run_page.page(run).markdown()
    run.plots = ["accuracy.png", "r_matrix.png", "drift.png"]
    assert re.findall(r"!\[.*?\]\((.*?)\)", run_page.page(run).markdown()) == [f"plots/{name}" for name in run.plots]
