"""A page for people, written once and shown twice: as Markdown, and as one HTML file that needs no other."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; color: #1c1c1c; background: #fff; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ccc; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #666; }
img { max-width: 100%; height: auto; }
code { background: #f2f2f2; padding: .1rem .3rem; overflow-wrap: anywhere; }
figure { margin: 1.5rem 0; }
@media (prefers-color-scheme: dark) {
  body { color: #e6e6e6; background: #161616; } code { background: #2a2a2a; } th, td { border-color: #444; } img { background: #fff; }
}
"""


@dataclass
class Page:
    """Blocks of a page in order; texts may have `code` in them and no other marks.

    Attributes:
        title: the first heading.
        blocks: what was added, each a heading, text, list, table or picture.
    """

    title: str
    blocks: list[tuple[str, object]] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """Adds a heading of the second rank."""
        self.blocks.append(("heading", text))

    def text(self, text: str) -> None:
        """Adds a paragraph."""
        self.blocks.append(("text", text))

    def items(self, items: Sequence[str], numbered: bool = False) -> None:
        """Adds a list."""
        self.blocks.append(("numbers" if numbered else "items", list(items)))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Adds a table, whose first column is aligned to the left and the others to the right."""
        self.blocks.append(("table", [list(header), *map(list, rows)]))

    def picture(self, name: str, caption: str) -> None:
        """Adds an image file, by its path from the page's folder."""
        self.blocks.append(("picture", (name, caption)))

    def markdown(self) -> str:
        """The page as Markdown; pictures are linked."""
        parts = [f"# {self.title}"]
        for kind, content in self.blocks:
            parts.append(_MARKDOWN[kind](content))
        return "\n\n".join(parts) + "\n"

    def html(self, folder: Path) -> str:
        """The page as one HTML file; pictures are read from `folder` and stand in it, those that are gone by their captions alone."""
        body = [f"<h1>{_escaped(self.title)}</h1>"]
        for kind, content in self.blocks:
            body.append(_picture(folder, *content) if kind == "picture" else _HTML[kind](content))  # type: ignore[misc]
        return (
            f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{html.escape(self.title)}</title>\n'
            f"<style>\n{_STYLE}</style>\n</head>\n<body>\n" + "\n".join(body) + "\n</body>\n</html>\n"
        )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def markdown_table(rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """A table, its header first, as Markdown: the first column aligned to the left, the others, if they are numbers, to the right."""
    lines = ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|---" + ("|---:" if numbers else "|---") * (len(rows[0]) - 1) + "|", *lines[1:]])


def _escaped(text: str) -> str:
    """Text as HTML; what stands between backticks as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # an odd backtick is itself
        return html.escape(text)
    return "".join(f"<code>{html.escape(p)}</code>" if n % 2 else html.escape(p) for n, p in enumerate(parts))


def _html_table(rows: list[list[str]]) -> str:
    head, *body = rows
    lines = ["<table>", "<thead><tr>" + "".join(f"<th>{_escaped(c)}</th>" for c in head) + "</tr></thead>", "<tbody>"]
    lines += ["<tr>" + "".join(f"<td>{_escaped(c)}</td>" for c in row) + "</tr>" for row in body]
    return "\n".join([*lines, "</tbody>", "</table>"])


def _html_list(items: list[str], tag: str) -> str:
    return f"<{tag}>\n" + "\n".join(f"<li>{_escaped(item)}</li>" for item in items) + f"\n</{tag}>"


def _picture(folder: Path, name: str, caption: str) -> str:
    words = _escaped(caption)
    if not (folder / name).is_file():
        return f"<p>{words}: {html.escape(name)} is not there.</p>"
    data = base64.b64encode((folder / name).read_bytes()).decode()
    return f'<figure><img src="data:image/png;base64,{data}" alt="{html.escape(caption)}"><figcaption>{words}</figcaption></figure>'


_MARKDOWN = {
    "heading": lambda text: f"## {text}",
    "text": lambda text: text,
    "items": lambda items: "\n".join(f"- {item}" for item in items),
    "numbers": lambda items: "\n".join(f"{number}. {item}" for number, item in enumerate(items, start=1)),
    "table": markdown_table,
    "picture": lambda picture: f"![{picture[1]}]({picture[0]})",
}
_HTML = {
    "heading": lambda text: f"<h2>{_escaped(text)}</h2>",
    "text": lambda text: f"<p>{_escaped(text)}</p>",
    "items": lambda items: _html_list(items, "ul"),
    "numbers": lambda items: _html_list(items, "ol"),
    "table": _html_table,
}
