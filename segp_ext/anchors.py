"""Seeds and anchors: new images that the teacher takes for old classes, and their targeted perturbation (DPGD).

SeGP-CL (arXiv 2603.12055), equations 9 to 14.
"""

from __future__ import annotations

import math
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext import ops
from segp_ext.backbone import Backbone
from segp_ext.config import AnchorsConfig
from segp_ext.data.images import Images
from segp_ext.processes import Processes
from segp_ext.progress import progress
from segp_ext.timing import Timer

_LOW = 0xFFFFFFFF


class Anchors:
    """What the teacher has to say about the samples that stand in for the old classes; in memory, or in a file that is read as needed.

    Args:
        count: number of samples, A.
        shape: of one sample's pixels; none if the samples are the task's own images (LwF).
        widths: De and Dr.
        device: where samples are used.
        dtype: of all tensors, the backbone's.
        file: maps the tensors into this file instead of keeping them on the device. The file is made by one process of each host, and
            has no name any more once all have opened it, so that nothing is left behind whatever happens.
        processes: those that share the file.

    Attributes:
        pixels: `[A, 3, S, S]` in [0, 1], or None.
        mapped: whether they are in a file.
        embedding: teacher's v, `[A, De]`.
        feature: teacher's z, `[A, Dr]`.
        after: room for z in the model that has learnt the task, `[A, Dr]`.

    Raises:
        OSError: if there is no room for the file, naming the setting.
    """

    def __init__(
        self,
        count: int,
        shape: torch.Size | None,
        widths: tuple[int, int],
        device: torch.device,
        dtype: torch.dtype,
        file: Path | None,
        processes: Processes,
    ) -> None:
        self.device, self.mapped = device, file is not None
        self.writes = file is None or processes.local_rank == 0
        rows = [0 if shape is None else shape.numel(), *widths, widths[1]]
        if file is None:
            parts = [torch.empty(count, width, device=device, dtype=dtype) for width in rows]
        else:
            try:
                if self.writes:
                    _reserve(file, dtype.itemsize * count * sum(rows))
                processes.wait()
                flat = torch.from_file(str(file), shared=True, size=count * sum(rows), dtype=dtype)
                processes.wait()
            finally:
                if self.writes:
                    file.unlink(missing_ok=True)
            parts = [part.view(count, -1) for part in flat.split([count * width for width in rows])]
        self.pixels = None if shape is None else parts[0].view(count, *shape)
        self.embedding, self.feature, self.after = parts[1:]

    @classmethod
    def of(cls, tensors: dict[str, Tensor], device: torch.device) -> Anchors:
        """Anchors in memory from what `tensors` gave."""
        embedding, feature, pixels = tensors["embedding"], tensors["feature"], tensors.get("pixels")
        shape = None if pixels is None else pixels.shape[1:]
        widths = embedding.shape[1], feature.shape[1]
        made = cls(len(embedding), shape, widths, device, embedding.dtype, None, Processes())
        made.write(0, pixels, embedding, feature)
        return made

    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name, on the CPU."""
        named = {"embedding": self.embedding, "feature": self.feature}
        return {name: t.cpu() for name, t in {**named, "pixels": self.pixels}.items() if t is not None}

    def __len__(self) -> int:
        return len(self.embedding)

    def write(self, start: int, pixels: Tensor | None, embedding: Tensor, feature: Tensor) -> None:
        """Sets the samples from `start` on."""
        if self.writes:
            rows = slice(start, start + len(embedding))
            self.embedding[rows], self.feature[rows] = embedding, feature
            if self.pixels is not None and pixels is not None:
                self.pixels[rows] = pixels

    def take(self, tensor: Tensor, indices: Tensor) -> Tensor:
        """Rows of one of the tensors above, on the device."""
        return tensor[indices.to(tensor.device)].to(self.device)


def _reserve(file: Path, size: int) -> None:
    """Makes a file of so many bytes that the disk has set aside: without, a full one would end the process when it is written to."""
    try:
        with open(file, "wb") as made:
            os.posix_fallocate(made.fileno(), 0, size)
    except OSError as error:
        raise OSError(
            f"no room for {size / 1e9:.2f} GB of anchors in {file.parent} ({error.strerror}); name another folder as anchors.folder, lower "
            "anchors.seeds_per_class, or raise anchors.memory_gb to keep them on the device"
        ) from error


def check_folder(config: AnchorsConfig) -> None:
    """Refuses a folder for anchors that is none, before anything is learnt.

    Raises:
        NotADirectoryError: naming the setting.
    """
    folder = Path(config.folder or tempfile.gettempdir())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise NotADirectoryError(f"anchors.folder must be a folder that can be written to; got {str(folder)!r}")


def check_reference(images: int, classes: int) -> None:
    """Refuses a set of reference images that cannot give one to every old class.

    Raises:
        ValueError: naming the setting.
    """
    if images < classes:
        raise ValueError(
            f"anchors.reference must hold an image for each of {classes} old classes at the least; got {images}"
        )


def _keys(score: Tensor, indices: Tensor) -> Tensor:
    """Scores float32 and image indices as int64 that sort by score, and by the smaller index where scores are equal."""
    bits = score.float().view(torch.int32).to(torch.int64)
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    return (ordered << 32) | (_LOW - indices)


@torch.no_grad()
def select_seeds(
    batches: Iterable[tuple[Tensor, Tensor]],
    text: Tensor,
    count: int,
    processes: Processes | None = None,
    by_distance: bool = False,
) -> Tensor:
    """The `count` images with the largest v̂·û_c for every class c, streamed: no image × class matrix is kept.

    Args:
        batches: (indices int64 `[B]`, teacher's embeddings `[B, De]`) over this process's share of the new images.
        text: teacher's text embeddings of the old classes `[C, De]`, any norm.
        count: K_seed.
        processes: those that share the images.
        by_distance: take the smallest ‖v − u_c‖ instead, for raw features and prototypes (ADC).

    Returns:
        Image indices int64 `[C, min(count, images)]`, best first, the smaller index first among equals; the same on every process. One
        image can serve several classes.
    """
    unit_text = F.normalize(text, dim=-1)
    none = torch.iinfo(torch.int64).min
    best = torch.full((len(text), count), none, dtype=torch.int64, device=text.device)
    for indices, embedding in batches:
        score = -torch.cdist(text, embedding) if by_distance else unit_text @ F.normalize(embedding, dim=-1).T
        best = torch.cat([best, _keys(score, indices.to(text.device))], dim=1).topk(count, dim=1).values
    if processes is not None:
        best = torch.cat(processes.gather(best), dim=1).topk(count, dim=1).values
    found = int((best[0] != none).sum()) if len(best) else 0
    return _LOW - (best[:, :found] & _LOW)


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
        backbone: the teacher; call inside `Backbone.merged()`.
        seed: pixels `[B, 3, S, S]` in [0, 1].
        target: old class of each seed, int64 `[B]`.
        text: teacher's text embeddings of the old classes `[C, De]`.
        prototypes: of the old classes `[C, Dr]`.
        config: kind, steps, step size, epsilon and visual weight.
        noise: uniform draws in [-1, 1] `[B, 3, S, S]`, for kind "noise" alone.

    Returns:
        Pixels `[B, 3, S, S]` in [0, 1], within epsilon of their seeds.
    """
    if config.kind in ("seeds", "reference"):
        return seed.clone()
    if config.kind == "noise":
        assert noise is not None
        return (seed + config.epsilon * noise).clamp_(0, 1)
    if config.kind == "adc":
        return _approached(backbone, seed, prototypes[target], config)
    x = seed.clone()
    for _ in range(config.steps):
        with torch.enable_grad():
            x.requires_grad_(True)
            outputs = backbone.encode_image(x)
            embedding, feature = (output.detach().requires_grad_() for output in outputs)
            if config.kind == "visual":
                loss = 1 - F.cosine_similarity(feature, prototypes[target], dim=-1)
            else:
                weight = 0.0 if config.kind == "text" else config.visual_weight
                scale = backbone.logit_scale
                loss = ops.dual_target_loss(
                    embedding, feature, text, prototypes, target, logit_scale=scale, visual_weight=weight
                )
            # Summed, not averaged: a sample's path must not depend on its batch. A factor keeps half-precision gradients from vanishing;
            # their signs are all that counts.
            (loss.sum() * (1024 if backbone.precision == "fp16" else 1)).backward()
            reached = [
                (o, leaf.grad) for o, leaf in zip(outputs, (embedding, feature), strict=True) if leaf.grad is not None
            ]
            grad = backbone.gradient(x, *zip(*reached, strict=True))
        x = x.detach()
        ops.dpgd_step_(x, grad, seed, step_size=config.step_size, epsilon=config.epsilon)
    return x


def _approached(backbone: Backbone, seed: Tensor, goal: Tensor, config: AnchorsConfig) -> Tensor:
    """Steps of ADC (arXiv 2405.19074): x − α·√D·g/‖g‖ on ‖z − p‖², D pixels, clamped to the pixel range.

    ADC takes one norm over the images of a class; here each image has its own, so that its path does not depend on its batch.
    """
    x = seed.clone()
    for _ in range(config.steps):
        with torch.enable_grad():
            x.requires_grad_(True)
            feature = backbone.encode_image(x)[1]
            loss = (feature - goal).square().mean(dim=1).sum()
            grad = backbone.gradient(x, (feature,), torch.autograd.grad(loss, (feature,), retain_graph=True))
        x = x.detach()
        norm = grad.flatten(1).norm(dim=1).clamp(min=torch.finfo(grad.dtype).tiny).view(-1, 1, 1, 1)
        x = (x - config.step_size * math.sqrt(x[0].numel()) * grad / norm).clamp_(0, 1)
    return x


def _storage(
    count: int, shape: torch.Size | None, backbone: Backbone, config: AnchorsConfig, processes: Processes
) -> Anchors:
    """Room for `count` anchors: on the device, or in a file where they take more than `config.memory_gb`."""
    widths = (backbone.embed_dim, backbone.raw_dim)
    size = backbone.dtype.itemsize * count * ((0 if shape is None else shape.numel()) + sum(widths) + widths[1])
    file = None
    if size > config.memory_gb * 1e9:
        token = processes.sum(
            torch.tensor(int.from_bytes(os.urandom(4), "little") if processes.is_main else 0, device=backbone.device)
        )
        folder = Path(config.folder or tempfile.gettempdir())
        file = folder / f"segp-anchors-{platform.node()}-{int(token):08x}"
    return Anchors(count, shape, widths, backbone.device, backbone.dtype, file, processes)


@torch.no_grad()
def make_anchors(
    backbone: Backbone,
    images: Images,
    text: Tensor,
    prototypes: Tensor,
    config: AnchorsConfig,
    encode_batch_size: int,
    generator: torch.Generator,
    processes: Processes,
    timer: Timer,
) -> Anchors | None:
    """Builds the anchors of one task with the teacher, or None if `config.kind` is "none".

    Every process encodes and perturbs its share of the batches; all get all anchors, bit for bit those of one process.

    Args:
        backbone: the teacher; call inside `Backbone.merged()`.
        images: the new task's training images; for kind "reference" those of `config.reference`.
        text: teacher's text embeddings of the old classes `[C, De]`.
        prototypes: of the old classes `[C, Dr]`.
        config: seeds per class, kind, perturbation, and what may stay in memory.
        encode_batch_size: images encoded together.
        generator: CPU generator of the random-noise kind's draws.
        processes: those that share the work.
        timer: measures the phases "seeds" and "anchors".
    """
    if config.kind == "none":
        return None
    chunks = images.batches(encode_batch_size)
    own = processes.mine(chunks)

    def encoded() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for indices, pixels in progress(images.read(own), "teacher", total=len(own)):
            yield indices, *backbone.encode_image(backbone.to_unit(pixels))

    if config.kind == "new-images":
        with timer.phase("anchors"):
            anchors = _storage(len(images), None, backbone, config, processes)
            results = processes.in_order(((v, z) for _, v, z in encoded()), len(chunks))
            for indices, (embedding, feature) in zip(chunks, results, strict=True):
                anchors.write(int(indices[0]), None, embedding, feature)
            processes.wait()
        return anchors

    with timer.phase("seeds"):
        count = min(config.seeds_per_class, len(images))
        if config.kind == "reference":
            of_each = min(config.seeds_per_class, len(images) // len(text))
            drawn = torch.randperm(len(images), generator=generator, device="cpu")
            seeds = drawn[: of_each * len(text)].view(len(text), of_each)
        elif config.kind == "adc":
            near = ((i, z) for i, _, z in encoded())
            seeds = select_seeds(near, prototypes, count, processes, by_distance=True)
        else:
            seeds = select_seeds(((i, v) for i, v, _ in encoded()), text, count, processes)
    with timer.phase("anchors"):
        index = seeds.flatten().cpu()
        target = torch.arange(len(text), device=text.device).repeat_interleave(seeds.shape[1])
        side = backbone.image_size
        anchors = _storage(len(index), torch.Size((3, side, side)), backbone, config, processes)
        pieces = index.split(config.batch_size)
        targets = processes.mine(target.split(config.batch_size))
        noise: Iterable[Tensor | None] = [None] * len(targets)
        if config.kind == "noise":
            noise = _noise(pieces, side, generator, processes)

        def perturbed() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
            read = images.read(processes.mine(pieces))
            for (_, pixels), piece, draws in progress(
                zip(read, targets, noise, strict=True), "anchors", total=len(targets)
            ):
                seed = backbone.to_unit(pixels)
                moved = None if draws is None else draws.to(seed)
                x = perturb(backbone, seed, piece, text, prototypes, config, moved)
                yield x, *backbone.encode_image(x)

        start = 0
        for made in processes.in_order(perturbed(), len(pieces)):
            anchors.write(start, *made)
            start += len(made[0])
        processes.wait()
    return anchors


def _noise(pieces: Iterable[Tensor], side: int, generator: torch.Generator, processes: Processes) -> Iterator[Tensor]:
    """Uniform draws in [-1, 1] for this process's pieces; those of the others are drawn and left, so that all processes draw alike."""
    for number, piece in enumerate(pieces):
        draws = torch.rand(len(piece), 3, side, side, generator=generator, dtype=torch.float32, device="cpu") * 2 - 1
        if number % processes.count == processes.rank:
            yield draws
