"""Makes docs/images/accuracy.svg, the picture in README.md: the first chart of a run's report.html, as a file of its own.

python -m segp_ext.train --run.name readme
python scripts/readme_chart.py runs/readme > docs/images/accuracy.svg
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

WIDTH = 660
"""Width of the picture in pixels."""


def chart(report: str) -> str:
    """Returns the first chart of a report as a whole SVG file, with the page's colours for a light background.

    Raises:
        ValueError: if the report holds no chart or no style sheet.
    """
    style = re.search(r"<style>(.*?)</style>", report, re.DOTALL)
    found = re.search(r'<svg([^>]*viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*)>(.*?)</svg>', report, re.DOTALL)
    if style is None or found is None:
        raise ValueError("the page must be a run's report.html with a chart; it holds no chart or no style sheet")
    attributes, width, height, content = found.groups()
    colours = re.search(r":root \{.*?\}", style[1], re.DOTALL)
    rules = [line for line in style[1].splitlines() if re.match(r"svg(?!\.)|\.s0", line)]
    sheet = "\n".join([colours[0].replace("light dark", "light") if colours else "", *rules])
    size = f'width="{WIDTH}" height="{WIDTH * float(height) / float(width):.0f}"'
    return (
        f"<svg{attributes} {size}>\n<style>\n{sheet}\n</style>\n"
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>\n{content}</svg>\n'
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.stdout.write(chart(Path(sys.argv[1], "report.html").read_text(encoding="utf-8")))
