"""Reads the images of any data set of (image, label) as uint8 pixels for the backbone, and keeps them in memory where they fit."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segp_ext.config import LoadingConfig
from segp_ext.data.decoding import Transform, as_it_is, prepared
from segp_ext.data.items import SizedDataset, check_dataset, image_and_label, item_at, labels_of, whole_number
from segp_ext.runtime.memory import free_memory
from segp_ext.runtime.processes import cores
from segp_ext.runtime.progress import first_line

T = TypeVar("T")


class Reader:
    """Holds how images are read: the transform, worker processes, and the memory left for decoded images of all data sets together.

    Args:
        transform: PIL image → uint8 `[3, S, S]`; not used if `config.resize` leaves resizing to the device.
        config: settings: worker processes, memory, resizing, orientation.
        device: where the pixels go.
        processes: number of processes of the run on this host, which share its cores and memory.

    Attributes:
        transform: the transform in use.
        upright: whether images are turned by their EXIF orientation.
        pin: whether pixels are put into pinned memory, for a GPU.
        workers: number of worker processes.
        memory: bytes left for decoded images.
    """

    def __init__(self, transform: Transform, config: LoadingConfig, device: torch.device, processes: int = 1) -> None:
        self.transform = as_it_is if config.resize == "device" else transform
        self.upright = config.orientation == "exif"
        self.pin = device.type == "cuda"
        # On the CPU the encoder needs every core; a GPU leaves them free.
        self.workers = (min(8, cores() // processes) if self.pin else 0) if config.workers is None else config.workers
        self.memory = free_memory() // (2 * processes) if config.memory_gb is None else int(config.memory_gb * 1e9)


class _Decoded(Dataset):
    """Decodes images by index. It returns an error as an item, so that a worker's traceback does not bury the message."""

    def __init__(self, dataset: SizedDataset, labels: Tensor, transform: Transform, upright: bool) -> None:
        self.dataset, self.transform, self.upright = dataset, transform, upright
        self.labels = labels.numpy()  # a worker process takes an array without shared memory
        self.shape: torch.Size | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Tensor | Exception:
        try:
            image, label = image_and_label(item_at(self.dataset, index), index)
            self._check_label(label, index)
            pixels = prepared(image, self.transform, f"image {index}", self.upright)
        except Exception as error:
            return error
        if self.shape is not None and pixels.shape != self.shape:
            (_, h, w), (_, first_h, first_w) = pixels.shape, self.shape
            return ValueError(
                f"loading.resize device needs images of one size; the first has {first_h}×{first_w} pixels, image {index} has {h}×{w}. "
                "Use --loading.resize exact."
            )
        return pixels

    def _check_label(self, label: Any, index: int) -> None:
        """Refuses an item whose label differs from the label that the data set lists: one of the two was changed, the other forgotten."""
        whole = whole_number(label)
        if whole is not None and whole != int(self.labels[index]):
            raise ValueError(
                f"item {index} of the data set has the label {whole}, but its attribute labels or targets (or its column) says "
                f"{int(self.labels[index])}; change both, or give a data set without that attribute"
            )


def _stacked(images: list[Tensor | Exception]) -> Tensor | Exception:
    tensors = []
    for image in images:
        if isinstance(image, Exception):
            return image
        tensors.append(image)
    return torch.stack(tensors)


class Images:
    """The images of one data set as uint8 pixels. Each is decoded when it is first read, and kept while memory lasts.

    CLIP's own preprocessing (resize, crop) ends in 8-bit pixels, and no protocol here augments. So decoding once and keeping uint8 is
    exact. A data set that does not fit into the reader's memory is decoded again on every pass.

    An image is the same on every pass, kept or not, in any process, and after a run is resumed. Teacher and student must see the same
    pixels. A data set that augments at random draws from Python's, NumPy's and torch's generators, which are seeded with the image's
    index. So each image has one view. A data set with a generator of its own gives other pixels on the next pass, which is an error.

    Args:
        dataset: map-style data set of (image, label), or of dicts with the keys image and label; images as
            `segp_ext.data.decoding.to_pil` takes them.
        reader: how to read it.

    Raises:
        TypeError: for anything but such a data set, and for labels that are not integers.
        ValueError: if there is not one label per image.

    Attributes:
        labels: all labels, int64 `[N]`.
        reader: the reader.
    """

    @torch.inference_mode(False)
    def __init__(self, dataset: SizedDataset, reader: Reader) -> None:
        check_dataset(dataset)
        self.labels = labels_of(dataset)
        self.reader = reader
        self._decoded = _Decoded(dataset, self.labels, reader.transform, reader.upright)
        self._pixels: Tensor | None = None  # [N, 3, H, W]; rows are valid where _kept says so
        self._kept = torch.zeros(len(dataset), dtype=torch.bool, device="cpu")
        # Checksums of pixels that are not kept; -1 until an image is read.
        self._sums = torch.full((len(dataset),), -1, dtype=torch.int64, device="cpu")

    def __len__(self) -> int:
        return len(self.labels)

    def __del__(self) -> None:
        if getattr(self, "_pixels", None) is not None:
            self.reader.memory += self._pixels.numel()  # type: ignore[union-attr]

    def read(self, chunks: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (indices int64 `[B]`, pixels uint8 `[B, 3, H, W]`) for every chunk of indices.

        Raises:
            TypeError, ValueError: naming an image that cannot be read, or whose pixels have changed since it was read before.
            ChildProcessError: if a worker process ends.
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
        with torch.device("cpu"), workers_named(workers):
            decoded = iter(loader)
        for chunk, indices in zip(chunks, missing, strict=True):
            with workers_named(workers):
                pixels: Any = next(decoded) if len(indices) else None
            if isinstance(pixels, Exception):
                raise pixels
            if self._pixels is not None:
                if pixels is not None:
                    self._pixels[indices], self._kept[indices] = pixels, True
                pixels = self._pixels[chunk]
            else:
                self._check_same(chunk, pixels)
            yield chunk, pixels

    def _check_same(self, indices: Tensor, pixels: Tensor) -> None:
        """Refuses images whose pixels have changed since an earlier pass."""
        found = torch.tensor([zlib.crc32(image) for image in pixels.numpy()], dtype=torch.int64, device="cpu")
        for index, before, now in zip(indices.tolist(), self._sums[indices].tolist(), found.tolist(), strict=True):
            if before not in (-1, now):
                raise ValueError(
                    f"image {index} has other pixels than when it was read before: its file was changed, or the data set draws from a "
                    "generator of its own. Each image must stay the same: draw from torch's, NumPy's or Python's generator, which are "
                    "seeded for each image, or raise loading.memory_gb until all images are kept"
                )
        self._sums[indices] = found

    @torch.inference_mode(False)
    def _measure(self, index: int) -> None:
        """Learns the size of an image from one of them, and makes room for all if they fit."""
        first = self._decoded[index]
        if isinstance(first, Exception):
            raise first
        self._decoded.shape = first.shape
        size = len(self) * first.numel()
        if size <= self.reader.memory:
            self.reader.memory -= size
            self._pixels = torch.empty((len(self), *first.shape), dtype=torch.uint8, device="cpu")

    def batches(self, batch_size: int) -> tuple[Tensor, ...]:
        """Cuts all indices, in order, into chunks for `read`."""
        return torch.arange(len(self), device="cpu").split(batch_size) if len(self) else ()


class PartOfImages(Images):
    """Some images of a data set, under numbers and labels of their own. They share pixels with the whole.

    Args:
        whole: all images.
        indices: numbers of the images in the whole, int64 `[N]`.
        labels: their labels here, int64 `[N]`.
    """

    def __init__(self, whole: Images, indices: Tensor, labels: Tensor) -> None:
        self.whole, self.indices, self.labels = whole, indices, labels
        self.reader = whole.reader

    def __del__(self) -> None:  # the whole gives its memory back
        pass

    def read(self, chunks: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        read = self.whole.read([self.indices[chunk] for chunk in chunks])
        for chunk, (_, pixels) in zip(chunks, read, strict=True):
            yield chunk, pixels


@contextmanager
def workers_named(workers: int) -> Iterator[None]:
    """Explains why a worker process may have ended. Errors of the data set come as items, not this way.

    Raises:
        TypeError: for a data set that cannot be handed to workers, where processes are spawned, not forked.
        ChildProcessError: for every other error inside, if there are workers.
    """
    try:
        yield
    except (AttributeError, TypeError, pickle.PicklingError) as error:
        if workers == 0:
            raise
        raise TypeError(
            f"this data set cannot be handed to worker processes: {first_line(error)}; set loading.workers to 0"
        ) from error
    except Exception as error:
        if workers == 0:
            raise
        raise ChildProcessError(
            f"reading images in {workers} process(es) beside this one failed: {first_line(error)}. Shared memory (/dev/shm; in a container "
            "--shm-size), memory, or the number of open files (ulimit -n) may be used up; loading.workers 0 reads without them "
            "(predict: --workers 0)"
        ) from error


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Yields `items`, while a thread makes the next one."""
    source = iter(items)
    with ThreadPoolExecutor(max_workers=1) as thread:
        end = object()
        coming = thread.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, source, end)
            yield item  # type: ignore[misc]
