"""Line charts as inline SVG: accuracies over tasks, with a label at the end of each line.

Text stays text, colours come from the page's style sheet (page.css: .s0 to .s5), and each picture has a title and a description.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

STYLES = 6
"""Number of colours and marks in the style sheet."""
MOST_LINES = 7
"""Most lines of one chart; more of them get a small chart each."""
_WIDTH, _LINE, _LETTER = 440, 14, 6.2
"""Width of a chart, height of a label's line, and width of its average letter."""
_LETTERS = 19
"""Letters of a label's line."""


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Attributes:
        name: its label.
        values: heights from the first place on.
        deviations: half the height of a band around it; None for no band.
        style: number of its colour and mark.
        dashed: whether it is drawn in dashes.
    """

    name: str
    values: Sequence[float]
    deviations: Sequence[float] | None = None
    style: int = 0
    dashed: bool = False


@dataclass(frozen=True)
class Axis:
    """Meaning and bounds of a chart's axes.

    Attributes:
        title: what the chart shows, for its title.
        label: words beside the vertical axis.
        first: number at the first place of the horizontal axis.
        low: lowest height that a value can have.
        high: highest height that a value can have.
        digits: decimals of values.
    """

    title: str
    label: str
    first: int = 1
    low: float = 0.0
    high: float = 100.0
    digits: int = 1


def line_chart(lines: Sequence[Line], axis: Axis) -> str:
    """Draws lines over the number of tasks learnt; more than `MOST_LINES` lines get a small chart each.

    Lines that are equal at each place share one line and label, so that none is hidden.
    """
    merged = _merged([line for line in lines if line.values], axis.digits)
    if not merged:
        return ""
    if len(merged) <= MOST_LINES and all(len(_label(line.name)) <= 4 for line in merged):
        return f'<div class="chart">{_chart(merged, axis)}</div>'
    panels = [
        f'<div class="panel"><p class="panel-name">{escape(line.name)} <b>{line.values[-1]:.{axis.digits}f}</b></p>'
        f"{_panel(merged, number, axis)}</div>"
        for number, line in enumerate(merged)
    ]
    note = f"{axis.label} by tasks learnt: one row in colour, the others in grey"
    return f'<p class="panel-name">{escape(note)}</p><div class="panels">{"".join(panels)}</div>'


def _merged(lines: Sequence[Line], digits: int) -> list[Line]:
    """Joins lines that look the same."""
    found: dict[tuple[str, ...], list[Line]] = {}
    for line in lines:
        found.setdefault(tuple(f"{value:.{digits}f}" for value in line.values), []).append(line)
    return [
        Line(" = ".join(line.name for line in same), same[0].values, same[0].deviations, same[0].style, same[0].dashed)
        for same in found.values()
    ]


def _label(name: str) -> list[str]:
    """Breaks a name into the lines of its label."""
    return textwrap.wrap(name, _LETTERS, break_on_hyphens=False) or [""]


@dataclass
class _Frame:
    """The rectangle in which lines are drawn, and the scales of its axes."""

    left: float
    top: float
    right: float
    bottom: float
    places: int
    low: float
    high: float

    def x(self, place: float) -> float:
        inner = self.right - self.left - 24
        return self.left + 12 + (inner * place / (self.places - 1) if self.places > 1 else inner / 2)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.bottom - share * (self.bottom - self.top)


def _ticks(lines: Sequence[Line], axis: Axis) -> list[float]:
    """Chooses four to seven round heights around all values and bands."""
    heights = [
        min(max(value + sign * apart, axis.low), axis.high)
        for line in lines
        for value, apart in zip(line.values, line.deviations or [0.0] * len(line.values), strict=True)
        for sign in (-1, 1)
    ]
    low, high = min(heights), max(heights)
    spread = max(high - low, 10 * 10.0**-axis.digits)  # flat lines need room too
    middle = (low + high) / 2
    low, high = max(axis.low, min(low, middle - spread / 2)), min(axis.high, max(high, middle + spread / 2))
    unit = 10 ** math.floor(math.log10(spread / 4))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if spread / (unit * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _chart(lines: list[Line], axis: Axis) -> str:
    """Draws all lines in one picture, their labels at the right."""
    labels = [_label(line.name) for line in lines]
    value_width = max(len(f"{line.values[-1]:.{axis.digits}f}") for line in lines) * 7 + 6
    margin = 34 + value_width + max(len(part) for label in labels for part in label) * _LETTER
    heights = [len(label) * _LINE + 4 for label in labels]
    height = max(290, sum(heights) + 60)
    ticks = _ticks(lines, axis)
    places = max(len(line.values) for line in lines)
    frame = _Frame(46, 26, _WIDTH - margin, height - 40, places, ticks[0], ticks[-1])
    ends = [frame.y(line.values[-1]) for line in lines]
    spots = _apart(ends, heights, frame.top - 10, height - 8)
    parts = [_axes(frame, ticks, axis)]
    parts += [_band(frame, line, axis) for line in lines if line.deviations]
    step = (frame.x(1) - frame.x(0)) if places > 1 else 40
    shift = min(3.5, 0.5 * step / len(lines))
    offsets = [(number - (len(lines) - 1) / 2) * shift for number in range(len(lines))]
    for number in range(len(lines)):  # the first is widest, so that it shows beside one drawn above it
        parts.append(_polyline(frame, lines[number], offsets[number], 3.4 - 1.8 * number / max(1, len(lines) - 1)))
    for number, line in enumerate(lines):
        parts += _marks(frame, line, offsets[number])
        end = (frame.x(len(line.values) - 1) + offsets[number] + 5, ends[number])
        parts.append(_end_label(line, labels[number], end, (frame.right + 6, spots[number]), value_width, axis))
    return picture(_WIDTH, height, axis.title, _described(lines, axis), parts)


def _panel(lines: list[Line], number: int, axis: Axis) -> str:
    """Draws one line in front of the others, which are grey."""
    ticks = _ticks(lines, axis)
    frame = _Frame(40, 12, 292, 150, max(len(line.values) for line in lines), ticks[0], ticks[-1])
    parts = [_axes(frame, ticks, axis, words=False)]
    parts += [
        f'<path class="other" d="{_path(frame, line.values, 0)}"/>' for line in lines if line is not lines[number]
    ]
    chosen = lines[number]
    parts += [_band(frame, chosen, axis)] if chosen.deviations else []
    parts += [_polyline(frame, chosen, 0, 2.6), *_marks(frame, chosen, 0)]
    return picture(300, 182, f"{axis.title}: {chosen.name}", _described([chosen], axis), parts)


def _axes(frame: _Frame, ticks: list[float], axis: Axis, words: bool = True) -> str:
    """Draws the grid, the numbers beside it and the axes' labels."""
    step = ticks[1] - ticks[0]
    digits = max(0, -math.floor(math.log10(step) + 1e-9)) if step % 1 else 0
    digits += 1 if digits and abs(step * 10**digits % 1) > 1e-6 else 0
    parts = []
    for tick in ticks:
        y = frame.y(tick)
        parts.append(f'<path class="grid" d="M{frame.left:.1f} {y:.1f}H{frame.right:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{frame.left - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:.{digits}f}</text>'
        )
    each = math.ceil(frame.places / max(1, (frame.right - frame.left) / 24))
    for place in range(0, frame.places, each):
        x, y = frame.x(place), frame.bottom + 16
        parts.append(f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{axis.first + place}</text>')
    if words:
        middle = (frame.left + frame.right) / 2
        parts.append(f'<text class="axis" x="2" y="12">{escape(axis.label)}</text>')
        parts.append(
            f'<text class="axis" x="{middle:.1f}" y="{frame.bottom + 34:.1f}" text-anchor="middle">tasks learnt</text>'
        )
    return "".join(parts)


def _path(frame: _Frame, values: Sequence[float], offset: float) -> str:
    points = [f"{frame.x(place) + offset:.1f} {frame.y(value):.1f}" for place, value in enumerate(values)]
    return "M" + "L".join(points)


def _polyline(frame: _Frame, line: Line, offset: float, width: float) -> str:
    dashes = ' stroke-dasharray="7 4"' if line.dashed else ""
    return f'<path class="line s{line.style % STYLES}" stroke-width="{width:.1f}"{dashes} d="{_path(frame, line.values, offset)}"/>'


def _band(frame: _Frame, line: Line, axis: Axis) -> str:
    """Draws the band of a line, cut where no value can be."""
    assert line.deviations is not None
    low, high = (
        [min(max(v + sign * d, axis.low), axis.high) for v, d in zip(line.values, line.deviations, strict=True)]
        for sign in (-1, 1)
    )
    there = [f"{frame.x(place):.1f} {frame.y(value):.1f}" for place, value in enumerate(high)]
    back = [f"{frame.x(place):.1f} {frame.y(value):.1f}" for place, value in reversed([*enumerate(low)])]
    return f'<path class="band s{line.style % STYLES}" d="M{"L".join(there + back)}Z"/>'


def _marks(frame: _Frame, line: Line, offset: float) -> list[str]:
    return [
        _mark(line.style, frame.x(place) + offset, frame.y(value), f"{line.name}: {value:.1f}")
        for place, value in enumerate(line.values)
    ]


def _mark(style: int, x: float, y: float, title: str = "") -> str:
    """Draws a style's mark: circle, square, triangle up, diamond, triangle down or ring."""
    shapes = [
        f"M{x - 3.4:.1f} {y:.1f}a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0 -6.8 0Z",
        f"M{x - 3:.1f} {y - 3:.1f}h6v6h-6Z",
        f"M{x:.1f} {y - 4.2:.1f}l4 7h-8Z",
        f"M{x:.1f} {y - 4.4:.1f}l4.4 4.4l-4.4 4.4l-4.4 -4.4Z",
        f"M{x:.1f} {y + 4.2:.1f}l4 -7h-8Z",
        f"M{x - 3.4:.1f} {y:.1f}a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0 -6.8 0Z",
    ]
    said = f"<title>{escape(title)}</title>" if title else ""
    return f'<path class="mark s{style % STYLES}" d="{shapes[style % STYLES]}">{said}</path>'


def _end_label(
    line: Line, label: list[str], end: tuple[float, float], spot: tuple[float, float], value_width: float, axis: Axis
) -> str:
    """Draws a line's value and name, with a thin line to where the line ends."""
    x, y = spot
    first = y - (len(label) - 1) * _LINE / 2
    rows = "".join(
        f'<tspan x="{x + 18 + value_width:.1f}" y="{first + 4 + number * _LINE:.1f}">{escape(part)}</tspan>'
        for number, part in enumerate(label)
    )
    return (
        f'<path class="leader" d="M{end[0]:.1f} {end[1]:.1f}L{x:.1f} {first:.1f}"/>{_mark(line.style, x + 8, first)}'
        f'<text class="value" x="{x + 16:.1f}" y="{first + 4:.1f}">{line.values[-1]:.{axis.digits}f}</text>'
        f'<text class="label">{rows}</text>'
    )


def _apart(wanted: Sequence[float], heights: Sequence[float], top: float, bottom: float) -> list[float]:
    """Moves labels so that none overlaps another: as near to the wanted middles as they fit, in the same order."""
    order = sorted(range(len(wanted)), key=lambda number: wanted[number])
    spots = [*wanted]
    edge = top
    for number in order:
        spots[number] = max(wanted[number], edge + heights[number] / 2)
        edge = spots[number] + heights[number] / 2
    edge = bottom
    for number in reversed(order):
        spots[number] = min(spots[number], edge - heights[number] / 2)
        edge = spots[number] - heights[number] / 2
    return spots


def _described(lines: Sequence[Line], axis: Axis) -> str:
    """Writes the values of lines, for people who cannot see the picture."""
    parts = [f"{line.name}: {', '.join(f'{value:.{axis.digits}f}' for value in line.values)}" for line in lines]
    return f"{axis.label}, from {axis.first} tasks learnt on. {'. '.join(parts)}."


def picture(width: float, height: float, title: str, description: str, parts: Sequence[str]) -> str:
    """Wraps shapes into a picture with a title and a description."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img"><title>{escape(title)}</title>'
        f"<desc>{escape(description)}</desc>{''.join(parts)}</svg>"
    )
