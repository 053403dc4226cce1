"""Tables and findings as text for a terminal 80 columns wide."""

from __future__ import annotations

import textwrap

from segp_ext.report import comparison_tables, run_tables, stream_tables, verdict
from segp_ext.report.comparison import Comparison
from segp_ext.report.result import RunResult
from segp_ext.report.table import Table

WIDTH = 80
"""Columns of the terminal that every table fits."""
_NAME = 30
"""Widest column of names; a longer name takes several lines."""


def run_text(result: RunResult) -> str:
    """Writes what a finished run says at its end: the verdict, its tables with their legends, and its sentences."""
    settings = [stream_tables.setting_table(result, setting) for setting in stream_tables.shown_settings(result)]
    tables = [run_tables.seen_table(result), run_tables.global_table(result)]
    leads = result.protocol.get("setting") is not None
    tables = [*settings, *tables] if leads else [*tables, *settings]
    return "\n\n".join(
        [
            *(shown(table) for table in tables if table.rows),
            wrapped(" ".join(verdict.of_run(result))),
            *map(wrapped, run_tables.sentences(result)),
        ]
    )


def comparison_text(comparison: Comparison) -> str:
    """Writes what a comparison says at its end: its tables with their legends, then the verdict."""
    tables = [shown(table) for table in comparison_tables.tables(comparison)]
    return "\n\n".join([*tables, wrapped(" ".join(verdict.of_comparison(comparison)))])


def shown(table: Table) -> str:
    """Writes a table under its caption, and its legend below."""
    parts = [wrapped(table.caption), aligned(table), wrapped(table.legend_text())]
    return "\n\n".join(filter(None, parts))


def aligned(table: Table, width: int = WIDTH) -> str:
    """Writes a table as aligned text.

    A table that is too wide becomes narrower in steps:

    - headers of two lines, and smaller gaps;
    - an ellipsis for optional columns in the middle;
    - several blocks below each other, each with the names of the rows.

    Args:
        table: the table.
        width: columns of the terminal.
    """
    cells = [[str(cell) for cell in row] for row in table.rows]
    header = list(table.header)
    columns = [[header[place], *(row[place] for row in cells)] for place in range(len(header))]
    names, numbers = columns[: table.names], columns[table.names :]
    for gap, broken in ((2, False), (2, True), (1, True)):
        drawn = _block(names, numbers, gap, broken)
        if _width(drawn) <= width:
            return drawn
    optional = [place - table.names for place in table.optional]
    for kept in range(len(optional) - 1, 1, -1):
        first, last = optional[: (kept + 1) // 2], optional[len(optional) - kept // 2 :]
        ellipsis = [["…"] * (len(cells) + 1)]
        short = [numbers[place] for place in range(optional[0])] + [numbers[place] for place in first] + ellipsis
        short += [numbers[place] for place in range(last[0], len(numbers))]
        drawn = _block(names, short, 1, True)
        if _width(drawn) <= width:
            return drawn
    wide, tight = (_blocks(names, numbers, width, gap) for gap in (2, 1))
    return "\n\n".join(tight if len(tight) < len(wide) else wide)


def _blocks(names: list[list[str]], numbers: list[list[str]], width: int, gap: int) -> list[str]:
    """Draws the columns in as many blocks as they need, each as full as it can be and at least one column wide."""
    drawn, start = [], 0
    while start < len(numbers):
        end = start + 1
        while end < len(numbers) and _width(_block(names, numbers[start : end + 1], gap, True)) <= width:
            end += 1
        drawn.append(_block(names, numbers[start:end], gap, True))
        start = end
    return drawn


def _block(names: list[list[str]], numbers: list[list[str]], gap: int, broken: bool) -> str:
    """Draws columns beside each other, the header above a rule.

    Args:
        names: columns that name a row, aligned to the left; each begins with its header.
        numbers: the other columns, aligned to the right.
        gap: spaces between columns.
        broken: whether a header may be broken into lines at its spaces, as narrow as its column.
    """
    columns = [*names, *numbers]
    lines = [
        [_lines(cell, _NAME if place < len(names) or row else max(map(len, cell.split() or [""])) if broken else len(cell))
         for row, cell in enumerate(column)]
        for place, column in enumerate(columns)
    ]  # fmt: skip
    widths = [max(len(line) for cell in column for line in cell) for column in lines]
    drawn: list[str] = []
    for row in range(len(columns[0])):
        cells = [column[row] for column in lines]
        height = max(map(len, cells))
        for number in range(height):
            # A header of fewer lines stands at the bottom, a name's numbers at the top.
            at = [number - (height - len(cell)) if row == 0 else number for cell in cells]
            words = [cell[place] if 0 <= place < len(cell) else "" for cell, place in zip(cells, at, strict=True)]
            drawn.append((" " * gap).join(
                word.ljust(width) if place < len(names) else word.rjust(width)
                for place, (word, width) in enumerate(zip(words, widths, strict=True))
            ).rstrip())  # fmt: skip
        if row == 0:
            drawn.append("─" * (sum(widths) + gap * (len(widths) - 1)))
    return "\n".join(drawn)


def _lines(text: str, width: int) -> list[str]:
    """Breaks a text into lines, at spaces if it has any."""
    return textwrap.wrap(text, max(width, 1), break_on_hyphens=False) or [""]


def _width(drawn: str) -> int:
    return max(map(len, drawn.splitlines()))


def wrapped(text: str) -> str:
    """Breaks each line of a text at spaces, so that it fits the terminal; a path or another long word stays whole."""
    return "\n".join(
        textwrap.fill(line, WIDTH, break_on_hyphens=False, break_long_words=False) if len(line) > WIDTH else line
        for line in text.splitlines()
    )
