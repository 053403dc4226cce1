"""Differences with their intervals as small pictures."""

from made_pages import of_class, pictures

from segp_ext.report.comparison import Difference
from segp_ext.report.svg_interval import interval_bar


def test_intervals_beside_a_zero_line():
    svg = pictures(interval_bar(Difference(0.01, 0.005, 3), 0.02))[0]
    dot = next(shape for shape in svg.iter() if "dot" in (shape.get("class") or ""))
    assert (
        float(dot.get("cx")) == 145 and "clear" in dot.get("class") and of_class(svg, "whisker") == ["M122.5 12H167.5"]
    )
    svg = pictures(interval_bar(Difference(0.01, 0.02, 3), 0.02))[0]
    assert of_class(svg, "whisker") == ["M188 7l6 5l-6 5", "M55.0 12H194.0"]  # as far as the axis goes, and an arrow
    beyond = pictures(interval_bar(Difference(-0.5, 0.01, 3), 0.02))[0]
    assert [*of_class(beyond, "whisker")] == ["M12 7l-6 5l6 5"]  # an arrow to the left, and no dot
    for half, pairs in ((float("inf"), 1), (0.3, 2)):
        alone = pictures(interval_bar(Difference(0.01, half, pairs), 0.02))[0]
        assert any("dot level" in (shape.get("class") or "") for shape in alone.iter())
        assert of_class(alone, "whisker") == ["M145.0 12H145.0"]  # no interval
