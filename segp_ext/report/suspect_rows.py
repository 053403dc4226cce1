"""Suspect images of a folder as rows: a table for the terminal, and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Literal

from segp_ext.report.table import Table, percent
from segp_ext.report.terminal import aligned, wrapped

Kind = Literal["label", "same pixels", "near duplicate"]
MOST = 40
"""Rows that the terminal shows of each kind."""


@dataclass(frozen=True)
class SuspectRow:
    """Something suspect about an image.

    Attributes:
        kind: "label" for a label that is likely wrong; else how the image resembles `twin`.
        file: The image, by its name within the folder.
        given: The class that it is labelled as.
        likely: The class that it likely is; of a pair, the twin's class if it is another one. Empty if there is none.
        score: Of a label, probability of the likely class minus that of the given one; of a pair, how alike the images are, up to 1.
        twin: The other image of a pair; empty for a label.
    """

    kind: Kind
    file: str
    given: str
    likely: str
    score: float
    twin: str = ""


def suspects_csv(rows: Sequence[SuspectRow]) -> bytes:
    """Writes all rows as CSV with a header; scores have four decimals."""
    text = io.StringIO()
    written = csv.writer(text, lineterminator="\n")
    written.writerow([f.name for f in fields(SuspectRow)])
    for row in rows:
        written.writerow([f"{value:.4f}" if isinstance(value, float) else value for value in astuple(row)])
    return text.getvalue().encode("utf-8", "backslashreplace")


def suspects_text(rows: Sequence[SuspectRow], images: int) -> str:
    """Writes what the terminal shows: a summary, the surest suspects, and pairs.

    Args:
        rows: All rows.
        images: Number of images that were tested.
    """
    wrong = [row for row in rows if row.kind == "label"]
    conflicts = [row for row in rows if row.kind != "label" and row.likely]
    twins = [row for row in rows if row.kind != "label" and not row.likely]
    summary = (
        f"{len(wrong)} of {images:,} labels are likely wrong ({percent(len(wrong) / images)} %). "
        f"{len(conflicts) + len(twins)} pairs of images look the same, {len(conflicts)} of them with different labels."
    )
    parts = [wrapped(summary)]
    for caption, header, some in (
        ("Labels that are likely wrong, the surest first", ["file", "given label", "likely label", "score"], wrong),
        ("The same image with two labels", ["file", "given label", "label of the other", "score", "other file"], conflicts),
        ("The same image twice under one label", ["file", "given label", "score", "other file"], twins),
    ):  # fmt: skip
        if some:
            cells = [_cells(row, len(header)) for row in some[:MOST]]
            parts.append(f"{caption}\n\n{aligned(Table(caption, header, cells, names=len(header) - 1))}")
            if len(some) > MOST:
                parts.append(f"{len(some) - MOST} more are in the CSV: --out FILE")
    return "\n\n".join(parts)


def _cells(row: SuspectRow, columns: int) -> list[str]:
    """Writes a row's values for a table of so many columns."""
    score = f"{row.score:.2f}"
    if columns == 5:
        return [row.file, row.given, row.likely, score, row.twin]
    return [row.file, row.given, row.likely, score] if row.kind == "label" else [row.file, row.given, score, row.twin]
