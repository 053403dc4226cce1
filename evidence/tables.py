"""Prints the tables of the commands in this folder, and writes them as Markdown."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from segp_ext.report.table import markdown_table
from segp_ext.storage.sealed import write_atomically


def write_table(file: Path, program: str, rows: Sequence[Sequence[str]]) -> None:
    """Prints a table, and writes it below the command that made it.

    Args:
        file: the Markdown file to write.
        program: the command without its arguments, as "python -m evidence.beta".
        rows: the rows of the table, its header first.
    """
    made = markdown_table(rows)
    print(made)
    write_atomically(file, f"`{program} {shlex.join(sys.argv[1:])}`\n\n{made}\n".encode())
