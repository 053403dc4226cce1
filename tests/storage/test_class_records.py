"""Records of classes, and how they follow tasks and edits."""

import pytest

from segp_ext.clip.wording import Wording
from segp_ext.storage.class_records import (
    ClassRecord,
    merged_records,
    older_records,
    read_records,
    renamed_records,
    sizes_of_tasks,
    updated_records,
    with_tasks,
)

EARLY, LATE = "2026-01-02T03:04:05+02:00", "2026-01-02T02:00:00+00:00"
RECORDS = (ClassRecord("a", 1, 5, EARLY), ClassRecord("b", 1, 7, EARLY), ClassRecord("c", 2, 2, LATE))


def test_a_task_adds_classes_and_images():
    found = updated_records(RECORDS, ["d"], 3, [0, 4, 0, 6], {"d": Wording("dog")})
    assert [(record.name, record.task, record.images) for record in found] == [
        ("a", 1, 5), ("b", 1, 11), ("c", 2, 2), ("d", 3, 6)
    ]  # fmt: skip
    assert found[3].sentences("a {}.") == ["a dog."]
    assert found[0] == RECORDS[0] and found[1].learnt == found[3].learnt > LATE


def test_a_merged_record_has_all_images_the_first_task_and_the_last_date():
    assert merged_records(RECORDS, [0, 2], "x") == (ClassRecord("x", 1, 7, LATE), RECORDS[1])
    assert merged_records(RECORDS, [1, 2], "b") == (RECORDS[0], ClassRecord("b", 1, 9, LATE))


def test_a_renamed_record_keeps_all_but_the_name():
    assert renamed_records(RECORDS, 1, "x") == (RECORDS[0], ClassRecord("x", 1, 7, EARLY), RECORDS[2])


def test_sizes_and_numbers_of_tasks():
    assert sizes_of_tasks(RECORDS, 3) == [2, 1, 0] and sizes_of_tasks(RECORDS[2:], 2) == [0, 1]
    assert [record.task for record in with_tasks(RECORDS, [0, 1, 2])] == [2, 3, 3]
    assert older_records(["a", "b"], [1, 1]) == (ClassRecord("a", 1), ClassRecord("b", 2))


def test_records_that_do_not_fit_are_refused():
    for wrong, message in (
        ({}, "classes must be a list; got dict"),
        ([{"name": "a", "task": "x"}], "classes.task"),
        ([{"name": "a", "task": 1}] * 2, "the classes must have different names"),
    ):
        with pytest.raises(ValueError, match=message):
            read_records(wrong)
