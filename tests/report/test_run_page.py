"""The page and the tables of one run, of a made result."""

import json

import pytest
from made_results import made

from segp_ext.config import PATHS
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
