"""Decoding: any dataset of (image, label) becomes uint8 pixels of the backbone's input size, kept in memory where they fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segp_ext.progress import progress

MEMORY_LIMIT = 4 << 30
"""Bytes of decoded pixels that one data set may keep in memory; beyond it, images are decoded again on every pass."""

Transform = Callable[[Image.Image], Tensor]


class SizedDataset(Protocol):
    """A map-style torch dataset: `len()` and integer indexing, giving (image, label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, int]: ...


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
        return image.convert("RGB")
    if isinstance(image, (Tensor, np.ndarray)):
        if image.dtype not in (torch.uint8, np.uint8):
            raise TypeError(f"{what} must hold uint8 pixels (0 to 255); got {image.dtype}")
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise ValueError(f"{what} must be [3, H, W] or [1, H, W]; got {list(image.shape)}")
        pixels = np.asarray(image).transpose(1, 2, 0)
        return Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))), "RGB")
    raise TypeError(f"{what} must be a PIL image or uint8 [3, H, W] pixels; got {type(image).__name__}")


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
        labels = torch.as_tensor(known)
    except (TypeError, ValueError) as error:
        raise TypeError(f"labels must be integers; got {known[:3]!r}...") from error
    if len(dataset) == 0:
        return torch.zeros(0, dtype=torch.int64)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels must be integers; got {labels.dtype}")
    if list(labels.shape) != [len(dataset)]:
        raise ValueError(f"there must be one label per image, [{len(dataset)}]; got {list(labels.shape)}")
    return labels.to(torch.int64)


class _Decoded(Dataset):
    def __init__(self, dataset: SizedDataset, indices: Sequence[int], transform: Transform) -> None:
        self.dataset, self.indices, self.transform = dataset, indices, transform

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Tensor:
        index = self.indices[position]
        return self.transform(to_pil(self.dataset[index][0], f"image {index}"))


class Images:
    """The images of one dataset at the backbone's input size.

    CLIP's own preprocessing (resize, centre crop) ends in 8-bit pixels and no protocol here augments, so decoding once and keeping
    uint8 is exact. Data sets over `MEMORY_LIMIT` are decoded on every pass instead.

    Args:
        dataset: map-style dataset of (PIL image or uint8 `[3, H, W]` pixels, label).
        transform: PIL image → uint8 `[3, S, S]`.
        description: what the progress bar says while decoding.
    """

    def __init__(self, dataset: SizedDataset, transform: Transform, description: str = "decoding") -> None:
        self.dataset, self.transform = dataset, transform
        self.labels = labels_of(dataset)
        self._pixels: Tensor | None = None
        count = len(dataset)
        if count == 0:
            return
        first = _Decoded(dataset, [0], transform)[0]
        if count * first.numel() <= MEMORY_LIMIT:
            pixels = torch.empty((count, *first.shape), dtype=torch.uint8)
            batches = self._decode(range(count), 256)
            start = 0
            for batch in progress(batches, description, total=-(-count // 256)):
                pixels[start : start + len(batch)] = batch
                start += len(batch)
            self._pixels = pixels

    def __len__(self) -> int:
        return len(self.labels)

    def _decode(self, order: Sequence[int], batch_size: int) -> Iterator[Tensor]:
        yield from DataLoader(_Decoded(self.dataset, order, self.transform), batch_size=batch_size)

    def take(self, indices: Tensor) -> Tensor:
        """Pixels of the images `indices` `[B]`: uint8 `[B, 3, S, S]` on the CPU."""
        if self._pixels is not None:
            return self._pixels[indices]
        return next(self._decode(indices.tolist(), len(indices)))

    def batches(self, batch_size: int, order: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (indices int64 `[B]`, pixels uint8 `[B, 3, S, S]`) over the dataset, in `order` if given."""
        order = torch.arange(len(self)) if order is None else order
        chunks = order.split(batch_size) if len(order) else ()
        if self._pixels is not None:
            for indices in chunks:
                yield indices, self._pixels[indices]
        else:
            yield from zip(chunks, self._decode(order.tolist(), batch_size), strict=True)
