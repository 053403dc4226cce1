"""The classes of a learner as a table."""

from __future__ import annotations

from collections.abc import Sequence

from segp_ext.report.table import Table
from segp_ext.storage.class_records import ClassRecord


def class_table(records: Sequence[ClassRecord]) -> Table:
    """Makes the table of a learner's classes: name, task, number of images, and date in the time zone where they were learnt.

    Args:
        records: The classes, in order.

    Returns:
        The table; a dash stands for what an older learner did not keep.
    """
    rows = [
        [
            record.name,
            str(record.task),
            "–" if record.images is None else f"{record.images:,}",
            record.learnt[:16].replace("T", " ") or "–",
        ]
        for record in records
    ]
    return Table("", ["class", "task", "images", "learnt"], rows)
