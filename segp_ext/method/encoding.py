"""Encoding many images or prompts, batch by batch, without gradients."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from segp_ext.clip.backbone import Backbone
from segp_ext.clip.wording import ClassTokens, mean_embeddings
from segp_ext.data.images import Images
from segp_ext.runtime.processes import Processes
from segp_ext.runtime.progress import progress


@torch.no_grad()
def encode_images(
    backbone: Backbone, images: Images, batch_size: int, processes: Processes, label: str = "encoding"
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Encodes this process's share of the images.

    Args:
        backbone: the model.
        images: all images.
        batch_size: number of images encoded together.
        processes: the processes that share the images.
        label: name of the progress bar.

    Yields:
        Indices int64 `[B]`, embeddings v `[B, De]` and raw features z `[B, Dr]` of each batch.
    """
    chunks = processes.mine(images.batches(batch_size))
    for indices, pixels in progress(images.read(chunks), label, total=len(chunks)):
        yield indices, *backbone.encode_image(backbone.to_unit(pixels))


@torch.no_grad()
def encode_prompts(backbone: Backbone, tokens: Tensor, batch_size: int) -> Tensor:
    """Encodes prompts `[C, L]`, `batch_size` of them together; returns text embeddings u `[C, De]`."""
    return torch.cat([backbone.encode_text(part) for part in tokens.split(batch_size)])


def encode_classes(backbone: Backbone, prompts: ClassTokens, batch_size: int) -> Tensor:
    """Encodes classes, `batch_size` prompts together; returns their text embeddings u `[C, De]`, means over their prompts."""
    return mean_embeddings(encode_prompts(backbone, prompts.tokens, batch_size), prompts.counts)
