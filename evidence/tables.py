"""Tables of the commands here: printed, and written as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segp_ext.report.page import markdown_table
from segp_ext.storage.sealed import write_atomically


def write_table(file: Path, rows: Sequence[Sequence[str]]) -> None:
    """Prints a table, its header first, and writes it."""
    made = markdown_table(rows)
    print(made)
    write_atomically(file, f"{made}\n".encode())
