"""A page's building blocks, in Markdown and in HTML."""

from made_pages import parsed

from segp_ext.report.page import Page
from segp_ext.report.table import Drawn, Link, Share, Table


def test_a_page_in_both_forms():
    page = Page("A <title>", "a note")
    page.lead("first")
    page.heading("One & two")
    page.text("as `a<b` says, not `so")
    page.items(["x|y", Link("run", "runs/a b/report.html")])
    page.terms({"Last": "the end"})
    page.table(Table("What it shows", ["", "n"], [["a|b", "1"]]))
    page.figure("a picture", "<svg/>", "plots/a.png")
    page.figure("not in Markdown", "<svg/>")
    parts = [
        "# A <title>", "a note", "**first**", "## One & two", "as `a<b` says, not `so", "- x|y\n- [run](<runs/a b/report.html>)",
        "- **Last**: the end", "What it shows", "|  | n |\n|---|---:|\n| a\\|b | 1 |", "![a picture](plots/a.png)\n",
    ]  # fmt: skip
    assert page.markdown() == "\n\n".join(parts)
    shown = page.html()
    assert "<title>A &lt;title&gt;</title>" in shown and '<h2 id="one-two">One &amp; two</h2>' in shown
    assert '<a href="#one-two">One &amp; two</a>' in shown and '<a href="runs/a%20b/report.html">run</a>' in shown
    assert (
        '<th scope="row"><span>a|b</span></th><td>1</td>' in shown
        and "<caption><span>What it shows</span></caption>" in shown
    )
    assert "as `a&lt;b` says, not `so" in shown and "<figcaption>a picture</figcaption>\n<svg/>" in shown
    parsed(shown)


def test_what_is_folded_is_for_html_alone():
    page = Page("title")
    page.fold("more").text("inside")
    page.html_only().heading("Only here")
    beside = page.columns()
    beside.text("left")
    beside.text("right")
    assert page.markdown() == "# title\n\nleft\n\nright\n"
    shown = page.html()
    assert '<h2 id="only-here">' in shown and '<a href="#only-here">' in shown
    assert "<details>\n<summary>more</summary>\n<p>inside</p>\n</details>" in shown
    assert '<div class="columns">\n<p>left</p>\n<p>right</p>\n</div>' in shown


def test_cells_of_each_kind():
    rows = [
        [
            "a",
            "text",
            "-1.2 ± 0.3",
            "+1.0 (+0.5 to +1.5)",
            Share(0.256),
            Share(float("nan"), "heat"),
            Drawn("<i></i>", "x"),
        ]
    ]
    table = Table("", ["", *"bcdefg"], rows)
    page = Page("title")
    page.table(table)
    assert "| a | text | -1.2 ± 0.3 | +1.0 (+0.5 to +1.5) | 25.6 |  | x |" in page.markdown()
    shown = page.html()
    assert '<td>-1.2<small class="apart"> ± 0.3</small></td>' in shown
    assert '<td>+1.0 <small class="behind">(+0.5 to +1.5)</small></td>' in shown
    assert '<td class="bar" style="--share:25.6%">25.6</td><td></td><td class="drawn"><i></i></td>' in shown
    assert '<th scope="col" class="bar"><span>e</span></th>' in shown and "<caption>" not in shown


def test_rows_of_one_name_stand_together_and_marked_ones_are_set_off():
    rows = [["a", "x", "1"], ["a", "y", "2"], ["b", "x", "3"]]
    page = Page("title")
    page.table(Table("t", ["method", "path", "n"], rows, names=2, marked=[1]))
    shown = page.html()
    assert shown.count('<tr class="first">') == 2 and shown.count('<tr class="marked">') == 1
    assert '<tr class="marked"><th scope="row"><span>a</span></th><th scope="row"><span>y</span></th>' in shown


def test_pages_need_no_other_file_and_no_script():
    shown = Page("title").html()
    assert '<html lang="en">' in shown and "prefers-color-scheme: dark" in shown and "overflow-x: auto" in shown
    assert "<script" not in shown and "url(" not in shown and "@import" not in shown and "src=" not in shown
