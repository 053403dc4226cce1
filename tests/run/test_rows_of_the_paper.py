"""The lists of rows in the package: each one gives the columns of its table in the paper, on made data."""

import csv
import re

import pytest
from run_here import runs_here
from trees import cifar100, make

from segp_ext import compare
from segp_ext.run.rows import read_rows

MADE = [
    "--seeds", "1", "--config", "cifar100", "--model.name=glyph", "--model.pretrained=null", "--data.order=null",
    "--data.classes_per_task=3", "--training.epochs=1", "--anchors.seeds_per_class=2", "--anchors.reference=digits", "--lora.rank=2",
]  # fmt: skip
"""What needs weights and images is replaced on the command line; everything else is a table's own."""


def tables_of(page):
    """The tables of a page in Markdown, each as rows by column."""
    blocks = re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)
    found = []
    for block in blocks:
        header, _, *rows = (
            [cell.strip() for cell in line.strip().strip("|").split("|")] for line in block.splitlines()
        )
        found.append([dict(zip(header, row, strict=True)) for row in rows])
    return found


def row_of(table, method, path=None):
    return next(row for row in table if row["method"] == method and row.get("path") in (path, None))


@pytest.fixture
def compared_rows(tmp_path, monkeypatch):
    """Runs a list of methods on made data, in this process, and gives the tables of its page by name."""
    runs_here(monkeypatch)

    def run(rows, *arguments, without=()):
        archive = cifar100(tmp_path / "data", per_class=(3, 2), classes=6)
        labels = [label for label in read_rows(f"paper/{rows}") if label.split()[0] not in without]
        given = ["--methods", *labels, f"--out={tmp_path / rows}", f"--data.root={archive}", *MADE, *arguments]
        assert compare.main(given) == 0
        tables = tables_of((tmp_path / rows / "summary.md").read_text())
        names = ["seen", "global", *(["retention"] if len(tables) == 4 else []), "cost"]
        return dict(zip(names, tables, strict=True))

    return run


NUMBER = r"[+-]?\d+\.\d"


@pytest.mark.slow
def test_main_has_the_columns_of_tables_one_and_two(compared_rows):
    # adc takes 100 seeds of each class, ranpac 10,000 random features: too much for made data
    tables = compared_rows("main", without=("adc", "ranpac"))
    for path in ("text", "dual"):  # the paper's onlyCLIP, and its method
        row = row_of(tables["seen"], "segp", path)
        assert re.fullmatch(NUMBER, row["Avg"]) and re.fullmatch(NUMBER, row["Last"])
    assert re.fullmatch(NUMBER, row_of(tables["seen"], "zero-shot", "text")["Last"])
    own = row_of(tables["global"], "segp")
    assert all(re.fullmatch(NUMBER, own[f"global {name}"]) for name in ("FWT", "BWT", "Forgetting", "Last"))
    assert own["global Last"] == row_of(tables["seen"], "segp", "text")["Last"]
    assert row_of(tables["global"], "zero-shot")["global BWT"] == "0.0"
    assert {row["method"] for row in tables["global"]} >= {"zero-shot", "segp", "lora", "joint", "linear-probe"}


@pytest.mark.slow
def test_sources_has_the_columns_of_table_three(compared_rows):
    tables = compared_rows("sources")
    row = row_of(tables["seen"], "segp prototypes.transfer=none", "text")
    assert re.fullmatch(NUMBER, row["Avg − lora's"]) and re.fullmatch(NUMBER, row["Last − lora's"])
    assert row_of(tables["seen"], "lora", "text")["Avg − lora's"] == "–"


@pytest.mark.slow
def test_parts_has_the_columns_of_table_four(compared_rows):
    tables = compared_rows("parts")
    steps = ["lora", "segp text_geometry.weight=0 prototypes.transfer=none", "segp prototypes.transfer=none", "segp"]
    assert read_rows("paper/parts")[:4] == steps
    for method, path in [*((step, "text") for step in steps), ("segp", "dual")]:
        row = row_of(tables["seen"], method, path)
        assert re.fullmatch(NUMBER, row["Last"]) and re.fullmatch(NUMBER, row["Forgetting"])


@pytest.mark.slow
def test_robustness_has_the_columns_of_table_five(compared_rows, tmp_path):
    held = [make(tmp_path / name, {f"{c}": 3 for c in ("ant", "bee", "cow")}) for name in ("food", "pets", "imagenet")]
    tables = compared_rows("robustness", f"--held_out=[{','.join(map(str, held))}]")
    rows = [row for row in tables["retention"] if row["method"] == "segp"]
    assert [row["data set"] for row in rows] == ["food", "pets", "imagenet"]
    # the model's weights are random
    assert all(
        re.fullmatch(rf"{NUMBER} \(chance\)", row["before"]) and re.fullmatch(NUMBER, row["after the last task"])
        for row in rows
    )


@pytest.mark.slow
def test_places_has_the_columns_of_table_six(compared_rows):
    tables = compared_rows("places")
    counts = {}
    for method in ("segp", "lora"):
        for places in ("kv", "ffn", "kv+ffn"):
            for rank in (8, 32):
                label = f"{method} lora.targets={places} lora.rank={rank}"
                assert re.fullmatch(NUMBER, row_of(tables["seen"], label, "dual")["Last"])
                cost = row_of(tables["cost"], label)
                assert int(cost["ms/step"]) > 0
                counts[method, places, rank] = float(cost["trained"].removesuffix(" k"))
    assert counts["segp", "kv", 8] < counts["segp", "ffn", 8] < counts["segp", "kv+ffn", 8]
    assert counts["segp", "kv+ffn", 8] < counts["segp", "kv+ffn", 32] == counts["lora", "kv+ffn", 32]


@pytest.mark.slow
def test_a_table_of_the_papers_runs_by_its_command(tmp_path, capsys):
    """Each run in a process of its own, as users have it."""
    archive = cifar100(tmp_path / "data", per_class=(3, 2), classes=6)
    arguments = ["--rows=paper/parts", "--jobs", "2", f"--out={tmp_path / 'out'}", f"--data.root={archive}", *MADE]
    assert compare.main(arguments) == 0
    lines = list(csv.DictReader((tmp_path / "out/results.csv").open()))
    assert {line["row"] for line in lines} >= {*read_rows("paper/parts"), "zero-shot", "frozen prototypes"}
    assert all(line["protocol"].startswith("segp-cifar100+changed-") for line in lines)
    said = capsys.readouterr().out
    assert "6 runs, 0 of them done" in said
    for heading in ("Over seen classes: ", "Global, text path: ", "Cost. "):
        assert heading in said
