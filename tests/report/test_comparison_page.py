"""The page of a comparison, of made results."""

import re

import pytest
from made_pages import parsed, pictures
from made_results import made_run

from segp_ext.config.methods import METHODS
from segp_ext.report import comparison_page, glossary
from segp_ext.report.comparison import Comparison

LONG = "joint lora.targets=[attn.in_proj,attn.out_proj,mlp.c_fc,mlp.c_proj]"


def compared(rows, seeds=(1, 2, 3), tasks=3):
    return Comparison({(row, seed): made_run(tasks, 2, row, seed) for row in rows for seed in seeds}, "segp compare")


@pytest.mark.parametrize("tasks", [1, 3])
@pytest.mark.parametrize(
    "rows", [["segp"], ["segp", "lwf"], ["segp", LONG, *(f"segp lora.rank={n}" for n in range(9))]]
)
def test_a_page_is_well_formed_whatever_the_number_of_rows(rows, tasks):
    found = compared(rows, tasks=tasks)
    shown = comparison_page.page(found, {}).html()
    links = parsed(shown)
    runs = [f"runs/{found.results[row, seed].name}/report.html" for row in rows for seed in (1, 2, 3)]
    assert [link for link in links if link.startswith("runs/")] == runs
    assert shown.index('class="lead"') < shown.index('class="interval"') < shown.index("<nav")
    for row in rows:
        assert f"<dt>{row}</dt>" in shown
    assert ("Forgetting after each task" in shown) == (tasks > 1)


def test_the_reference_and_each_row_stand_in_the_picture_of_differences():
    found = compared(["segp", "lwf"])
    shown = comparison_page.page(found, {}).html()
    table = re.search(r"Accuracy after the last task against segp.*?</table>", shown, re.DOTALL)[0]
    rows = re.findall(r'<th scope="row"><span>(.*?)</span></th>.*<td class="words"><span>(.*?)</span></td>', table)
    assert rows[0] == ("segp", "dual") and {*rows[1:]} == {
        ("lwf", "dual"), ("zero-shot", "text"), ("frozen prototypes", "visual"), ("frozen rda", "visual"),
    }  # fmt: skip
    assert table.count('class="interval"') == 4
    assert str(found.predicted_difference("zero-shot", "last")).split()[0] in table


def test_classes_stand_worst_first_whatever_the_order_of_a_seed():
    """A seed has an order of classes of its own; they are told apart by their names."""
    runs = {}
    for row, hits in {"a": (5, 20), "b": (20, 5)}.items():
        for seed in (1, 2):
            run = made_run(1, 2, row, seed)
            run.class_names = ["cat", "dog"] if seed == 1 else ["dog", "cat"]
            of_class = dict(zip(("cat", "dog"), hits, strict=True))
            right = [of_class[name] for name in run.class_names]
            counts = [[0, 0, right[0]], [0, 1, 20 - right[0]], [1, 0, 20 - right[1]], [1, 1, right[1]]]
            run.row("dual").scores.confusion = [entry for entry in counts if entry[2]]
            run.scores = run.own
            runs[row, seed] = run
    table = comparison_page.class_table(Comparison(runs, "command", "b"))
    assert table.header == ["class", "b", "a"]
    assert [[str(cell) for cell in row] for row in table.rows] == [["dog", "25", "100"], ["cat", "100", "25"]]
    for run in runs.values():
        run.row("dual").scores.confusion = []
    assert comparison_page.class_table(Comparison(runs, "command")).rows == []


def test_many_classes_are_folded():
    runs = {("segp", 1): made_run(5, 10)}
    shown = comparison_page.page(Comparison(runs, "command"), {}).html()
    parsed(shown)
    assert "The 20 classes with the lowest accuracy" in shown and "All 50 classes" in shown


def test_a_run_that_is_missing_has_no_link():
    runs = {("segp", 1): made_run(2, 2, seed=1), ("lwf", 2): made_run(2, 2, "lwf", 2)}
    shown = comparison_page.page(Comparison(runs, "command"), {}).html()
    assert len([link for link in parsed(shown) if link.startswith("runs/")]) == 2
    assert "No seed is shared by segp and lwf" in shown


def test_markdown_has_the_tables_of_numbers_and_the_plots():
    pictures_there = {"accuracy.png": "Accuracy", "time.png": "Time by phase", "r_matrix.png": "R"}
    text = comparison_page.page(compared(["segp", "lwf"]), pictures_there).markdown()
    assert text.count("|---|") == 4  # seen, global, retention, cost
    assert re.findall(r"\((plots/.*?)\)", text) == ["plots/accuracy.png", "plots/r_matrix.png", "plots/time.png"]
    assert "Over three seeds" in text.split("## ")[0] and "`segp compare`" in text


def test_a_row_keeps_its_colour_in_all_charts():
    found = compared(["segp", "lwf"])
    charts = [svg for svg in pictures(comparison_page.page(found, {}).html()) if svg.get("role") == "img"]
    for svg in charts:
        lines = [shape.get("class") for shape in svg.iter() if (shape.get("class") or "").startswith("line ")]
        names = svg.findtext("{http://www.w3.org/2000/svg}desc")
        if " = " in names:  # lines that are the same share one colour
            continue
        assert ("segp: " in names) == ("line s0" in lines) and ("lwf: " in names) == ("line s1" in lines)


def test_every_method_of_the_package_has_a_meaning():
    assert glossary.METHODS.keys() == METHODS.keys()
    assert glossary.row_meaning("segp anchors.steps=20").endswith("; with anchors.steps=20")
    assert glossary.row_meaning("mine").startswith("a method of your own")
    assert glossary.row_meaning("frozen rda") == glossary.METHODS["rda"]
