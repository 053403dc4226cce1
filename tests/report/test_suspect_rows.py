"""Suspects as text and as CSV."""

import csv
import io

from segp_ext.report import suspect_rows
from segp_ext.report.suspect_rows import SuspectRow, suspects_csv, suspects_text

ROWS = [
    SuspectRow("label", "red/3.png", "red", "old lion", 0.98765),
    SuspectRow("same pixels", "red/4.png", "red", "blue", 1.0, "blue/0.png"),
    SuspectRow("near duplicate", "red/5.png", "red", "", 0.9951, "red/1.png"),
]


def test_csv_has_a_row_for_each_finding():
    rows = list(csv.reader(io.StringIO(suspects_csv(ROWS).decode())))
    assert rows == [
        ["kind", "file", "given", "likely", "score", "twin"],
        ["label", "red/3.png", "red", "old lion", "0.9877", ""],
        ["same pixels", "red/4.png", "red", "blue", "1.0000", "blue/0.png"],
        ["near duplicate", "red/5.png", "red", "", "0.9951", "red/1.png"],
    ]
    assert b"\\udcff" in suspects_csv([SuspectRow("label", "a\udcff.png", "x", "y", 0.5)])


def test_the_terminal_has_a_table_of_each_kind(monkeypatch):
    text = suspects_text(ROWS, 40)
    assert text.startswith(
        "1 of 40 labels are likely wrong (2.5 %). 2 pairs of images look the same, 1 of\nthem with different labels."
    )
    lines = [line.split() for line in text.splitlines()]
    assert ["red/3.png", "red", "old", "lion", "0.99"] in lines
    assert ["red/4.png", "red", "blue", "1.00", "blue/0.png"] in lines
    assert ["red/5.png", "red", "1.00", "red/1.png"] in lines
    assert max(map(len, text.splitlines())) <= 80
    monkeypatch.setattr(suspect_rows, "MOST", 1)
    more = suspects_text([ROWS[0]] * 3, 40)
    assert more.count("red/3.png") == 1 and more.endswith("2 more are in the CSV: --out FILE")
    assert suspects_text([], 40).count("\n") <= 1
