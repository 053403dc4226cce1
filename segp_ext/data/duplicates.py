"""Finds images that are there twice: with the same pixels, or nearly the same ones."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

NEAR = 0.99
"""Least correlation of the thumbnails of near duplicates. `evidence/suspects.py` measures others."""
ALIKE = 0.9
"""Least cosine of their features."""
_SIDE = 16
"""Side of a thumbnail."""
_ROWS = 1024
"""Images that are compared with all others at a time."""


@dataclass(frozen=True)
class Pair:
    """Two images that look the same.

    Attributes:
        first: Place of the one that comes first.
        second: Place of the other one.
        likeness: 1 for the same pixels, else the correlation of the thumbnails.
        same_pixels: Whether all pixels are the same.
    """

    first: int
    second: int
    likeness: float
    same_pixels: bool


def digests(pixels: Tensor) -> list[bytes]:
    """Computes a hash of each image's pixels, uint8 `[B, 3, S, S]`: as a model sees the image, resized and cropped."""
    return [hashlib.sha256(image.numpy().tobytes()).digest() for image in pixels.cpu()]


def thumbnails(pixels: Tensor) -> Tensor:
    """Makes grey thumbnails of images, of mean 0 and norm 1; an image of one grey gets zeros.

    Args:
        pixels: uint8 `[B, 3, S, S]`.

    Returns:
        float32 `[B, 256]`.
    """
    grey = pixels.cpu().float().mean(dim=1, keepdim=True)
    small = F.interpolate(grey, (_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False).flatten(1)
    centred = small - small.mean(dim=1, keepdim=True)
    norm = centred.norm(dim=1, keepdim=True)
    return torch.where(
        norm > 1, centred / norm.clamp_min(1), torch.zeros_like(centred)
    )  # 1: less than rounding of 8 bits


def duplicates(same: list[bytes], thumbnail: Tensor, features: Tensor, near: float = NEAR) -> list[Pair]:
    """Finds pairs of images that look the same. Time grows with the square of the number of images.

    Each image is paired with the first one that has its pixels. Of images of different pixels, every two are paired whose thumbnails
    correlate by `near` at least, and whose features have a cosine of `ALIKE` at least.

    Args:
        same: Hash of each image's pixels, as `digests` makes them.
        thumbnail: As `thumbnails` makes them, `[N, 256]`.
        features: Features of the images `[N, D]`, any norm.
        near: Least correlation.

    Returns:
        Pairs in the order of their first and second image.
    """
    first: dict[bytes, int] = {}
    pairs = []
    for place, digest in enumerate(same):
        if (before := first.setdefault(digest, place)) != place:
            pairs.append(Pair(before, place, 1.0, True))
    own = torch.tensor(sorted(first.values()), dtype=torch.int64, device="cpu")
    small, unit = thumbnail[own], F.normalize(features.float().cpu()[own], dim=1)
    for start in range(0, len(own), _ROWS):
        rows = slice(start, start + _ROWS)
        like = small[rows] @ small[start:].T
        close = (like >= near).triu(diagonal=1)
        for row, column in close.nonzero().tolist():
            if float(unit[start + row] @ unit[start + column]) >= ALIKE:
                likeness = min(float(like[row, column]), 1.0)
                pairs.append(Pair(int(own[start + row]), int(own[start + column]), likeness, False))
    return sorted(pairs, key=lambda pair: (pair.first, pair.second))


def groups(images: int, pairs: list[Pair]) -> np.ndarray:
    """Numbers the groups of images that pairs join, directly or by others; an image without a pair is a group.

    Args:
        images: Number of images.
        pairs: What `duplicates` returned.

    Returns:
        Group of each image, int64 `[N]`.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = ([pair.first for pair in pairs], [pair.second for pair in pairs])
    joined = coo_array((np.ones(len(pairs)), ends), shape=(images, images))
    return connected_components(joined, directed=False)[1].astype(np.int64)
