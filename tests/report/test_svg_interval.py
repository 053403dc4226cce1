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
    assert "M10.0" not in interval_bar(Difference(-0.5, 0.01, 3), 0.02) and of_class(svg, "level")
    beyond = pictures(interval_bar(Difference(-0.5, 0.01, 3), 0.02))[0]
    assert [*of_class(beyond, "whisker")] == ["M12 7l-6 5l6 5"]  # an arrow to the left, and no dot
    alone = pictures(interval_bar(Difference(0.01, float("inf"), 1), 0.02))[0]
    assert any("level" in (shape.get("class") or "") for shape in alone.iter())
