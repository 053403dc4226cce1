"""Rows of predictions in each format."""

import csv
import importlib.util
import io
import json
import os
from pathlib import Path

import pytest

from segp_ext.report.prediction_rows import Layout, PredictionRow, choose_format, rows_written

ROWS = [
    PredictionRow("a, b.png", [("cat", 0.123456789), ("öld\n=dog", 1e-9)]),
    PredictionRow(os.fsdecode(b"\xff\x1b[2J.png"), error='cannot read "x"'),
    PredictionRow("c.png", [("cat", 1.0), ("dog", 0.0)]),
]
LAYOUT = Layout(2, 12, 8)
COLUMNS = ["path", "name", "score", "name_2", "score_2", "error"]
VALUES = [
    ["a, b.png", "cat", 0.123457, "öld\n=dog", 1e-9, None],
    ["\\xff\x1b[2J.png", None, None, None, None, 'cannot read "x"'],
    ["c.png", "cat", 1.0, "dog", 0.0, None],
]


def written(form, out=None, rows=ROWS):
    with rows_written(form, LAYOUT, out) as write:
        write(rows[:1])
        write([])
        write(rows[1:])


def test_csv_is_read_back(capsys):
    written("csv")
    head, *rows = csv.reader(io.StringIO(capsys.readouterr().out))
    assert head == COLUMNS
    assert rows == [["" if value is None else str(value) for value in row] for row in VALUES]


def test_json_lines_are_read_back(capsys):
    written("jsonl")
    said = capsys.readouterr().out
    assert [json.loads(line) for line in said.splitlines()] == [dict(zip(COLUMNS, row, strict=True)) for row in VALUES]
    assert "öld" in said


def test_a_table_is_aligned_and_has_no_control_characters(capsys):
    written("table")
    head, rule, *lines = capsys.readouterr().out.splitlines()
    assert head == "path          name       score  name 2     score" and rule == "─" * len(head)
    assert lines == [
        "a, b.png      cat       12.3 %  öld\\n=dog   0.0 %",
        "\\xff\\x1b[2J.png  error: cannot read \"x\"",
        "c.png         cat      100.0 %  dog        0.0 %",
    ]  # fmt: skip


UNKNOWN_ROWS = [
    PredictionRow("a.png", [("cat", 0.9), ("dog", 0.1)]),
    PredictionRow("b.png", [(None, 0.975)]),
    PredictionRow("c.png", error="broken"),
]


def test_rows_have_the_verdict_where_it_was_asked(capsys, tmp_path):
    layout = Layout(2, 5, 3, unknown=True)
    assert layout.columns == ["path", "name", "score", "name_2", "score_2", "unknown", "error"]
    said = {}
    for form in ("csv", "jsonl", "table"):
        with rows_written(form, layout, None) as write:
            write(UNKNOWN_ROWS)
        said[form] = capsys.readouterr().out.splitlines()
    assert said["csv"][1:] == ["a.png,cat,0.9,dog,0.1,false,", "b.png,,0.975,,,true,", "c.png,,,,,,broken"]
    rows = [json.loads(line) for line in said["jsonl"]]
    assert [row["unknown"] for row in rows] == [False, True, None]
    assert rows[1]["name"] is None and rows[1]["score"] == 0.975 and rows[1]["name_2"] is None
    assert said["table"][2:] == [
        "a.png  cat      90.0 %  dog      10.0 %",
        "b.png  unknown  97.5 %",
        "c.png  error: broken",
    ]


def test_parquet_has_the_verdict_as_a_boolean(tmp_path):
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, of the extra parquet")
    from pyarrow import parquet

    with rows_written("parquet", Layout(2, 5, 3, unknown=True), tmp_path / "rows.parquet") as write:
        write(UNKNOWN_ROWS)
    table = parquet.read_table(tmp_path / "rows.parquet")
    assert str(table.schema.field("unknown").type) == "bool"
    assert table.column("unknown").to_pylist() == [False, True, None]


@pytest.mark.parametrize("form", ["csv", "jsonl", "table"])
def test_a_file_has_what_standard_output_gets(form, tmp_path, capsys):
    written(form)
    written(form, tmp_path / "rows")
    assert (tmp_path / "rows").read_bytes() == capsys.readouterr().out.encode()
    assert os.listdir(tmp_path) == ["rows"]


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_is_whole_or_as_it_was(form, tmp_path):
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, of the extra parquet")
    (tmp_path / "link").symlink_to(tmp_path / "rows")
    (tmp_path / "rows").write_text("old")
    with pytest.raises(KeyboardInterrupt), rows_written(form, LAYOUT, tmp_path / "link") as write:
        write(ROWS)
        raise KeyboardInterrupt
    assert (tmp_path / "rows").read_text() == "old" and sorted(os.listdir(tmp_path)) == ["link", "rows"]
    written(form, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and len((tmp_path / "rows").read_bytes()) > 100


def test_parquet_is_read_back(tmp_path):
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow, of the extra parquet")
    from pyarrow import parquet

    written("parquet", tmp_path / "rows.parquet")
    table = parquet.read_table(tmp_path / "rows.parquet")
    assert table.column_names == COLUMNS and [list(row.values()) for row in table.to_pylist()] == VALUES
    assert [str(field.type) for field in table.schema] == ["string", "string", "double", "string", "double", "string"]
    nothing = [PredictionRow("a", error="x")] * 2
    written("parquet", tmp_path / "errors.parquet", nothing)
    assert parquet.read_table(tmp_path / "errors.parquet").schema == table.schema


def test_the_format_is_the_one_given_or_that_of_the_ending_or_of_the_terminal(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    assert choose_format("jsonl", Path("x.csv"), True) == "jsonl"
    endings = {"x.csv": "csv", "x.JSONL": "jsonl", "x.ndjson": "jsonl", "x.parquet": "parquet", "x.txt": "table"}
    assert {name: choose_format(None, Path(name), True) for name in endings} == endings
    assert choose_format(None, None, True) == "table" and choose_format(None, None, False) == "csv"
    with pytest.raises(ValueError, match="--out x.doc: the ending '.doc' stands for no format"):
        choose_format(None, Path("x.doc"), False)
    with pytest.raises(ValueError, match="--format parquet needs a file: add --out FILE"):
        choose_format("parquet", None, False)


@pytest.mark.parametrize("given", [None, "parquet"])
def test_parquet_without_pyarrow_names_the_extra(given, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        ValueError, match=r"parquet needs pyarrow, of the extra parquet: pip install 'segp_ext\[parquet\]'"
    ):
        choose_format(given, Path("x.parquet"), False)
