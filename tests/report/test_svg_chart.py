"""Charts as inline SVG: labels that do not overlap, lines that are not hidden, values within their bounds."""

import itertools
import re

import pytest
from made_pages import of_class, pictures, texts

from segp_ext.report.svg_chart import MOST_LINES, Axis, Line, line_chart

AXIS = Axis("Accuracy after each task", "% right")


def chart_of(*lines, axis=AXIS):
    drawn = line_chart(lines, axis)
    found = pictures(drawn)
    assert len(found) == 1
    return found[0]


def ys(path):
    """Heights of the points of a path."""
    return [float(y) for _, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


def test_a_line_has_its_value_and_name_at_its_end():
    svg = chart_of(Line("segp", [50, 60, 70]), Line("lora", [50, 40, 30], style=1, dashed=True))
    words = [text for *_, text in texts(svg)]
    assert {"segp", "70.0", "lora", "30.0", "% right", "tasks learnt", "1", "2", "3"} <= {*words}
    assert len(of_class(svg, "line")) == 2 and len(of_class(svg, "leader")) == 2
    assert svg.findtext("{http://www.w3.org/2000/svg}title") == "Accuracy after each task"
    assert "segp: 50.0, 60.0, 70.0" in svg.findtext("{http://www.w3.org/2000/svg}desc")
    first, second = (ys(line) for line in of_class(svg, "line"))
    assert first == sorted(first, reverse=True) and second == sorted(second)  # up is up


@pytest.mark.parametrize(
    "names", [["a", "b", "c", "d", "e", "f", "g"], ["a long name of two lines here " + c for c in "abcde"]]
)
@pytest.mark.parametrize(("start", "end"), [(10, 95), (90, 0.5)])
def test_labels_do_not_overlap_and_stay_within_the_picture(names, start, end):
    svg = chart_of(*(Line(name, [start, end + 0.1 * n], style=n) for n, name in enumerate(names)))
    width, height = (float(size) for size in svg.get("viewBox").split()[2:])
    labels = sorted(
        y for x, y, text in texts(svg) if x > 0.5 * width and re.search("[a-z]{1}", text) and text != "tasks learnt"
    )
    assert len(labels) >= len(names)
    assert all(below - above >= 12 for above, below in itertools.pairwise(labels))
    assert labels[0] > 0 and labels[-1] < height
    for x, _, text in texts(svg):
        assert x + 5 * len(text) < width + 30


def test_lines_that_are_the_same_are_one_line_with_both_names():
    svg = chart_of(Line("text", [50, 60]), Line("dual", [50.001, 60.001], style=1), Line("visual", [55, 60], style=2))
    assert len(of_class(svg, "line")) == 2
    assert "text = dual" in [text for *_, text in texts(svg)]


def test_lines_are_of_falling_width_so_that_one_shows_below_another():
    svg = chart_of(Line("a", [50, 60]), Line("b", [50.1, 60.1], style=1), Line("c", [50.2, 60.2], style=2))
    widths = [float(line.get("stroke-width")) for line in svg.iter() if "line" in (line.get("class") or "").split()]
    assert widths == sorted(widths, reverse=True) and widths[0] > widths[-1] + 1
    starts = {line.split("L")[0].split()[0] for line in of_class(svg, "line")}
    assert len(starts) == 3  # beside each other


def test_bands_end_where_no_value_can_be():
    svg = chart_of(Line("a", [99, 95], [4, 2]), Line("b", [1, 3], [5, 2], style=1))
    grid = [float(re.match(r"M[\d.]+ ([\d.]+)H", line)[1]) for line in of_class(svg, "grid")]
    for band in of_class(svg, "band"):
        assert min(grid) - 0.11 <= min(ys(band)) and max(ys(band)) <= max(grid) + 0.11
    ticks = [float(text) for x, _, text in texts(svg) if x < 45 and re.fullmatch(r"-?\d+(\.\d+)?", text)]
    assert min(ticks) == 0 and max(ticks) == 100


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [([50], 0, 100), ([100, 100], 98, 100), ([0, 0], 0, 2), ([10, 10, 10], 9, 11), ([98.7, 98.71], 98, 99.5)],
)
def test_ticks_of_flat_and_of_single_values(values, low, high):
    svg = chart_of(Line("a", values))
    ticks = [float(text) for x, _, text in texts(svg) if x < 45 and re.fullmatch(r"-?\d+(\.\d+)?", text)]
    assert (
        len(ticks) > 1
        and len({*ticks}) == len(ticks)
        and low <= min(ticks) <= min(values) <= max(values) <= max(ticks) <= high
    )


def test_small_values_keep_their_decimals():
    svg = chart_of(
        Line("before", [0.0061, 0.0027]),
        Line("after", [0.0034, 0.0028], style=1),
        axis=Axis("t", "1 − cos", 2, 0, 2, 4),
    )
    words = [text for *_, text in texts(svg)]
    assert "0.0027" in words and "0.0028" in words and "2" in words and "3" in words


def test_many_lines_get_a_chart_each_that_shows_the_others_too():
    names = [f"row {n}" for n in range(MOST_LINES + 3)]
    drawn = line_chart([Line(name, [50 + n, 60 + n], [1, 1], n) for n, name in enumerate(names)], AXIS)
    found = pictures(drawn)
    assert len(found) == len(names) and drawn.count('class="panel"') == len(names)
    for name, svg in zip(names, found, strict=True):
        assert len(of_class(svg, "other")) == len(names) - 1 and len(of_class(svg, "line")) == 1
        assert svg.findtext("{http://www.w3.org/2000/svg}title").endswith(f": {name}")
        assert f'<p class="panel-name">{name} <b>' in drawn
    long = "joint lora.targets=[attn.in_proj,attn.out_proj,mlp.c_fc,mlp.c_proj] lora.rank=2"
    assert 'class="panel"' in line_chart(
        [Line(long, [1, 2]), Line("a", [2, 3])], AXIS
    )  # whose name does not fit a label


def test_names_are_text_and_nothing_to_draw_is_nothing():
    svg = chart_of(Line("<b> & 'c'", [1, 2]))
    assert "<b> & 'c'" in [text for *_, text in texts(svg)]
    assert line_chart([], AXIS) == line_chart([Line("a", [])], AXIS) == ""


def test_lines_of_different_lengths_end_where_they_end():
    svg = chart_of(Line("short", [50, 60]), Line("long", [50, 55, 65], style=1))
    short, long = of_class(svg, "line")
    assert len(ys(short)) == 2 and len(ys(long)) == 3
