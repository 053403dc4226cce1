"""A confusion matrix as inline SVG: one cell per pair of classes, for up to about 40 classes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from html import escape

from segp_ext.report.confusion import Confusion, frequent_confusions, image_counts

MOST_CLASSES = 40
"""Most classes of a picture; a table of frequent confusions serves for more."""
_LETTERS, _LETTER = 22, 6.4
"""Letters of a class name's label, and the width of an average one."""


def confusion_picture(confusion: Confusion, names: Sequence[str], task_sizes: Sequence[int], title: str) -> str:
    """Draws which class was predicted for the images of each class; darker cells hold a larger part of their row.

    Args:
        confusion: counts over `names`.
        names: class names in task order.
        task_sizes: number of classes of each task; lines part the tasks.
        title: title of the picture.
    """
    count = len(names)
    side = 32 if count <= 12 else 22 if count <= 24 else 15
    labels = [name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…" for name in names]
    long = max(map(len, labels)) * _LETTER + 8
    left, top = long + 22, (long * 0.87 if long > 30 else 18) + 24
    width, height = left + count * side + max(8, long * 0.5 if long > 30 else 0), top + count * side + 6
    parts = _cells(confusion, names, (left, top), side)
    size = min(12, side - 2)
    for place, (label, name) in enumerate(zip(labels, names, strict=True)):
        middle = (place + 0.5) * side
        said = f"<title>{escape(name)}</title>" if label != name else ""
        x, y = left + middle + 3, top - 6
        turned = f' transform="rotate(-60 {x:.0f} {y:.0f})"' if long > 30 else ' text-anchor="middle"'
        x -= 0 if long > 30 else 3
        parts.append(
            f'<text x="{left - 6:.0f}" y="{top + middle + 4:.0f}" text-anchor="end" font-size="{size}">{escape(label)}{said}</text>'
        )
        parts.append(f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}"{turned}>{escape(label)}{said}</text>')
    edge = count * side
    for first in [0, *itertools.accumulate(task_sizes)]:
        at = min(first, count) * side
        parts.append(f'<path class="task" d="M{left:.0f} {top + at:.0f}h{edge}M{left + at:.0f} {top:.0f}v{edge}"/>')
    middle = top + edge / 2
    parts.append(f'<text class="axis" x="{left:.0f}" y="12">predicted class →</text>')
    parts.append(
        f'<text class="axis" x="12" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 12 {middle:.0f})">true class</text>'
    )
    return (
        f'<section class="confusion" tabindex="0" aria-label="{escape(title)}"><svg xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" style="width:{width * 1.15:.0f}px;max-width:max(100%, {width * 0.85:.0f}px)">'
        f"<title>{escape(title)}</title><desc>{escape(_described(confusion, names))}</desc>{''.join(parts)}</svg></section>"
    )


def _cells(confusion: Confusion, names: Sequence[str], corner: tuple[float, float], side: int) -> list[str]:
    """Draws a cell for each count, with its number if the cell is large enough."""
    images = image_counts(confusion)
    left, top = corner
    parts = []
    for true, predicted, count in confusion:
        share = count / images[true]
        x, y = left + predicted * side, top + true * side
        kind = "right" if true == predicted else "wrong"
        said = f"{names[true]} taken for {names[predicted]}: {count} of {images[true]}"
        opacity = 0.2 + 0.8 * share
        parts.append(
            f'<rect class="cell-{kind}" x="{x:.0f}" y="{y:.0f}" width="{side}" height="{side}" fill-opacity="{opacity:.2f}">'
            f"<title>{escape(said)}</title></rect>"
        )
        if side > 20:
            size = 12 if side > 30 else 9 if count < 1000 else 7
            parts.append(
                f'<text class="count" x="{x + side / 2:.0f}" y="{y + side / 2 + 4:.0f}" font-size="{size}">{count}</text>'
            )
    return parts


def _described(confusion: Confusion, names: Sequence[str]) -> str:
    """Writes the most frequent confusions, for people who cannot see the picture."""
    worst = frequent_confusions(confusion, 5)
    found = [f"{names[true]} taken for {names[guess]} {count} times" for true, guess, count in worst]
    return f"The most frequent confusions: {', '.join(found)}." if found else "No image was predicted wrongly."
