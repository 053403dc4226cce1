"""What runs of several methods and seeds say together, worked out by hand from made results."""

import csv
import io
import json
import math
from dataclasses import replace

import pytest
from made_results import keep, made, task

from segp_ext.report import comparison_page, comparison_plots, comparison_tables
from segp_ext.report.comparison import Comparison, Difference
from segp_ext.report.result import Resumption, Row
from segp_ext.report.table import percent, signed, spread


def test_differences_are_paired_by_seed():
    lasts = {"a": [0.5, 0.6, 0.7], "b": [0.6, 0.72, 0.77]}
    runs = {("a", seed): made(lasts["a"][seed], 0.1) for seed in range(3)}
    runs |= {("b", seed): made(lasts["b"][seed], 0.1) for seed in (2, 0, 1)}  # in an order of their own
    found = Comparison(runs, "command")
    apart = found.difference("b", "text", "last")
    # differences .10 .12 .07: mean .0967, sd .0252, t(.975, 2) = 4.303
    assert apart.mean == pytest.approx(0.096667, abs=1e-6) and apart.half == pytest.approx(
        4.302653 * 0.0251661 / math.sqrt(3), rel=1e-4
    )
    assert str(apart) == "+9.7 (+3.4 to +15.9)"
    assert str(Difference(-0.0004, 0.0002, 3)) == "0.0 (-0.1 to 0.0)"  # a zero has no sign
    assert (percent(-0.0004), spread([-0.0004, -0.0004]), signed(-0.00004, 4)) == ("0.0", "0.0 ± 0.0", "0.0000")
    assert found.difference("a", "text", "last") is None
    table = comparison_tables.seen_table(found)
    header, rows = table.header, table.rows
    numbers = ["79.8 ± 4.4", "69.7 ± 8.7", "10.0 ± 0.0", "-10.0 ± 0.0", "–"]
    # Avg is (.9 + Last) / 2, so its differences are half of Last's
    assert rows[3] == ["b", "text", "3", *numbers, "+4.8 (+1.7 to +8.0)", str(apart), "0.0 (0.0 to 0.0)"]
    assert header[-3:] == ["Avg − a's", "Last − a's", "Forgetting − a's"]
    table = comparison_tables.global_table(found)
    header, rows = table.header, table.rows
    assert header == [
        "method",
        "seeds",
        "global Last",
        "global FWT",
        "global BWT",
        "global Forgetting",
        "global Last − a's",
    ]
    assert rows[0] == ["a", "3", "60.0 ± 10.0", "50.0 ± 0.0", "-10.0 ± 0.0", "10.0 ± 0.0", "–"]
    assert rows[1] == ["b", "3", "69.7 ± 8.7", "50.0 ± 0.0", "-10.0 ± 0.0", "10.0 ± 0.0", str(apart)]


def test_the_accuracies_themselves_are_written():
    lines = [
        json.loads(line)
        for line in comparison_tables.matrices_jsonl(Comparison({("a", 7): made(0.5, 0.1)}, "command")).splitlines()
    ]
    assert [(line["row"], line["path"], line["seed"]) for line in lines] == [
        ("a", path, 7) for path in ("text", "visual", "dual")
    ]
    assert (
        lines[0]["R"] == [[0.9], [0.8, 0.5]]
        and lines[0]["A"] == [0.9, 0.5]
        and lines[0]["global_A"] == [0.45, 0.7, 0.5]
    )
    assert lines[1]["R"] == lines[0]["R"] and "global_R" not in lines[1]


def test_what_a_method_costs():
    runs = {("a", seed): made(0.5, 0.1) for seed in (1, 2)} | {("frozen", 1): made(0.5, 0.1)}
    runs["a", 2].tasks = [task(10, 4.5)] * 2
    runs["frozen", 1].trained_parameters, runs["frozen", 1].tasks = 0, [task(0, 0)] * 2
    for run in runs.values():
        run.record(Row("zero-shot", "text", True, run.row("text").scores))
    found = Comparison(runs, "command")
    table = comparison_tables.cost_table(found)
    header, rows = table.header, table.rows
    assert header == ["method", "trained", "ms/step", "seconds"]
    # 5 s over 20 steps and 4.5 s over 10: 250 and 450 ms
    assert rows == [["zero-shot", "–", "–", "2"], ["a", "3.44 M", "350", "10"], ["frozen", "–", "–", "10"]]
    lines = {
        (line["row"], line["seed"], line["path"]): line
        for line in csv.DictReader(io.StringIO(comparison_tables.results_csv(found)))
    }
    line = lines["a", "2", "text"]
    assert line["trained_parameters"] == "3440640" and line["ms_per_step"] == "450.000"
    assert (line["global_fwt"], line["global_bwt"], line["global_forgetting"]) == ("0.500000", "-0.100000", "0.100000")
    assert line["global_last"] == "0.500000" and lines["a", "2", "dual"]["global_last"] == ""
    assert lines["frozen", "1", "text"]["ms_per_step"] == lines["zero-shot", "1", "text"]["trained_parameters"] == ""


def test_a_task_that_was_gone_on_with_says_nothing_about_the_time_of_a_step():
    run = made(0.5, 0.1)
    run.tasks[1] = task(20, 0.1)
    run.resumed = [Resumption(1, "later", "cpu")]
    assert comparison_tables.cost_table(Comparison({("a", 1): run}, "command")).rows[0][2] == "250"


@pytest.mark.slow
def test_runs_without_global_rows_have_no_global_table_and_no_plot(tmp_path):
    run = made(0.5, 0.1)
    run.record(Row("m", "text", False, run.row("dual").scores))
    found = Comparison({("a", 1): run}, "command")
    assert comparison_tables.global_table(found).rows == [] and "global.png" not in comparison_plots.plot(
        found, tmp_path
    )
    assert "global" not in comparison_page.page(found, {}).markdown().lower()
    runs = {("a", 1): run, ("b", 1): made(0.5, 0.1)}  # one of them made before they were measured
    assert [row[0] for row in comparison_tables.global_table(Comparison(runs, "command")).rows] == ["b"]
    assert "global.png" in comparison_plots.plot(Comparison(runs, "command"), tmp_path)


def with_baseline(drop):
    """A made result with the zero-shot row that every run measures too."""
    run = made(0.5, drop)
    run.record(Row("zero-shot", "text", True, replace(run.row("text").scores, pooled=[0.9, 0.4 + drop])))
    return run


def test_a_baseline_that_is_a_row_too_counts_once():
    runs = {(row, seed): with_baseline(seed / 10) for row in ("m", "zero-shot") for seed in (1, 2)}
    found = Comparison(runs, "command")
    rows = {(row[0], row[1]): row for row in comparison_tables.seen_table(found).rows}
    assert rows["zero-shot", "text"][2] == "2" and comparison_tables.cost_table(found).rows[1][-1] == "10"
    runs = {of: run for of, run in runs.items() if of[0] == "m"}
    found = Comparison(runs, "command")
    rows = {(row[0], row[1]): row for row in comparison_tables.seen_table(found).rows}
    assert rows["zero-shot", "text"][2] == "2" and comparison_tables.cost_table(found).rows[0] == [
        "zero-shot",
        "–",
        "–",
        "2",
    ]


def test_baselines_of_a_seed_that_the_reference_lacks_are_taken_from_another_row():
    runs = {("a", 1): with_baseline(0.1), ("b", 1): with_baseline(0.3), ("b", 2): with_baseline(0.2)}
    found = Comparison(runs, "command").groups["zero-shot", "text"]
    assert [(score.seed, score.values["last"]) for score in found] == [(1, 0.5), (2, pytest.approx(0.6))]


def test_nothing_takes_the_place_of_a_reference_that_is_missing():
    found = Comparison({(row, 1): made(0.5, 0.1) for row in "bc"}, "command", "a")
    assert found.difference("b", "text", "last") is None and found.difference("c", "text", "last") is None
    table = comparison_tables.seen_table(found)
    header, rows = table.header, table.rows
    assert header[-2] == "Last − a's" and {row[-2] for row in rows} == {"–"}


def test_retention_is_compared_by_the_sets_places():
    curves = {
        ("a", 1): [0.6, 0.5],
        ("a", 2): [0.8, 0.5],
        ("b", 1): [0.6, 0.4],
        ("b", 2): [0.8, 0.3],
        ("c", 1): [0.9, 0.9],
    }
    runs = {of: made(0.5, 0.1) for of in curves}
    for (row, seed), run in runs.items():
        others = {"elsewhere": [0.1, 0.1]} if row == "c" else {f"SCENES/{seed}/other": [0.1, 0.1]}
        keep(run, {f"SCENES/{seed}/clean": curves[row, seed], **others})
    found = Comparison(runs, "command")
    table = comparison_tables.retention_table(found)
    header, rows = table.header, table.rows
    assert header == ["method", "data set", "before", "after the last task", "− a's"]
    apart = str(Difference.of([-0.1, -0.2]))
    assert rows[0] == ["a", "clean", "70.0 ± 14.1", "50.0 ± 0.0", "–"]
    assert rows[2] == ["b", "clean", "70.0 ± 14.1", "35.0 ± 7.1", apart]
    assert rows[3] == ["b", "other", "10.0 ± 0.0 (chance)", "10.0 ± 0.0", "0.0 (0.0 to 0.0)"]
    assert [row[0] for row in rows] == ["a", "a", "b", "b"]  # c has other data sets
    lines = comparison_tables.retention_csv(found).splitlines()
    assert lines[0] == "row,data_set,seed,tasks,accuracy" and len(lines) == 1 + 2 * 2 * 2 * 2
    assert "b,clean,2,1,0.300000" in lines
    assert "| b | clean | 70.0 ± 14.1 |" in comparison_page.page(found, {}).markdown()


def test_one_seed_has_no_spread_and_no_interval():
    assert spread([0.5]) == "50.0" and spread([0.5, None]) == "–" and spread([]) == "–"
    assert str(Difference.of([0.1])) == "+10.0"


def test_the_setting_of_a_stream_leads_a_comparison():
    runs = {}
    for method, last in (("a", 0.8), ("b", 0.7)):
        run = made(last, 0.1, method=method, protocol={"id": "p", "setting": "task-known", "sources": ["x", "y"]})
        for row in run.scores:
            rows = [[0.5, 0.4], [0.9, 0.5], [0.8, last]]
            row.scores.whole = {"global": rows, "task-known": rows}
        runs[method, 1] = run
    comparison = Comparison(runs, "a")
    captions = [table.caption for table in comparison_tables.tables(comparison)]
    assert [caption.partition(":")[0] for caption in captions[:3]] == ["Task-known", "Global", "Over seen classes"]
    assert "− a's" in comparison_tables.setting_table(comparison, "global").legend
