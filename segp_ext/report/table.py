"""A table and its cells: what the terminal, Markdown and HTML show alike."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Link:
    """A cell that leads somewhere.

    Attributes:
        text: words of the link.
        target: address, relative to the page's folder.
    """

    text: str
    target: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Share:
    """A cell with a fraction in percent, which HTML also shows by a bar or a shade.

    Attributes:
        value: fraction; NaN leaves the cell empty.
        kind: "bar" or "heat".
        digits: decimals of the percentage.
    """

    value: float
    kind: str = "bar"
    digits: int = 1

    def __str__(self) -> str:
        return "" if math.isnan(self.value) else f"{100 * self.value:z.{self.digits}f}"


@dataclass(frozen=True)
class Drawn:
    """A cell that HTML draws.

    Attributes:
        html: what HTML shows.
        text: what Markdown and the terminal show in its place.
    """

    html: str
    text: str = ""

    def __str__(self) -> str:
        return self.text


Cell = str | Link | Share | Drawn


@dataclass(frozen=True)
class Table:
    """A table with its caption and the meaning of its columns.

    Attributes:
        caption: what the table shows.
        header: column names.
        rows: cells, one list per row.
        legend: meaning by column name, or by a group of columns.
        names: number of leading columns that name a row.
        optional: places of columns that a narrow terminal may leave out in part.
        marked: places of rows that HTML sets off from the others.
        words: places of columns of words, which HTML aligns to the left and breaks into lines.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    legend: Mapping[str, str] = field(default_factory=dict)
    names: int = 1
    optional: range = range(0)
    marked: Sequence[int] = ()
    words: Sequence[int] = ()

    def legend_text(self) -> str:
        """Writes the legend as sentences."""
        return " ".join(f"{column}: {meaning}." for column, meaning in self.legend.items())

    def optional_last(self) -> Table:
        """Moves the optional columns behind the others, where a narrow page scrolls to them."""
        order = [place for place in range(len(self.header)) if place not in self.optional] + [*self.optional]
        first = len(self.header) - len(self.optional)
        return replace(
            self,
            header=[self.header[place] for place in order],
            rows=[[row[place] for place in order] for row in self.rows],
            optional=range(first, len(order)),
        )


def percent(value: float | None) -> str:
    """Writes a fraction as percent with one decimal; a dash for None, and no sign before a zero."""
    return "–" if value is None else f"{100 * value:z.1f}"


def signed(value: float, digits: int = 1) -> str:
    """Writes a number with its sign; a number that rounds to zero has none."""
    written = f"{value:+z.{digits}f}"
    return written if float(written) else written.removeprefix("+")


def spread(values: Sequence[float | None]) -> str:
    """Writes the mean ± sample standard deviation of fractions, in percent; a dash if a value is missing."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "–"
    mean = percent(statistics.fmean(known))
    return mean if len(known) == 1 else f"{mean} ± {100 * statistics.stdev(known):.1f}"


def markdown_table(rows: Sequence[Sequence[Cell]], numbers: bool = True) -> str:
    """Writes a table as Markdown.

    Args:
        rows: cells; the first row is the header.
        numbers: whether to align all columns but the first to the right.
    """
    lines = ["| " + " | ".join(map(_markdown_cell, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|---" + ("|---:" if numbers else "|---") * (len(rows[0]) - 1) + "|", *lines[1:]])


def _markdown_cell(cell: Cell) -> str:
    """Writes a cell; a bar or a line break in its text does not end it."""
    text = str(cell).replace("|", "\\|").replace("\n", " ")
    return f"[{text}](<{cell.target}>)" if isinstance(cell, Link) else text
