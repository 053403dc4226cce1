"""Makes data sets for streams from scikit-learn's digits and from drawn letters: `python -m evidence.made_sets OUT`.

OUT/letters holds drawn letters (evidence/letters.py), whose names the built-in model knows. OUT/plain, inverted, dotted and striped hold
the digits in four looks. Each look has a quarter of the digits' own training images, and all of their test images. All are PNG files of
8 × 8 pixels in {train,test}/<class>/.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from evidence.letters import scans
from segp_ext.data.digits import digits

LETTERS = "abdefghkmnqrtwy"
"""Letters that look like no digit."""
_EACH = {"train": 40, "test": 40}


def _dotted(pixels: np.ndarray) -> np.ndarray:
    changed = pixels.copy()
    changed[:, ::2, ::2] = 255 - changed[:, ::2, ::2]
    return changed


def _striped(pixels: np.ndarray) -> np.ndarray:
    changed = pixels.copy()
    changed[:, ::2] //= 3
    return np.roll(changed, 2, axis=2)


LOOKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "plain": lambda pixels: pixels,
    "inverted": lambda pixels: 255 - pixels,
    "dotted": _dotted,
    "striped": _striped,
}
"""Looks of a digit, uint8 `[3, 8, 8]` each."""


def _write(folder: Path, images: Sequence[np.ndarray]) -> None:
    folder.mkdir(parents=True)
    for number, pixels in enumerate(images):
        Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / f"{number:03d}.png")


def write_looks(out: Path) -> None:
    """Writes the digits in every look."""
    collection = digits()
    for place, (look, change) in enumerate(LOOKS.items()):
        for part, sources in {"train": collection.train, "test": collection.test}.items():
            for name, of_class in zip(collection.class_names, sources, strict=True):
                own = of_class[place :: len(LOOKS)] if part == "train" else of_class
                _write(out / look / part / name, [change(collection.opener(source)) for source in own])


def write_letters(out: Path) -> None:
    """Writes drawn letters, other ones for training and testing."""
    for seed, (part, each) in enumerate(_EACH.items()):
        drawn = scans(LETTERS, each, seed)
        for place, letter in enumerate(LETTERS):
            _write(out / "letters" / part / letter, drawn[place * each : (place + 1) * each])


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    write_looks(out)
    write_letters(out)


if __name__ == "__main__":
    main()
