"""Checks that an export predicts as its learner: the images to compare on, and how close scores must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from segp_ext.data.decoding import to_pil
from segp_ext.method.classifier import Classifier

IMAGES = 100
"""Number of images that every export is compared on; fewer where the user gives fewer."""
TOLERANCE = 1e-4
"""Largest difference of a score, relative to the image's largest score where that is above 1; also of a probability."""
_ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Rounding of a float32 score, relative to the largest. Where scores are so large that it moves probabilities more, that is the limit."""
_GRID = 4
"""Patches along each side of a drawn image, each of its own colour."""


@dataclass(frozen=True)
class Agreement:
    """How close an export's scores are to its learner's. The best class of every image is the same.

    Attributes:
        images: number of images compared.
        score: largest difference of a score, relative to the image's largest score where that is above 1.
        probability: largest difference of a probability.
    """

    images: int
    score: float
    probability: float


def chosen_images(classifier: Classifier, given: Sequence[Any] | None) -> list[Image.Image]:
    """Returns the images to compare on, as PIL RGB images.

    Args:
        classifier: its settings say whether images are turned upright.
        given: images as `segp_ext.data.decoding.to_pil` takes them, of which `IMAGES` are taken evenly; None draws random ones.

    Raises:
        TypeError, ValueError: for an image that cannot be read, or no image.
    """
    if given is None:
        return drawn_images(classifier.backbone.image_size)
    if not len(given):
        raise ValueError("images must hold at least one image to compare on; got none")
    places = np.linspace(0, len(given) - 1, min(IMAGES, len(given))).round().astype(int)
    upright = classifier.config.loading.orientation == "exif"
    return [to_pil(given[place], f"image {place}", upright) for place in places]


def drawn_images(side: int) -> list[Image.Image]:
    """Draws `IMAGES` images of soft colour patches with noise, always the same, wider than the `side` of the model's input."""
    draw = np.random.RandomState(0)
    images = []
    for _ in range(IMAGES):
        coarse = draw.randint(0, 256, (_GRID, _GRID, 3)).astype(np.uint8)
        soft = np.asarray(
            Image.fromarray(coarse).resize((side + side // 2, side + side // 4), Image.Resampling.BICUBIC)
        )
        noisy = soft + draw.randint(-20, 21, soft.shape)
        images.append(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)))
    return images


def prepared_pixels(classifier: Classifier, images: Sequence[Image.Image]) -> Tensor:
    """Resizes images as the classifier's model does; returns `[N, 3, S, S]` in [0, 1], float32 on the CPU."""
    transform = classifier.backbone.transform
    return torch.stack([transform(image) for image in images]).float().div_(255)


def compare(expected: Tensor, got: Tensor, what: str, temperature: float = 1.0) -> Agreement:
    """Compares an export's scores with its learner's.

    Args:
        expected: the learner's scores `[N, C]`.
        got: the export's scores of the same images.
        what: names the export in an error.
        temperature: T of the probabilities softmax(scores / T) that are compared.

    Raises:
        ValueError: if the shape differs, a score or probability differs by more than `TOLERANCE`, or a best class differs.
    """
    if got.shape != expected.shape:
        raise ValueError(f"{what} must give scores {list(expected.shape)}; got {list(got.shape)}")
    expected, got = expected.double(), got.double()
    size = expected.abs().amax(dim=1, keepdim=True).clamp(min=1)
    score = float(((got - expected).abs() / size).max())
    apart = (
        ((got / temperature).softmax(dim=1) - (expected / temperature).softmax(dim=1)).abs().amax(dim=1, keepdim=True)
    )
    probability = float(apart.max())
    # The steeper the scores, the more their rounding moves a probability.
    probable = bool((apart <= (_ROUNDING * size / temperature).clamp(min=TOLERANCE)).all())
    other = int((got.argmax(dim=1) != expected.argmax(dim=1)).sum())
    if not (score <= TOLERANCE and probable and other == 0):  # NaN fails here, too
        raise ValueError(
            f"{what} does not predict as the learner on {len(expected)} images: scores differ by {score:.1e}, probabilities by "
            f"{probability:.1e} (at most {TOLERANCE:.0e} is allowed), and {other} images get another class; nothing was written"
        )
    return Agreement(len(expected), score, probability)
