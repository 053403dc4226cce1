"""README.md's picture and table are of one run, and its script takes a report's first chart out."""

from __future__ import annotations

import importlib.util
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("readme_chart", ROOT / "scripts/readme_chart.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_shows_the_table_s_figures():
    picture = ElementTree.parse(ROOT / "docs/images/accuracy.svg").getroot()
    told = dict(re.findall(r"([\w ()-]+): ([\d., ]+)\.(?: |$)", picture.findtext(f"{SVG}desc").partition(". ")[2]))
    for page in ("README.md", "docs/start.md"):
        table = re.search(r"```\nrow .*?\n─+\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)[1]
        rows = {line[:17].strip(): ", ".join(line[17:].split()[:5]) for line in table.splitlines()}
        assert rows == told


def test_the_first_chart_becomes_a_file(script):
    style = "<style>:root {\n color-scheme: light dark; --s0: red; }\nbody {}\nsvg .line {}\n.s0 {}\n</style>"
    report = f'{style}<svg role="img" viewBox="0 0 440 290"><text>1</text></svg><svg viewBox="0 0 1 1"/>'
    made = ElementTree.fromstring(script.chart(report))
    assert (made.get("width"), made.get("height")) == ("660", "435") and made.findtext(f"{SVG}text") is None
    assert (
        made.findtext("text") == "1" and "body" not in made.findtext("style") and "--s0: red" in made.findtext("style")
    )


@pytest.mark.parametrize("report", ["<style></style>", '<svg viewBox="0 0 4 2"></svg>'])
def test_a_page_without_a_chart_is_refused(report, script):
    with pytest.raises(ValueError, match="report.html with a chart"):
        script.chart(report)
