"""Reads HTML pages, for tests of their structure and contents."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from urllib.parse import unquote

_VOID = {"meta", "br", "img", "link", "hr"}
_SVG = "{http://www.w3.org/2000/svg}"


class _Checked(HTMLParser):
    """A parser that asserts that elements are nested well, and collects ids and the targets of links."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        assert len(values) == len(attrs), f"<{tag}> has an attribute twice"
        self.ids += [value for key, value in attrs if key == "id" and value]
        self.links += [value for key, value in attrs if key == "href" and value]
        assert not (tag in ("p", "table", "figure", "div", "ul", "dl") and "p" in self.open), f"<{tag}> within <p>"
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass  # elements of an SVG that have no content

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"


def parsed(page: str) -> list[str]:
    """Reads a whole page, checks its structure, and returns the targets of its links."""
    reader = _Checked()
    reader.feed(page)
    reader.close()
    assert reader.open == [] and page.startswith("<!DOCTYPE html>")
    assert len({*reader.ids}) == len(reader.ids)
    assert {link[1:] for link in reader.links if link.startswith("#")} <= {*reader.ids}
    for table in re.findall(r"<table>.*?</table>", page, re.DOTALL):
        widths = {len(re.findall(r"<t[hd][ >]", row)) for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)}
        assert len(widths) == 1, f"rows of {widths} cells: {table[:200]}"
        assert 'scope="col"' in table
    for svg in pictures(page):
        hidden = svg.get("aria-hidden") == "true"
        assert hidden or (svg.findtext(f"{_SVG}title") and svg.findtext(f"{_SVG}desc") and svg.get("role") == "img")
        assert svg.get("viewBox")
    return [unquote(link) for link in reader.links]


def pictures(page: str) -> list[ET.Element]:
    """Reads each inline SVG of a page as XML."""
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def texts(svg: ET.Element) -> list[tuple[float, float, str]]:
    """Returns x, y and the words of each string in a picture."""
    found = []
    for text in svg.iter(f"{_SVG}text"):
        spans = list(text.iter(f"{_SVG}tspan")) or [text]
        found += [(float(span.get("x", 0)), float(span.get("y", 0)), span.text or "") for span in spans]
    return found


def of_class(svg: ET.Element, name: str) -> list[str]:
    """Returns the paths (attribute `d`) of all shapes in a picture that have the class `name`."""
    return [shape.get("d", "") for shape in svg.iter() if name in (shape.get("class") or "").split()]
