"""Anchors: making them with a source, and keeping the teacher's outputs for them (SeGP-CL, arXiv 2603.12055, section III)."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from segp_ext.clip.backbone import Backbone
from segp_ext.config import AnchorsConfig
from segp_ext.config.named import is_own
from segp_ext.data.images import Images
from segp_ext.method.encoding import encode_images
from segp_ext.method.own_parts import OwnPartError, check_returned, naming, title
from segp_ext.method.sources import Candidates, Source, Teacher
from segp_ext.runtime.processes import Processes
from segp_ext.runtime.progress import progress
from segp_ext.runtime.timing import Timer


class Anchors:
    """The samples that stand in for the old classes, with the teacher's outputs; in memory, or in a file that is read as needed.

    Args:
        count: number of samples, A.
        shape: shape of one sample's pixels; None if the samples are the task's own images (LwF).
        widths: De and Dr.
        device: device on which samples are used.
        dtype: dtype of all tensors, the backbone's.
        file: place of a file that holds the tensors; None keeps them on the device. One process of each host makes the file. It loses
            its name once all have opened it, so that nothing is left behind whatever happens.
        processes: the processes that share the file.

    Attributes:
        pixels: `[A, 3, S, S]` in [0, 1], or None.
        mapped: whether the tensors are in a file.
        embedding: the teacher's embeddings v, `[A, De]`.
        feature: the teacher's raw features z, `[A, Dr]`.
        after: room for the raw features of the model that has learnt the task, `[A, Dr]`.
        writes: whether this process writes into the tensors.

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
        """Makes anchors in memory from tensors by name, as the method `tensors` gives them."""
        embedding, feature, pixels = tensors["embedding"], tensors["feature"], tensors.get("pixels")
        shape = None if pixels is None else pixels.shape[1:]
        widths = embedding.shape[1], feature.shape[1]
        made = cls(len(embedding), shape, widths, device, embedding.dtype, None, Processes())
        made.write(0, pixels, embedding, feature)
        return made

    def tensors(self) -> dict[str, Tensor]:
        """Returns the tensors by name, on the CPU."""
        named = {"embedding": self.embedding, "feature": self.feature}
        return {name: t.cpu() for name, t in {**named, "pixels": self.pixels}.items() if t is not None}

    def __len__(self) -> int:
        return len(self.embedding)

    def write(self, start: int, pixels: Tensor | None, embedding: Tensor, feature: Tensor) -> None:
        """Writes samples from number `start` on."""
        if self.writes:
            rows = slice(start, start + len(embedding))
            self.embedding[rows], self.feature[rows] = embedding, feature
            if self.pixels is not None and pixels is not None:
                self.pixels[rows] = pixels

    def take(self, tensor: Tensor, indices: Tensor) -> Tensor:
        """Returns the rows `indices`, int64 `[B]`, of one of the tensors above, on the device."""
        return tensor[indices.to(tensor.device)].to(self.device)


def _reserve(file: Path, size: int) -> None:
    """Makes a file of `size` bytes that the disk has set aside. Otherwise a full disk would end the process at a later write."""
    try:
        with open(file, "wb") as made:
            os.posix_fallocate(made.fileno(), 0, size)
    except OSError as error:
        raise OSError(
            f"no room for {size / 1e9:.2f} GB of anchors in {file.parent} ({error.strerror}); name another folder as anchors.folder, lower "
            "anchors.seeds_per_class, or raise anchors.memory_gb to keep them on the device"
        ) from error


def check_folder(config: AnchorsConfig) -> None:
    """Refuses a folder for anchors that does not exist or cannot be written to, before anything is learnt.

    Raises:
        NotADirectoryError: naming the setting.
    """
    folder = Path(config.folder or tempfile.gettempdir())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise NotADirectoryError(f"anchors.folder must be a folder that can be written to; got {str(folder)!r}")


def _storage(
    count: int, shape: torch.Size | None, backbone: Backbone, config: AnchorsConfig, processes: Processes
) -> Anchors:
    """Makes room for `count` anchors: on the device, or in a file where they take more than `config.memory_gb`."""
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
def encoded_by_teacher(
    backbone: Backbone, images: Images, encode_batch_size: int, config: AnchorsConfig, processes: Processes
) -> Anchors:
    """Encodes images with the teacher, and keeps its outputs without the pixels.

    Every process encodes its share of the images; all get all outputs.

    Args:
        backbone: the teacher; call inside `Backbone.merged()`.
        images: the images.
        encode_batch_size: number of images encoded together.
        config: says how much may stay in memory.
        processes: the processes that share the work.
    """
    chunks = images.batches(encode_batch_size)
    anchors = _storage(len(images), None, backbone, config, processes)
    encoded = encode_images(backbone, images, encode_batch_size, processes, "teacher")
    results = processes.in_order(((v, z) for _, v, z in encoded), len(chunks))
    for indices, (embedding, feature) in zip(chunks, results, strict=True):
        anchors.write(int(indices[0]), None, embedding, feature)
    processes.wait()
    return anchors


@torch.no_grad()
def make_anchors(
    source: Source,
    teacher: Teacher,
    images: Images,
    encode_batch_size: int,
    generator: torch.Generator,
    processes: Processes,
    timer: Timer,
) -> Anchors:
    """Builds the anchors of one task with the teacher.

    Every process encodes and moves its share of the batches. All get all anchors, bit for bit the same as one process makes.

    Args:
        source: chooses seeds and moves them; its settings say how many go together, and what may stay in memory.
        teacher: the model before the task; call inside `Backbone.merged()`.
        images: the images that become anchors (`Source.images`).
        encode_batch_size: number of images encoded together.
        generator: CPU generator of the source's draws.
        processes: the processes that share the work.
        timer: measures the phases "seeds" and "anchors".

    Raises:
        OwnPartError: if a source of the user's own fails, or returns seeds or anchors that do not fit.
        ValueError: if not every anchor was made.
    """
    backbone, text, config = teacher.backbone, teacher.text, source.settings
    encoded = partial(encode_images, backbone, images, encode_batch_size, processes, "teacher")

    if source.takes_all:
        with timer.phase("anchors"):
            return encoded_by_teacher(backbone, images, encode_batch_size, config, processes)

    with timer.phase("seeds"):
        with naming("anchors.kind", source):
            seeds = source.seeds(teacher, Candidates(len(images), encoded, generator, processes))
        _check_seeds(source, seeds, len(text), len(images))
    with timer.phase("anchors"):
        index = seeds.flatten().cpu()
        target = torch.arange(len(text), device=text.device).repeat_interleave(seeds.shape[1])
        side = backbone.image_size
        anchors = _storage(len(index), torch.Size((3, side, side)), backbone, config, processes)
        pieces = index.split(config.batch_size)
        targets = processes.mine(target.split(config.batch_size))
        drawn = _draws(source, pieces, side, generator, processes)

        def moved() -> Iterator[tuple[Tensor, Tensor, Tensor]]:
            read = images.read(processes.mine(pieces))
            for (_, pixels), piece, numbers in progress(
                zip(read, targets, drawn, strict=True), "anchors", total=len(targets)
            ):
                seed = backbone.to_unit(pixels)
                with naming("anchors.kind", source):
                    x = source.move(teacher, seed, piece, None if numbers is None else numbers.to(seed))
                _check_moved(source, x, seed)
                yield x, *backbone.encode_image(x)

        start = 0
        for made in processes.in_order(moved(), len(pieces)):
            anchors.write(start, *made)
            start += len(made[0])
        if start != len(index):
            raise ValueError(f"{title('anchors.kind', source)} must make {len(index)} anchors; got {start}")
        processes.wait()
    return anchors


def _check_seeds(source: Source, seeds: object, classes: int, images: int) -> None:
    """Refuses seeds of the user's own source that are no image numbers `[C, K]`."""
    if not is_own(source):
        return
    named = f"{title('anchors.kind', source)}: seeds"
    needs = f"{named} must return an int64 tensor [{classes}, K] of image numbers below {images}, K at least 1"
    if not isinstance(seeds, Tensor):
        raise OwnPartError(f"{needs}; got {type(seeds).__name__}")
    if seeds.dtype != torch.int64 or seeds.ndim != 2 or len(seeds) != classes or not seeds.numel():
        raise OwnPartError(f"{needs}; got {str(seeds.dtype).removeprefix('torch.')} {list(seeds.shape)}")
    least, most = int(seeds.min()), int(seeds.max())
    if least < 0 or most >= images:
        raise OwnPartError(f"{needs}; got numbers from {least} to {most}")


def _check_moved(source: Source, moved: Tensor, seed: Tensor) -> None:
    """Refuses what the user's own source made of `seed`, if the encoder could not take it or an anchor would be missing."""
    if is_own(source):
        named = f"{title('anchors.kind', source)}: move"
        check_returned(named, moved, seed.shape, seed.dtype, seed.device)
        if not moved.isfinite().all():
            raise OwnPartError(f"{named} must return finite values; got NaN or infinity")


def _draws(
    source: Source, pieces: Iterable[Tensor], side: int, generator: torch.Generator, processes: Processes
) -> Iterator[Tensor | None]:
    """Yields the source's draws for this process's pieces. Draws for other processes are made too, so that all draw alike."""
    for number, piece in enumerate(pieces):
        with naming("anchors.kind", source):
            drawn = source.draw((len(piece), 3, side, side), generator)
        if number % processes.count == processes.rank:
            yield drawn
