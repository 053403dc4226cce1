"""Scores of images against text, equal to the bit for classes that read the same."""

from __future__ import annotations

import torch
from torch import Tensor

from segp_ext.method.losses import clip_scores


def first_alike(text: Tensor) -> Tensor | None:
    """Finds for each class the first one with the same text embedding, to the bit.

    Args:
        text: Text embeddings `[C, De]`.

    Returns:
        The places of these classes, int64 `[C]`, on the device of `text`; None if no two embeddings are the same.
    """
    if text.device.type == "meta":
        return None
    first: dict[bytes, int] = {}
    rows = text.detach().cpu().contiguous().view(torch.uint8).numpy()  # NumPy has no bfloat16
    places = [first.setdefault(row.tobytes(), place) for place, row in enumerate(rows)]
    return None if len(first) == len(text) else torch.tensor(places, device=text.device)


def text_scores(embedding: Tensor, text: Tensor, alike: Tensor | None, scale: float) -> Tensor:
    """Computes CLIP's scores s·v̂·û `[B, C]`.

    A product may round equal columns differently, so that chance would choose between classes that read the same. They get the score of
    the first one, which therefore leads.

    Args:
        embedding: Image embeddings v `[B, De]`, any norm.
        text: Text embeddings u `[C, De]`, any norm.
        alike: What `first_alike` gives for `text`.
        scale: s.
    """
    scores = clip_scores(embedding, text, scale)
    return scores if alike is None else scores[:, alike]
