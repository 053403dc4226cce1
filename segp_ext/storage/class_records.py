"""What a learner notes about each class for people: when it was learnt, and from how many images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from segp_ext.clip.wording import PLAIN, Wording, Wordings
from segp_ext.config import fits, from_dict


@dataclass(frozen=True)
class ClassRecord:
    """One learnt class.

    Attributes:
        name: Its name.
        task: Number of the task that brought it, from 1.
        images: Number of images that it was learnt from, all updates together; None for a class of an older learner.
        learnt: Date and time when it was learnt or updated last, ISO 8601 with the offset; empty for a class of an older learner.
        wording: How the text encoder reads it.
    """

    name: str
    task: int
    images: int | None = None
    learnt: str = ""
    wording: Wording = field(default_factory=Wording)

    def sentences(self, template: str) -> list[str]:
        """Returns its prompts, written out; `template` is the learner's."""
        return self.wording.sentences(self.name, template)


def older_records(names: Any, task_sizes: Sequence[int]) -> tuple[ClassRecord, ...]:
    """Returns the records of a learner that kept names and sizes of tasks alone.

    Raises:
        ValueError: Saying what is wrong with them.
    """
    if not fits(names, list[str]):
        raise ValueError("class_names must be a list of different strings")
    records = with_tasks([ClassRecord(name, 0) for name in names], task_sizes)
    _check_names(records)
    return records


def updated_records(
    records: Sequence[ClassRecord], new: Sequence[str], task: int, counts: Sequence[int], wording: Wordings
) -> tuple[ClassRecord, ...]:
    """Returns the records after a task.

    Args:
        records: The records before it.
        new: Names of its new classes.
        task: Its number, from 1.
        counts: Number of images of every class in it, old classes first.
        wording: How the text encoder reads new classes.
    """
    date = datetime.now().astimezone().isoformat(timespec="seconds")
    found = []
    begun = [ClassRecord(name, task, 0, wording=wording.get(name, PLAIN)) for name in new]
    for record, count in zip([*records, *begun], counts, strict=True):
        images = None if record.images is None else record.images + count
        found.append(dataclasses.replace(record, images=images, learnt=date) if count else record)
    return tuple(found)


def renamed_records(records: Sequence[ClassRecord], place: int, name: str) -> tuple[ClassRecord, ...]:
    """Returns the records after the class at `place` got another name, which its prompts then hold."""
    wording = dataclasses.replace(records[place].wording, called="")
    return (*records[:place], dataclasses.replace(records[place], name=name, wording=wording), *records[place + 1 :])


def merged_records(records: Sequence[ClassRecord], places: Sequence[int], name: str) -> tuple[ClassRecord, ...]:
    """Returns the records after some classes became one, at the place and in the task of the first of them.

    A class among them of the name `name` gives its wording; else the first one gives its prompts, which then hold the name.

    Args:
        records: The records before it. Those at `places` have a number of images and a date.
        places: Places of these classes, ascending.
        name: Name of the merged class.
    """
    own = [records[place] for place in places]
    images = sum(record.images or 0 for record in own)
    learnt = max((record.learnt for record in own), key=datetime.fromisoformat)
    first = dataclasses.replace(own[0].wording, called="")
    wording = next((record.wording for record in own if record.name == name), first)
    merged = dataclasses.replace(own[0], name=name, images=images, learnt=learnt, wording=wording)
    return tuple(
        merged if place == places[0] else record
        for place, record in enumerate(records)
        if place == places[0] or place not in places
    )


def sizes_of_tasks(records: Sequence[ClassRecord], tasks: int) -> list[int]:
    """Returns the number of classes that are left of each task, 0 for a task that lost them all.

    Args:
        records: The classes.
        tasks: Number of tasks learnt.
    """
    return [sum(record.task == number for record in records) for number in range(1, tasks + 1)]


def with_tasks(records: Sequence[ClassRecord], task_sizes: Sequence[int]) -> tuple[ClassRecord, ...]:
    """Returns the records with the numbers of tasks of these sizes, in order."""
    tasks = [number for number, size in enumerate(task_sizes, start=1) for _ in range(size)]
    return tuple(dataclasses.replace(record, task=task) for record, task in zip(records, tasks, strict=True))


def read_records(found: Any) -> tuple[ClassRecord, ...]:
    """Makes the records of the plain values that a checkpoint holds.

    Raises:
        ValueError: Saying what is wrong with them.
    """
    if not isinstance(found, list):
        raise ValueError(f"classes must be a list; got {type(found).__name__}")
    records = tuple(from_dict(ClassRecord, entry, "classes.") for entry in found)
    _check_names(records)
    return records


def _check_names(records: Sequence[ClassRecord]) -> None:
    if len({record.name for record in records}) < len(records):
        raise ValueError("the classes must have different names")
