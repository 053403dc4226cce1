"""What a classifier says of images: probabilities, the verdict unknown, and the best names."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch import Tensor

NOT_FINITE = "are not finite; with model.precision fp16, bf16 or fp32 may help"
"""What a message says of an image's scores that are not finite."""


class Prediction(NamedTuple):
    """One answer for one image.

    Attributes:
        name: The class name, or a name that was never learnt. None says that the image is of no learnt class.
        score: The name's probability. The scores of all names add up to 1; see `Classifier.probabilities`. For None, the share of images
            of learnt classes that fit these classes better than the image does.
    """

    name: str | None
    score: float


class Answer(NamedTuple):
    """What a classifier says of images.

    Attributes:
        probabilities: Probabilities of all names, float64 `[B, C + O]`, as `Classifier.probabilities` gives them.
        unknown: Whether each image belongs to no learnt class, bool `[B]`; None if that was not asked.
        unknown_share: Share of images of learnt classes that fit these classes better, float64 `[B]` from 0 to 1; None likewise.
    """

    probabilities: Tensor
    unknown: Tensor | None
    unknown_share: Tensor | None


def best_names(answer: Answer, names: Sequence[str], learnt: int, topk: int) -> Iterator[list[Prediction] | None]:
    """Yields what an answer says of each image: its `topk` best names, best first.

    An image that is unknown gets one prediction without a name, unless its best name is one that was never learnt.

    Args:
        answer: The answer.
        names: Names of the probabilities' columns, the learnt ones first.
        learnt: Number of the learnt ones.
        topk: How many names to yield, or all where there are fewer.

    Yields:
        The predictions; None for an image whose scores are not finite.
    """
    top = answer.probabilities.topk(min(topk, len(names)), dim=1)
    count = len(answer.probabilities)
    unknown = [False] * count if answer.unknown is None else answer.unknown.tolist()
    shares = [0.0] * count if answer.unknown_share is None else answer.unknown_share.tolist()
    for values, places, far, share in zip(top.values.tolist(), top.indices.tolist(), unknown, shares, strict=True):
        if not math.isfinite(sum(values) + share):
            yield None
        elif far and places[0] < learnt:
            yield [Prediction(None, share)]
        else:
            yield [Prediction(names[c], v) for v, c in zip(values, places, strict=True)]
