"""Makes an inline SVG of a page a file of its own, with the page's colours for light and dark windows."""

from __future__ import annotations

import re

from segp_ext.report.page import style


def svg_file(drawn: str) -> bytes:
    """Returns the first SVG in a piece of HTML as a file.

    Args:
        drawn: HTML with an inline SVG, as `svg_chart`, `svg_confusion` and `svg_calibration` draw it.

    Raises:
        ValueError: If it holds no SVG.
    """
    found = re.search(r'<svg([^>]*viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*)>(.*?)</svg>', drawn, re.DOTALL)
    if found is None:
        raise ValueError("the HTML must hold an inline SVG")
    attributes, width, height, content = found.groups()
    attributes = re.sub(r' style="[^"]*"', "", attributes)
    colours = re.findall(r"^:root \{.*?^\}|^@media \(prefers-color-scheme.*?^\}", style(), re.DOTALL | re.MULTILINE)
    rules = [line for line in style().splitlines() if re.match(r"svg(?!\.)|\.s0", line)]
    sheet = "\n".join([*colours, *(rule.replace("width: 100%; height: auto; ", "") for rule in rules)])
    return (
        f'<svg{attributes} width="{width}" height="{height}">\n<style>\n{sheet}\n</style>\n'
        f'<rect width="{width}" height="{height}" style="fill: var(--back)"/>\n{content}</svg>\n'
    ).encode()
