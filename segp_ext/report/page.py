"""Building blocks of a page, written once and shown twice: as Markdown, and as one HTML file that needs no other.

page.css, beside this file, holds the colours and the layout. `run_page` and `comparison_page` say what stands on the pages.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from segp_ext.report.table import Cell, Drawn, Link, Share, Table, markdown_table

_NUMBER = re.compile(r"([+-]?[\d.,]+)( ± [\d.]+)?(?: \((.*)\))?")
"""A number as tables have it, with a spread or with an interval or a note behind it."""


@dataclass
class Page:
    """Blocks of a page in order. Strings may have `code` in them and no other marks.

    Attributes:
        title: the first heading, and the title of the document.
        note: a short line below the title.
        blocks: (kind, content) of everything that was added.
    """

    title: str
    note: str = ""
    blocks: list[tuple[str, Any]] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """Adds a heading of the second rank; HTML lists these headings at its beginning."""
        self.blocks.append(("heading", text))

    def lead(self, text: str) -> None:
        """Adds the paragraph that says what matters most."""
        self.blocks.append(("lead", text))

    def text(self, text: str) -> None:
        """Adds a paragraph."""
        self.blocks.append(("text", text))

    def items(self, items: Sequence[str | Link], numbered: bool = False) -> None:
        """Adds a list."""
        self.blocks.append(("numbers" if numbered else "items", list(items)))

    def terms(self, terms: Mapping[str, str]) -> None:
        """Adds a list of terms with their meaning."""
        self.blocks.append(("terms", dict(terms)))

    def table(self, table: Table) -> None:
        """Adds a table with its caption."""
        self.blocks.append(("table", table))

    def figure(self, caption: str, drawn: str, file: str | None = None) -> None:
        """Adds a picture.

        Args:
            caption: text that says what the picture shows.
            drawn: the picture as HTML, such as an inline SVG.
            file: path of an image that Markdown links to, from the page's folder; None leaves the picture out there.
        """
        self.blocks.append(("figure", (caption, drawn, file)))

    def fold(self, summary: str) -> Page:
        """Adds a part that HTML shows when it is opened, and that Markdown leaves out; returns the part, to add blocks to."""
        part = Page(summary)
        self.blocks.append(("fold", part))
        return part

    def columns(self) -> Page:
        """Adds a part whose blocks HTML sets beside each other if the window is wide; returns the part, to add blocks to."""
        part = Page("")
        self.blocks.append(("columns", part))
        return part

    def html_only(self) -> Page:
        """Adds a part that Markdown leaves out; returns the part, to add blocks to."""
        part = Page("")
        self.blocks.append(("html", part))
        return part

    def markdown(self) -> str:
        """Writes the page as Markdown."""
        head = [f"# {self.title}", *([self.note] if self.note else [])]
        return "\n\n".join([*head, *_markdown_blocks(self)]) + "\n"

    def html(self) -> str:
        """Writes the page as one HTML file."""
        headings = _headings(self)
        links = "".join(f'<li><a href="#{_anchor(text)}">{_escaped(text)}</a></li>' for text in headings)
        note = f'\n<p class="note">{_escaped(self.note)}</p>' if self.note else ""
        contents = f'\n<nav aria-label="On this page"><ul>{links}</ul></nav>' if headings else ""
        return (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{html.escape(self.title)}</title>\n'
            f"<style>\n{style()}</style>\n</head>\n<body>\n<header>\n<h1>{_escaped(self.title)}</h1>{note}\n</header>\n<main>\n"
            + "\n".join(_html_blocks(self, contents))
            + "\n</main>\n</body>\n</html>\n"
        )


def _headings(page: Page) -> list[str]:
    """Collects the headings of a page and of its parts for HTML alone."""
    parts = [
        [content] if kind == "heading" else _headings(content) if kind == "html" else []
        for kind, content in page.blocks
    ]
    return [heading for part in parts for heading in part]


@cache
def style() -> str:
    """Returns the style sheet of all pages."""
    return Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def _markdown_blocks(page: Page) -> list[str]:
    """Writes all blocks that Markdown shows."""
    parts = [_MARKDOWN[kind](content) for kind, content in page.blocks]
    return [part for part in parts if part]


def _html_blocks(page: Page, contents: str = "") -> list[str]:
    """Writes all blocks; the list of headings stands before the first heading."""
    parts = []
    for kind, content in page.blocks:
        if contents and (kind == "heading" or (kind == "html" and _headings(content))):
            parts.append(contents.strip())
            contents = ""
        parts.append(_HTML[kind](content))
    return parts


def _escaped(text: str) -> str:
    """Writes text as HTML; what stands between backticks becomes code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # an odd backtick is itself
        return html.escape(text)
    return "".join(f"<code>{html.escape(p)}</code>" if n % 2 else html.escape(p) for n, p in enumerate(parts))


def _linked(item: str | Link) -> str:
    """Writes text or a link as HTML."""
    if isinstance(item, Link):
        return f'<a href="{quote(item.target, safe="/=,+")}">{html.escape(item.text)}</a>'
    return _escaped(item)


def _anchor(heading: str) -> str:
    """Makes the id of a heading."""
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def _cell(cell: Cell) -> str:
    """Writes a cell that holds a number or a drawing."""
    if isinstance(cell, Share):
        text = str(cell)
        return f'<td class="{cell.kind}" style="--share:{100 * cell.value:.1f}%">{text}</td>' if text else "<td></td>"
    if isinstance(cell, Drawn):
        return f'<td class="drawn">{cell.html}</td>'
    number = _NUMBER.fullmatch(cell) if isinstance(cell, str) else None
    if number is None:
        return f"<td>{_linked(cell)}</td>"
    main, apart, behind = number.groups()
    return (
        f"<td>{main}"
        + (f'<small class="apart">{apart}</small>' if apart else "")
        + (f' <small class="behind">({html.escape(behind)})</small>' if behind else "")
        + "</td>"
    )


def side_by_side(tables: Sequence[Table]) -> str:
    """Draws tables of numbers beside each other, as many as fit."""
    least = max(11, *(5 + 2 * (len(table.header) - 1) for table in tables))
    drawn = "".join(f"<div>{table_html(table)}</div>" for table in tables)
    return f'<div class="matrices" style="--least:{least}rem">{drawn}</div>'


def table_html(table: Table) -> str:
    """Writes a table in a box of its own, which scrolls sideways if the table is wider than the window."""
    caption = _escaped(table.caption)
    heads = [
        f'<th scope="col"{_kind(table, place)}><span>{_escaped(name)}</span></th>'
        for place, name in enumerate(table.header)
    ]
    lines = [
        f'<section class="scroll" tabindex="0" aria-label="{html.escape(table.caption or "table")}">',
        "<table>" + (f"\n<caption><span>{caption}</span></caption>" if caption else ""),
        f"<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>",
    ]
    before: object = None
    for number, row in enumerate(table.rows):
        names = "".join(f'<th scope="row"><span>{_linked(_plain(cell))}</span></th>' for cell in row[: table.names])
        first = table.names > 1 and row[0] != before
        classes = " ".join(["first"] * first + ["marked"] * (number in table.marked))
        before = row[0]
        cells = "".join(
            f'<td class="words"><span>{_linked(_plain(cell))}</span></td>' if place in table.words else _cell(cell)
            for place, cell in enumerate(row[table.names :], start=table.names)
        )
        lines.append(f"<tr{f' class={chr(34)}{classes}{chr(34)}' if classes else ''}>{names}{cells}</tr>")
    return "\n".join([*lines, "</tbody>\n</table>\n</section>"])


def _kind(table: Table, place: int) -> str:
    """Gives the attribute that sets a header as its column is set: names and bars to the left, drawings in the middle."""
    below = table.rows[0][place] if table.rows else ""
    if place < table.names:
        return ' class="name"'
    if place in table.words:
        return ' class="words"'
    if isinstance(below, Share):
        return f' class="{below.kind}"'
    return ' class="drawn"' if isinstance(below, Drawn) else ""


def _plain(cell: Cell) -> str | Link:
    return cell if isinstance(cell, (str, Link)) else str(cell)


def _html_list(items: Sequence[str | Link], tag: str) -> str:
    return f"<{tag}>\n" + "\n".join(f"<li>{_linked(item)}</li>" for item in items) + f"\n</{tag}>"


def _html_terms(terms: Mapping[str, str]) -> str:
    rows = "\n".join(
        f"<div><dt>{_escaped(term)}</dt><dd>{_escaped(meaning)}</dd></div>" for term, meaning in terms.items()
    )
    return f'<dl class="terms">\n{rows}\n</dl>'


def _html_figure(content: tuple[str, str, str | None]) -> str:
    caption, drawn, _ = content
    return f"<figure>\n<figcaption>{_escaped(caption)}</figcaption>\n{drawn}\n</figure>"


def _html_fold(part: Page) -> str:
    return f"<details>\n<summary>{_escaped(part.title)}</summary>\n" + "\n".join(_html_blocks(part)) + "\n</details>"


def _html_columns(part: Page) -> str:
    return '<div class="columns">\n' + "\n".join(_html_blocks(part)) + "\n</div>"


def _markdown_items(items: Sequence[str | Link], mark: Callable[[int], str]) -> str:
    lines = []
    for number, item in enumerate(items, start=1):
        text = f"[{item.text}](<{item.target}>)" if isinstance(item, Link) else item
        lines.append(f"{mark(number)} {text}")
    return "\n".join(lines)


def _markdown_whole_table(table: Table) -> str:
    parts = [table.caption, markdown_table([table.header, *table.rows])]
    return "\n\n".join(filter(None, parts))


_MARKDOWN: dict[str, Callable[[Any], str]] = {
    "heading": lambda text: f"## {text}",
    "lead": lambda text: f"**{text}**",
    "text": lambda text: text,
    "items": lambda items: _markdown_items(items, lambda number: "-"),
    "numbers": lambda items: _markdown_items(items, lambda number: f"{number}."),
    "terms": lambda terms: "\n".join(f"- **{term}**: {meaning}" for term, meaning in terms.items()),
    "table": _markdown_whole_table,
    "figure": lambda content: f"![{content[0]}]({content[2]})" if content[2] else "",
    "fold": lambda part: "",
    "html": lambda part: "",
    "columns": lambda part: "\n\n".join(_markdown_blocks(part)),
}
_HTML: dict[str, Callable[[Any], str]] = {
    "heading": lambda text: f'<h2 id="{_anchor(text)}">{_escaped(text)}</h2>',
    "lead": lambda text: f'<p class="lead">{_escaped(text)}</p>',
    "text": lambda text: f"<p>{_escaped(text)}</p>",
    "items": lambda items: _html_list(items, "ul"),
    "numbers": lambda items: _html_list(items, "ol"),
    "terms": _html_terms,
    "table": table_html,
    "figure": _html_figure,
    "fold": _html_fold,
    "html": lambda part: "\n".join(_html_blocks(part)),
    "columns": _html_columns,
}
