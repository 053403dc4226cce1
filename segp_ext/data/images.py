"""Reading images: any dataset of (image, label) becomes uint8 pixels ready for the backbone, kept in memory where they fit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segp_ext.config import LoadingConfig

Transform = Callable[[Image.Image], Tensor]
T = TypeVar("T")


class SizedDataset(Protocol):
    """A map-style torch dataset: `len()` and integer indexing, giving (image, label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, int]: ...


FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""What image files may hold. PIL knows many more formats, and runs another program for one of them."""

_SIXTEEN_BITS = ("PNG", "PPM")
"""Formats whose pixels have at most 16 bits, which PIL may hold in 32."""


def as_rgb(image: Image.Image) -> Image.Image:
    """A PIL image of any mode as 8-bit RGB; 16-bit grey is scaled to it, transparency left out.

    Raises:
        ValueError: for 32-bit pixels, whose range nothing says.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _SIXTEEN_BITS):
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"pixels of 32 bits (mode {image.mode}) have no range that is known; save it with 8 bits")
    return image.convert("RGB")


def to_pil(image: Any, what: str = "image") -> Image.Image:
    """Returns `image` as a PIL RGB image.

    Args:
        image: PIL image, or uint8 pixels `[3, H, W]` or `[1, H, W]` (tensor or array).
        what: how an error names the image.

    Raises:
        TypeError: for another type or dtype.
        ValueError: for another shape.
    """
    if isinstance(image, Image.Image):
        return as_rgb(image)
    if isinstance(image, (Tensor, np.ndarray)):
        if image.dtype not in (torch.uint8, np.uint8):
            raise TypeError(f"{what} must hold uint8 pixels (0 to 255); got {image.dtype}")
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise ValueError(f"{what} must be [3, H, W] or [1, H, W]; got {list(image.shape)}")
        pixels = np.asarray(image).transpose(1, 2, 0)
        return Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))), "RGB")
    raise TypeError(f"{what} must be a PIL image or uint8 [3, H, W] pixels; got {type(image).__name__}")


def as_it_is(image: Image.Image) -> Tensor:
    """A PIL RGB image as uint8 `[3, H, W]`, not resized."""
    return torch.from_numpy(np.array(image).transpose(2, 0, 1).copy())


def labels_of(dataset: SizedDataset) -> Tensor:
    """All labels of a dataset, int64 `[N]`, without decoding images where it has `labels` or `targets` and no `target_transform`.

    Raises:
        TypeError: if they are no integers.
        ValueError: if there is not one per image.
    """
    known = None
    if getattr(dataset, "target_transform", None) is None:
        known = getattr(dataset, "labels", None)
        if known is None:
            known = getattr(dataset, "targets", None)
    if known is None:
        known = [dataset[i][1] for i in range(len(dataset))]
    try:
        labels = torch.as_tensor(known, device="cpu")
    except (TypeError, ValueError) as error:
        raise TypeError(f"labels must be integers; got {known[:3]!r}...") from error
    if len(dataset) == 0:
        return torch.zeros(0, dtype=torch.int64, device="cpu")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels must be integers; got {labels.dtype}")
    if list(labels.shape) != [len(dataset)]:
        raise ValueError(f"there must be one label per image, [{len(dataset)}]; got {list(labels.shape)}")
    return labels.to(torch.int64)


class Reader:
    """How images are read: the transform, helpers, and the memory that decoded images may take together.

    Args:
        transform: PIL image → uint8 `[3, S, S]`; left to the device if `config.resize` says so.
        config: worker processes, memory, resizing.
        device: where the pixels go.
        processes: how many processes of the run share this host.
    """

    def __init__(self, transform: Transform, config: LoadingConfig, device: torch.device, processes: int = 1) -> None:
        self.transform = as_it_is if config.resize == "device" else transform
        self.pin = device.type == "cuda"
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        # On the CPU the encoder needs every core; a GPU leaves them free.
        self.workers = (min(8, cores // processes) if self.pin else 0) if config.workers is None else config.workers
        if config.memory_gb is None:
            import psutil

            self.memory = psutil.virtual_memory().available // (2 * processes)
        else:
            self.memory = int(config.memory_gb * 1e9)


class _Decoded(Dataset):
    """Decoded images by index; an error is handed over as an item, so that a worker's traceback does not bury its message."""

    def __init__(self, dataset: SizedDataset, transform: Transform) -> None:
        self.dataset, self.transform = dataset, transform
        self.shape: torch.Size | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Tensor | Exception:
        try:
            pixels = self.transform(to_pil(self.dataset[index][0], f"image {index}"))
        except Exception as error:
            return error
        if self.shape is not None and pixels.shape != self.shape:
            (_, h, w), (_, first_h, first_w) = pixels.shape, self.shape
            return ValueError(
                f"loading.resize device needs images of one size; the first has {first_h}×{first_w} pixels, image {index} has {h}×{w}. "
                "Use --loading.resize exact."
            )
        return pixels


def _stacked(images: list[Tensor | Exception]) -> Tensor | Exception:
    tensors = []
    for image in images:
        if isinstance(image, Exception):
            return image
        tensors.append(image)
    return torch.stack(tensors)


class Images:
    """The images of one dataset as uint8 pixels, each decoded when it is first read and kept while memory lasts.

    CLIP's own preprocessing (resize, crop) ends in 8-bit pixels and no protocol here augments, so decoding once and keeping uint8 is
    exact. A dataset that does not fit into what is left of the reader's memory is decoded again on every pass.

    Args:
        dataset: map-style dataset of (PIL image or uint8 `[3, H, W]` pixels, label).
        reader: how to read it.
    """

    @torch.inference_mode(False)
    def __init__(self, dataset: SizedDataset, reader: Reader) -> None:
        self.labels = labels_of(dataset)
        self.reader = reader
        self._decoded = _Decoded(dataset, reader.transform)
        self._pixels: Tensor | None = None  # [N, 3, H, W]; rows are valid where _kept says so
        self._kept = torch.zeros(len(dataset), dtype=torch.bool, device="cpu")

    def __len__(self) -> int:
        return len(self.labels)

    def __del__(self) -> None:
        if getattr(self, "_pixels", None) is not None:
            self.reader.memory += self._pixels.numel()  # type: ignore[union-attr]

    def read(self, chunks: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (indices int64 `[B]`, pixels uint8 `[B, 3, H, W]`) for every chunk of indices.

        Raises:
            TypeError, ValueError: for an image that cannot be read, naming it.
        """
        batches = self._read(chunks)
        return ahead((indices, pixels.pin_memory()) for indices, pixels in batches) if self.reader.pin else batches

    def _read(self, chunks: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        if self._decoded.shape is None and len(chunks):
            self._measure(int(chunks[0][0]))
        expected, missing = self._kept.clone(), []
        for chunk in chunks:
            missing.append(chunk if self._pixels is None else chunk[~expected[chunk]].unique())
            expected[missing[-1]] = True
        wanted = [indices.tolist() for indices in missing if len(indices)]
        workers = min(self.reader.workers, len(wanted)) if len(wanted) > 1 else 0
        own = torch.Generator("cpu")  # the loader draws a number whether it needs one or not; not from the caller's
        loader = DataLoader(
            self._decoded, batch_sampler=wanted, num_workers=workers, collate_fn=_stacked, generator=own
        )
        with torch.device("cpu"):
            decoded = iter(loader)
        for chunk, indices in zip(chunks, missing, strict=True):
            pixels: Any = next(decoded) if len(indices) else None
            if isinstance(pixels, Exception):
                raise pixels
            if self._pixels is not None:
                if pixels is not None:
                    self._pixels[indices], self._kept[indices] = pixels, True
                pixels = self._pixels[chunk]
            yield chunk, pixels

    @torch.inference_mode(False)
    def _measure(self, index: int) -> None:
        """Learns the size of an image from one of them, and keeps all if they fit."""
        first = self._decoded[index]
        if isinstance(first, Exception):
            raise first
        self._decoded.shape = first.shape
        size = len(self) * first.numel()
        if size <= self.reader.memory:
            self.reader.memory -= size
            self._pixels = torch.empty((len(self), *first.shape), dtype=torch.uint8, device="cpu")

    def batches(self, batch_size: int) -> tuple[Tensor, ...]:
        """All indices in order, cut into chunks for `read`."""
        return torch.arange(len(self), device="cpu").split(batch_size) if len(self) else ()


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Yields `items`, the next one being made in a thread while the present one is in use."""
    source = iter(items)
    with ThreadPoolExecutor(max_workers=1) as thread:
        end = object()
        coming = thread.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, source, end)
            yield item  # type: ignore[misc]
