"""README.md and the pages name what is there: links, sections, files, figures."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from documented import PAGES, ROOT

import segp_ext
from segp_ext.config import Config

WORDS = 1000
"""README.md has fewer, its code blocks left out."""
OTHERS = [ROOT / "CHANGELOG.md"]


def outside_code(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as MkDocs and repository hosts make them."""
    headings = re.findall(r"^#+ (.+)$", outside_code(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", outside_code(page.read_text(encoding="utf-8"))):
        if re.match(r"https?:", link):
            continue
        path, _, section = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (section and section not in anchors(target)):
            broken.append(link)
    return broken


def absent_files(page: Path) -> list[str]:
    """Files and folders of the checkout that a page names in backticks, and that are not there."""
    folders = "segp_ext|csrc|python|tests|scripts|benchmarks|evidence|docs|examples"
    named = re.findall(rf"`((?:{folders})/[\w./-]*)(?:::\w+)?`", outside_code(page.read_text(encoding="utf-8")))
    return [name for name in named if not re.search(r"NAME|OP|PART|MODULE", name) and not (ROOT / name).exists()]


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.name)
def test_links_and_files_are_there(page):
    assert broken_links(page) == [] and absent_files(page) == []


def test_what_is_not_there_is_seen(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One heading\n[a](page.md#one-heading) [b](page.md#two) [c](absent.md) `scripts/absent.py`\n")
    assert broken_links(page) == ["page.md#two", "absent.md"] and absent_files(page) == ["scripts/absent.py"]


def test_readme_is_short():
    words = outside_code((ROOT / "README.md").read_text(encoding="utf-8")).split()
    assert len(words) < WORDS


def figures(summary: str, row: str, path: str) -> str:
    """The first line of a comparison's page that holds the figures of a row and path."""
    text = (ROOT / "evidence/results" / summary / "summary.md").read_text(encoding="utf-8")
    return next(line for line in text.splitlines() if line.startswith(f"| {row} | {path} |"))


def test_readme_s_numbers_are_those_of_the_results():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for summary, row, path, shown in (
        ("digits", "segp", "text", "71.9 ± 2.4"),
        ("natural", "segp", "dual", "57.9 ± 1.3"),
        ("natural", "lora", "dual", "54.8 ± 1.5"),
        ("natural", "frozen lda", "visual", "55.4 ± 1.1"),
    ):
        assert shown in readme and shown in figures(summary, row, path), (row, shown)
    text = (ROOT / "evidence/results/digits/summary.md").read_text(encoding="utf-8")
    for row, shown in (("segp", "1.1 ± 1.7"), ("lora", "7.4 ± 3.0"), ("seeds", "0.8 ± 0.9")):
        assert shown in readme and re.search(rf"^\| {row} \|[^\n]*{shown} \|", text, re.MULTILINE), (row, shown)


def test_the_reference_holds_every_public_name_once():
    """The names of the package, and every section of its settings."""
    text = "".join((ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("api.md", "ops.md"))
    shown = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    assert len({*shown}) == len(shown)
    assert {f"segp_ext.{name}" for name in segp_ext.__all__} - {"segp_ext.__version__"} <= {*shown}
    sections = {type(getattr(Config(), field.name)).__name__ for field in dataclasses.fields(Config)}
    assert {name for name in sections if name.endswith("Config")} <= {*re.findall(r"\w+Config", text)}


def test_the_version_is_one():
    """CITATION.cff and the changes name the version that pyproject.toml builds."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == version
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[([\d.]+)\]", changes, re.MULTILINE)[1] == version.removesuffix(".dev0")
