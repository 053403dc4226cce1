"""A difference with its interval as a small inline SVG, for a cell of a table."""

from __future__ import annotations

from segp_ext.report.comparison import ENOUGH_PAIRS, Difference


def interval_bar(difference: Difference, reach: float) -> str:
    """Draws a difference as a dot with its interval, on an axis from -reach to +reach; an arrow leads beyond the axis.

    With too few pairs the dot stands alone.
    """
    half = difference.half if difference.pairs >= ENOUGH_PAIRS else 0.0
    low, mean, high = (
        100 + 90 * value / reach for value in (difference.mean - half, difference.mean, difference.mean + half)
    )
    style = "clear" if difference.is_clear and difference.pairs >= ENOUGH_PAIRS else "level"
    parts = ['<path class="grid" d="M100 0V24"/>']
    if low < 5 or high > 195:
        left = low < 5
        parts.append(f'<path class="whisker {style}" d="{"M12 7l-6 5l6 5" if left else "M188 7l6 5l-6 5"}"/>')
    if mean > 5 and mean < 195:
        parts.append(f'<path class="whisker {style}" d="M{max(low, 6):.1f} 12H{min(high, 194):.1f}"/>')
        parts.append(f'<circle class="dot {style}" cx="{mean:.1f}" cy="12" r="4"/>')
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 24" class="interval" aria-hidden="true">{"".join(parts)}</svg>'
