"""A calibration plot as inline SVG: the share of right images against the probability of their names, bin by bin."""

from __future__ import annotations

from collections.abc import Sequence

from segp_ext.report.calibration_bins import BINS, CalibrationBin
from segp_ext.report.svg_chart import picture

_WIDTH, _LEFT, _TOP, _SIDE, _COUNTS = 440, 46, 30, 300, 56
"""Width of the picture; left and upper edge, and side, of the square; height of the bars of counts below it."""


def calibration_picture(series: Sequence[tuple[str, Sequence[CalibrationBin]]], title: str) -> str:
    """Draws a line per series through the bins that hold images, and below them how many images each bin of the first series holds.

    Args:
        series: Name and bins of each line; at most three.
        title: Title of the picture.
    """
    parts = [_axes()]
    for number, (_, bins) in enumerate(series):
        parts.append(_line(number, bins))
    parts += [_legend(number, name) for number, (name, _) in enumerate(series)]
    parts.append(_counts(series[0][1]))
    height = _TOP + _SIDE + 22 + _COUNTS + 44
    return f'<div class="chart">{picture(_WIDTH, height, title, _described(series), parts)}</div>'


def _x(share: float) -> float:
    return _LEFT + share * _SIDE


def _y(share: float) -> float:
    return _TOP + (1 - share) * _SIDE


def _axes() -> str:
    """Draws the grid, the numbers beside it, the diagonal, and the axes' labels."""
    parts = []
    for step in range(6):
        share = step / 5
        parts.append(f'<path class="grid" d="M{_LEFT} {_y(share):.1f}h{_SIDE}M{_x(share):.1f} {_TOP}v{_SIDE}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 6}" y="{_y(share) + 4:.1f}" text-anchor="end">{100 * share:.0f}</text>'
            f'<text class="tick" x="{_x(share):.1f}" y="{_TOP + _SIDE + 16}" text-anchor="middle">{100 * share:.0f}</text>'
        )
    parts.append(f'<path class="leader" stroke-dasharray="3 3" d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}"/>')
    parts.append('<text class="axis" x="2" y="14">% right</text>')
    bottom = _TOP + _SIDE + 22 + _COUNTS + 38
    middle = _LEFT + _SIDE / 2
    parts.append(
        f'<text class="axis" x="{middle:.0f}" y="{bottom}" text-anchor="middle">probability of the best name, %</text>'
    )
    return "".join(parts)


def _line(number: int, bins: Sequence[CalibrationBin]) -> str:
    """Draws a series: a line through its bins, and a dot for each, larger where it holds more images."""
    filled = [one for one in bins if one.images]
    most = max((one.images for one in filled), default=1)
    way = "L".join(f"{_x(one.confidence):.1f} {_y(one.accuracy):.1f}" for one in filled)
    dashes = ' stroke-dasharray="7 4"' if number else ""
    parts = [f'<path class="line s{number}" stroke-width="2"{dashes} d="M{way}"/>'] if filled else []
    for one in filled:
        size = 3 + 4 * (one.images / most) ** 0.5
        said = f"{one.images} images: {100 * one.confidence:.1f} % sure, {100 * one.accuracy:.1f} % right"
        parts.append(
            f'<circle class="mark s{number}" cx="{_x(one.confidence):.1f}" cy="{_y(one.accuracy):.1f}" r="{size:.1f}">'
            f"<title>{said}</title></circle>"
        )
    return "".join(parts)


def _legend(number: int, name: str) -> str:
    """Writes a series' name into the corner above the diagonal, where a line seldom runs."""
    x, y = _LEFT + 12, _TOP + 18 + 20 * number
    dashes = ' stroke-dasharray="7 4"' if number else ""
    return (
        f'<path class="line s{number}" stroke-width="2"{dashes} d="M{x} {y - 4}h22"/><circle class="mark s{number}" cx="{x + 11}" '
        f'cy="{y - 4}" r="4"/><text x="{x + 30}" y="{y}">{name}</text>'
    )


def _counts(bins: Sequence[CalibrationBin]) -> str:
    """Draws a bar per bin, as high as its share of the images."""
    images = sum(one.images for one in bins) or 1
    most = max(one.images for one in bins) or 1
    top, bottom, wide = _TOP + _SIDE + 26, _TOP + _SIDE + 22 + _COUNTS, _SIDE / BINS
    parts = [f'<path class="grid" d="M{_LEFT} {bottom}h{_SIDE}"/>']
    for place, one in enumerate(bins):
        high = (bottom - top - 10) * one.images / most
        said = f"{one.images} images, {100 * one.images / images:.1f} %"
        parts.append(
            f'<rect class="cell-right" x="{_LEFT + place * wide + 1:.1f}" y="{bottom - high:.1f}" width="{wide - 2:.1f}" '
            f'height="{high:.1f}"><title>{said}</title></rect>'
        )
    parts.append(
        f'<text class="tick" x="{_LEFT - 6}" y="{bottom - 2}" text-anchor="end">images</text>'
        f'<text class="tick" x="{_LEFT + _SIDE + 6}" y="{top + 10}">{100 * most / images:.0f} %</text>'
    )
    return "".join(parts)


def _described(series: Sequence[tuple[str, Sequence[CalibrationBin]]]) -> str:
    """Writes the bins, for people who cannot see the picture."""
    parts = []
    for name, bins in series:
        own = [f"{100 * one.confidence:.0f} % sure {100 * one.accuracy:.0f} % right" for one in bins if one.images]
        parts.append(f"{name}: {', '.join(own) or 'no image'}.")
    return " ".join(parts)
