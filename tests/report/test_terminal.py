"""Tables as text: every one fits 80 columns, and the numbers that matter most are always there."""

import pytest
from made_results import made_run

from segp_ext.report import terminal
from segp_ext.report.comparison import Comparison
from segp_ext.report.table import Table

LONG = "joint lora.targets=[attn.in_proj,attn.out_proj,mlp.c_fc,mlp.c_proj]"


def widest(text):
    return max(map(len, text.splitlines()))


def table_of(tasks):
    header = ["row", *(f"A{n + 1}" for n in range(tasks)), "Avg", "Last", "Forgetting", "BWT", "FWT"]
    cells = [
        [name, *(f"{90 - n:.1f}" for n in range(tasks)), "77.7", "66.6", "55.5", "-44.4", "–"]
        for name in ("zero-shot", "frozen prototypes")
    ]
    return Table("caption", header, cells, {"Avg": "mean"}, optional=range(1, tasks + 1))


def test_a_narrow_table_is_shown_as_it_is():
    assert terminal.aligned(Table("", ["row", "Last"], [["a", "1.0"], ["bb", "22.0"]])) == (
        "row  Last\n─────────\na     1.0\nbb   22.0"
    )


@pytest.mark.parametrize("tasks", [1, 5, 6, 7, 10, 25, 100])
def test_first_and_last_tasks_and_the_metrics_are_always_shown(tasks):
    drawn = terminal.aligned(table_of(tasks))
    assert widest(drawn) <= 80 and drawn.count("─\n") == 1  # one block
    header, row = drawn.splitlines()[0].split(), drawn.splitlines()[-1].split()
    assert header[-5:] == ["Avg", "Last", "Forgetting", "BWT", "FWT"] and row[-5:] == [
        "77.7",
        "66.6",
        "55.5",
        "-44.4",
        "–",
    ]
    assert header[1] == "A1" and f"A{tasks}" in header and ("…" in header) == (tasks > 6)
    values = dict(zip(header[1:], row[2:], strict=True))  # the name has two words
    shown = [column for column in values if column[0] == "A" and column != "Avg"]
    assert all(values[column] == f"{91 - int(column[1:]):.1f}" for column in shown) and len(shown) >= min(tasks, 4)


def test_headers_break_before_columns_are_left_out():
    header = ["row", *(f"G{n}" for n in range(6)), "global FWT", "global BWT", "global Forgetting"]
    drawn = terminal.aligned(
        Table("", header, [["segp (text)", *["100.0"] * 6, "1.0", "2.0", "3.0"]], optional=range(1, 7))
    )
    lines = drawn.splitlines()
    assert widest(drawn) <= 80 and lines[0].split() == ["global"] * 3
    assert lines[1].split() == ["row", *(f"G{n}" for n in range(6)), "FWT", "BWT", "Forgetting"] and len(lines) == 4


def test_what_cannot_be_left_out_goes_on_in_a_second_block():
    header = ["method", "path", *(f"metric {n}" for n in range(12))]
    rows = [
        [LONG, "text", *(f"{n}0.0 ± 1.0" for n in range(12))],
        ["segp", "dual", *(f"{n}5.0 ± 1.0" for n in range(12))],
    ]
    drawn = terminal.aligned(Table("", header, rows, names=2))
    assert widest(drawn) <= 80
    blocks = drawn.split("\n\n")
    assert len(blocks) == 4 and all("method" in block and "segp" in block for block in blocks)
    for n in range(12):
        assert f"{n}0.0 ± 1.0" in drawn and f"{n}5.0 ± 1.0" in drawn
    assert "".join(line.split("  ")[0].strip() for line in blocks[0].splitlines()[3:6]).startswith(
        "joint lora.targets=[attn.in_pr"
    )


@pytest.mark.parametrize(("tasks", "per_task"), [(1, 1), (1, 5), (5, 2), (10, 10), (20, 2)])
def test_tables_of_a_run_fit(tasks, per_task):
    text = terminal.run_text(made_run(tasks, per_task))
    assert widest(text) <= 80
    tables = [part for part in text.split("\n\n") if "─" in part]
    assert len(tables) == 2 and all(widest(table) <= 80 for table in tables)
    said = " ".join(text.split())
    assert "Avg: mean of the accuracies" in said and "One run cannot tell" in said and "Time by phase" in said


def test_tables_of_a_comparison_fit():
    runs = {
        (row, seed): made_run(3, 2, row, seed) for row in ("segp", LONG, LONG + " lora.rank=2") for seed in (1, 2, 3)
    }
    text = terminal.comparison_text(Comparison(runs, "command"))
    assert widest(text) <= 80
    for caption in ("Over seen classes: ", "Global, text path: ", "Retention: ", "Cost. "):
        assert caption in text
    assert "Over three seeds, " in text


def test_long_lines_are_wrapped_and_paths_stay_whole():
    path = "/long-" + "folder/" * 12
    text = f"protocol digits, folder {path}\n\n" + "word " * 30
    lines = terminal.wrapped(text).splitlines()
    assert lines[:3] == ["protocol digits, folder", path, ""] and max(map(len, lines[3:])) <= 80
