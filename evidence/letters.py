"""Draws letters and digits as scans like those of scikit-learn's handwritten digits, for images of classes that a learner never learnt.

Characters come from the fonts that matplotlib ships. Each is thickened, turned, slanted and bent at random, fitted to a bitmap of 32 × 32
black and white pixels, and counted in blocks of 4 × 4, as the digits' makers did with handwriting. So letters have the digits' resolution
and grey levels; the hand that wrote them differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

FONTS = (
    "DejaVuSans",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSerif",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralItalic",
    "cmr10",
    "cmss10",
    "cmtt10",
)
_CANVAS = 160


def scans(characters: Sequence[str], each: int, seed: int = 0) -> list[np.ndarray]:
    """Draws scans of characters.

    Args:
        characters: The characters.
        each: Number of scans of each character, in the fonts by turns.
        seed: Seed of all random numbers.

    Returns:
        For each character in turn its scans, uint8 `[3, 8, 8]`.
    """
    folder, draw = Path(matplotlib.get_data_path()) / "fonts/ttf", np.random.RandomState(seed)
    fonts = [ImageFont.truetype(str(folder / f"{name}.ttf"), 72) for name in FONTS]
    return [_scan(c, fonts[number % len(fonts)], draw) for c in characters for number in range(each)]


def _scan(character: str, font: ImageFont.FreeTypeFont, draw: np.random.RandomState) -> np.ndarray:
    image, centre = Image.new("L", (_CANVAS, _CANVAS)), _CANVAS / 2
    ImageDraw.Draw(image).text((centre, centre), character, fill=255, font=font, anchor="mm")
    image = image.filter(ImageFilter.MaxFilter(int(draw.choice([3, 3, 5, 7]))))
    angle, slant = draw.uniform(-0.25, 0.25), draw.uniform(-0.3, 0.3)
    turn = np.array([[np.cos(angle), slant - np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = centre - turn @ [centre, centre]
    matrix = (*turn[0], shift[0], *turn[1], shift[1])
    image = image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    row, column = np.mgrid[:_CANVAS, :_CANVAS] + [_smooth(draw), _smooth(draw)]
    row, column = (place.round().clip(0, _CANVAS - 1).astype(int) for place in (row, column))
    image = Image.fromarray(np.asarray(image)[row, column])
    image = image.crop(image.getbbox())
    width = int(np.clip(round(32 * image.width / image.height), 6, 32))
    grey = np.asarray(image.resize((width, 32), Image.Resampling.BOX))
    bitmap = np.zeros((32, 32))
    left = (32 - width) // 2
    bitmap[:, left : left + width] = grey > draw.uniform(80, 160)
    counts = bitmap.reshape(8, 4, 8, 4).sum(axis=(1, 3))
    return np.repeat(np.round(counts * (255 / 16)).astype(np.uint8)[None], 3, axis=0)


def _smooth(draw: np.random.RandomState) -> np.ndarray:
    """Draws a smooth displacement of every pixel, in pixels `[CANVAS, CANVAS]`."""
    coarse = Image.fromarray(draw.normal(0, 5, (4, 4)).astype(np.float32))
    return np.asarray(coarse.resize((_CANVAS, _CANVAS), Image.Resampling.BICUBIC))
