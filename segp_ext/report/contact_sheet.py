"""Small pictures of images with a caption each: as one JPEG, and as HTML with the pictures inside."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

_SIDE, _LINE, _GAP, _COLUMNS = 160, 17, 12, 6
"""Side of a picture, height of a caption's line, gap between pictures, and pictures in a row."""


@dataclass(frozen=True)
class Captioned:
    """A picture of an image.

    Attributes:
        picture: The image, `_SIDE` pixels along its longer side.
        lines: Lines of its caption.
    """

    picture: Image.Image
    lines: Sequence[str]


def captioned(image: Image.Image, lines: Sequence[str]) -> Captioned:
    """Makes the picture of an RGB image. Tiny images are enlarged, each pixel to a square."""
    scale = _SIDE / max(image.size)
    method = Image.Resampling.NEAREST if scale > 4 else Image.Resampling.LANCZOS
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return Captioned(image.resize(size, method), lines)


def contact_sheet(images: Sequence[Captioned]) -> bytes:
    """Draws pictures in rows on one sheet, each above its caption; returns a JPEG.

    Args:
        images: The pictures, one at least.
    """
    font = ImageFont.truetype(_font(), 12)
    lines = max(len(one.lines) for one in images)
    columns = min(_COLUMNS, len(images))
    wide, high = _SIDE + _GAP, _SIDE + lines * _LINE + _GAP + 4
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * wide + _GAP, rows * high + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, one in enumerate(images):
        x, y = _GAP + number % columns * wide, _GAP + number // columns * high
        square = ImageOps.pad(one.picture, (_SIDE, _SIDE), color="#e8ebee")
        sheet.paste(square, (x, y))
        for place, text in enumerate(one.lines):
            draw.text((x, y + _SIDE + 4 + place * _LINE), _shortened(text, font), "#1b1f24", font)
    content = io.BytesIO()
    sheet.save(content, "JPEG", quality=88)
    return content.getvalue()


def _font() -> str:
    """Returns the font that matplotlib brings: it has arrows, and letters of many scripts."""
    import matplotlib

    return str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"))


def _shortened(text: str, font: ImageFont.FreeTypeFont) -> str:
    """Shortens a line to the width of a picture, its middle replaced by an ellipsis."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    kept = len(text)
    shown = text
    while kept > 1 and font.getlength(shown) > _SIDE:
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return shown


def sheet_html(images: Sequence[Captioned]) -> str:
    """Writes the pictures as HTML that needs no other file; as many stand beside each other as fit."""
    parts = []
    for one in images:
        content = io.BytesIO()
        one.picture.save(content, "JPEG", quality=85)
        source = base64.b64encode(content.getvalue()).decode()
        first, *others = one.lines
        words = "".join(f"<br><small>{escape(line)}</small>" for line in others)
        parts.append(
            f'<li><img src="data:image/jpeg;base64,{source}" width="{one.picture.width}" height="{one.picture.height}" '
            f'alt="{escape(first)}"><p><b>{escape(first)}</b>{words}</p></li>'
        )
    return f'<ul class="sheet">{"".join(parts)}</ul>'
