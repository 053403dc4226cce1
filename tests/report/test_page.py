"""A page's building blocks, in Markdown and in HTML."""

from segp_ext.report.page import Page


def test_a_page_in_both_forms(tmp_path):
    page = Page("A <title>")
    page.heading("One & two")
    page.text("as `a<b` says, not `so")
    page.items(["x|y"])
    page.table(["", "n"], [["a|b", "1"]])
    page.picture("gone.png", "a picture")
    parts = [
        "# A <title>", "## One & two", "as `a<b` says, not `so", "- x|y", "|  | n |\n|---|---:|\n| a\\|b | 1 |", "![a picture](gone.png)\n",
    ]  # fmt: skip
    assert page.markdown() == "\n\n".join(parts)
    shown = page.html(tmp_path)
    assert (
        "<title>A &lt;title&gt;</title>" in shown
        and "<h2>One &amp; two</h2>" in shown
        and "<td>a|b</td><td>1</td>" in shown
    )
    assert "as `a&lt;b` says, not `so" in shown and "a picture: gone.png is not there" in shown
