"""The table of classes fits a terminal."""

from segp_ext.report.class_table import class_table
from segp_ext.report.terminal import WIDTH, aligned
from segp_ext.storage.class_records import ClassRecord


def test_each_class_is_a_row():
    records = [ClassRecord("cat", 1, 12345, "2026-11-30T21:44:46+01:00"), ClassRecord("old lion", 12)]
    assert aligned(class_table(records)).splitlines()[2:] == [
        "cat          1  12,345  2026-11-30 21:44",
        "old lion    12       –                 –",
    ]


def test_a_long_name_takes_several_lines():
    drawn = aligned(class_table([ClassRecord("a very " * 20 + "long name", 1, 3, "2026-11-30T21:44:46+01:00")]))
    assert max(map(len, drawn.splitlines())) <= WIDTH and drawn.count("\n") > 3
