"""Seeds and anchors: new images that the teacher takes for old classes, and their targeted perturbation (DPGD).

SeGP-CL (arXiv 2603.12055); README, method steps 1 and 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext import ops
from segp_ext.backbone import Backbone
from segp_ext.config import AnchorsConfig
from segp_ext.data.images import Images
from segp_ext.progress import progress


@dataclass
class Anchors:
    """What the teacher has to say about the samples that stand in for the old classes.

    Attributes:
        pixels: float32 `[A, 3, S, S]` in [0, 1]; None if the samples are the task's own images (LwF).
        embedding: teacher's v, `[A, De]`.
        feature: teacher's z, `[A, Dr]`.
    """

    pixels: Tensor | None
    embedding: Tensor
    feature: Tensor

    def __len__(self) -> int:
        return len(self.embedding)


@torch.no_grad()
def select_seeds(batches: Iterable[tuple[Tensor, Tensor]], text: Tensor, count: int) -> Tensor:
    """The `count` images with the largest v̂·û_c for every class c, streamed: no image × class matrix is kept.

    Args:
        batches: (indices int64 `[B]`, teacher's embeddings `[B, De]`) over the new images.
        text: teacher's text embeddings of the old classes `[C, De]`, any norm.
        count: K_seed.

    Returns:
        Image indices int64 `[C, min(count, images)]`, best first. One image can serve several classes.
    """
    unit_text = F.normalize(text, dim=-1)
    best = torch.empty(len(text), 0, dtype=text.dtype, device=text.device)
    chosen = torch.empty(len(text), 0, dtype=torch.int64, device=text.device)
    for indices, embedding in batches:
        score = unit_text @ F.normalize(embedding, dim=-1).T
        best = torch.cat([best, score], dim=1)
        chosen = torch.cat([chosen, indices.to(text.device).expand(len(text), -1)], dim=1)
        best, place = best.topk(min(count, best.shape[1]), dim=1)
        chosen = chosen.gather(1, place)
    return chosen


def perturb(
    backbone: Backbone,
    seed: Tensor,
    target: Tensor,
    text: Tensor,
    prototypes: Tensor,
    config: AnchorsConfig,
    noise: Tensor | None,
) -> Tensor:
    """Turns seeds into anchors of their target classes (DPGD and the kinds it is compared with).

    Args:
        backbone: the teacher; call inside `Backbone.teacher()`.
        seed: pixels `[B, 3, S, S]` in [0, 1].
        target: old class of each seed, int64 `[B]`.
        text: teacher's text embeddings of the old classes `[C, De]`.
        prototypes: of the old classes `[C, Dr]`.
        config: kind, steps, step size, epsilon and visual weight.
        noise: uniform draws in [-1, 1] `[B, 3, S, S]`, for kind "noise" alone.

    Returns:
        Pixels `[B, 3, S, S]` in [0, 1], within epsilon of their seeds.
    """
    if config.kind == "seeds":
        return seed.clone()
    if config.kind == "noise":
        assert noise is not None
        return (seed + config.epsilon * noise).clamp_(0, 1)
    x = seed.clone()
    for _ in range(config.steps):
        with torch.enable_grad():
            x.requires_grad_(True)
            embedding, feature = backbone.encode_image(x)
            if config.kind == "visual":
                loss = 1 - F.cosine_similarity(feature, prototypes[target], dim=-1)
            else:
                weight = 0.0 if config.kind == "text" else config.visual_weight
                scale = backbone.logit_scale
                loss = ops.dual_target_loss(
                    embedding, feature, text, prototypes, target, logit_scale=scale, visual_weight=weight
                )
            # Summed, not averaged: a sample's path must not depend on its batch.
            (grad,) = torch.autograd.grad(loss.sum(), x)
        x = x.detach()
        ops.dpgd_step_(x, grad, seed, step_size=config.step_size, epsilon=config.epsilon)
    return x


@torch.no_grad()
def make_anchors(
    backbone: Backbone,
    images: Images,
    text: Tensor,
    prototypes: Tensor,
    config: AnchorsConfig,
    encode_batch_size: int,
    generator: torch.Generator,
) -> Anchors | None:
    """Builds the anchors of one task with the teacher, or None if `config.kind` is "none".

    Args:
        backbone: the teacher; call inside `Backbone.teacher()`.
        images: the new task's training images.
        text: teacher's text embeddings of the old classes `[C, De]`.
        prototypes: of the old classes `[C, Dr]`.
        config: seeds per class, kind and perturbation.
        encode_batch_size: images encoded together.
        generator: CPU generator of the random-noise kind's draws.
    """
    if config.kind == "none":
        return None
    total = -(-len(images) // encode_batch_size)
    encoded = progress(images.batches(encode_batch_size), "teacher", total=total)
    if config.kind == "new-images":
        pairs = [backbone.encode_image(backbone.to_unit(pixels)) for _, pixels in encoded]
        return Anchors(None, torch.cat([v for v, _ in pairs]), torch.cat([z for _, z in pairs]))

    scored = ((indices, backbone.encode_image(backbone.to_unit(pixels))[0]) for indices, pixels in encoded)
    seeds = select_seeds(scored, text, config.seeds_per_class)
    index = seeds.flatten().cpu()
    target = torch.arange(len(text), device=text.device).repeat_interleave(seeds.shape[1])
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    batches = list(zip(index.split(config.batch_size), target.split(config.batch_size), strict=True))
    for batch_index, batch_target in progress(batches, "anchors"):
        seed = backbone.to_unit(images.take(batch_index))
        noise = None
        if config.kind == "noise":
            noise = (torch.rand(seed.shape, generator=generator) * 2 - 1).to(seed.device)
        x = perturb(backbone, seed, batch_target, text, prototypes, config, noise)
        parts.append((x, *backbone.encode_image(x)))
    return Anchors(*(torch.cat(list(tensors)) for tensors in zip(*parts, strict=True)))
