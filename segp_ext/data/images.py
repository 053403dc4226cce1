"""Reading images: any dataset of (image, label) becomes uint8 pixels ready for the backbone, kept in memory where they fit."""

from __future__ import annotations

import functools
import importlib.util
import io
import os
import pickle
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from segp_ext.config import LoadingConfig
from segp_ext.runtime import git_lfs
from segp_ext.runtime.memory import free_memory
from segp_ext.runtime.process_state import drawn_by
from segp_ext.runtime.processes import cores
from segp_ext.runtime.progress import first_line

Transform = Callable[[Image.Image], Tensor]
T = TypeVar("T")


class SizedDataset(Protocol):
    """A map-style torch dataset: `len()` and integer indexing, giving (image, label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> tuple[Any, int]: ...


FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000", "ICO", "HEIF")
"""What image files may hold, whatever their endings (HEIF with the package pillow-heif, TGA by its ending alone, as it has no mark). PIL
knows many more formats, and runs another program for one of them."""

_SIXTEEN_BITS = ("PNG", "PPM")
"""Formats whose pixels have at most 16 bits, which PIL may hold in 32."""


def as_rgb(image: Image.Image) -> Image.Image:
    """A PIL image of any mode as 8-bit RGB, with its EXIF data; transparency is left out.

    Grey pixels of 16 bits are scaled to 8. Those of 32 bits go by the image's own range: whole numbers up to 255 are taken as they are, up
    to 65,535 as 16 bits; floating-point ones up to 1 are multiplied by 255, those with a maximum from 2 to 255 taken as they are. A PGM of
    16 bits is known by its file: what PIL makes of it (`copy`, `resize`) has 32 bits and goes by its range.

    Raises:
        ValueError: for numbers out of these ranges, and for an image without pixels.
    """
    if 0 in image.size:
        raise ValueError(f"it has no pixels: {image.width} × {image.height}")
    if image.mode == "F" or (image.mode == "I" and image.format not in _SIXTEEN_BITS):
        grey = _by_range(image)
    elif image.mode == "I" or image.mode.startswith("I;16"):
        grey = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    else:
        return image.convert("RGB")
    grey.info = image.info  # with the EXIF data
    return grey.convert("RGB")


def _by_range(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image)
    low, high = pixels.min(), pixels.max()
    if not (low >= 0 and high <= (65535 if image.mode == "I" else 255)):  # nor if one is no number
        raise ValueError(
            f"pixels of 32 bits (mode {image.mode}) must be from 0 to 65535, or 0 to 255 with a fraction; got {low:g} to {high:g}. Save it "
            "with 8 bits"
        )
    if image.mode == "F" and 1 < high < 2:
        raise ValueError(
            f"pixels of mode F must have a maximum up to 1, which is white, or from 2 to 255; got {low:g} to {high:g}, which may be "
            "either. Clip it to 1, or save it with 8 bits"
        )
    if image.mode == "F":
        pixels = np.rint(pixels * 255 if high <= 1 else pixels)
    elif high > 255:
        pixels = pixels >> 8
    return Image.fromarray(pixels.astype(np.uint8))


def _turned(image: Image.Image) -> Image.Image:
    """An image as its EXIF orientation says it is to be seen; as it is where the camera's data cannot be read."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the pixels are sound, and data that PIL cannot read tells no orientation
        return image


def possible_formats(name: str) -> tuple[str, ...]:
    """What a file of this name may hold: any of `FORMATS`, and TGA by its ending alone, as it has no mark."""
    return (*_known_formats(), *(("TGA",) if name.lower().endswith(".tga") else ()))


@functools.cache
def _known_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this PIL reads."""
    if importlib.util.find_spec("pillow_heif") is not None:
        importlib.import_module("pillow_heif").register_heif_opener()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def reason(error: Exception) -> str:
    """Why an image cannot be read, without the address of the open file."""
    return re.sub(r" <_io\..*>", "", first_line(error))


def open_image(file: str | os.PathLike[str] | IO[bytes]) -> Image.Image:
    """Reads an image file, or an open one, as RGB.

    Raises:
        ValueError: naming the file, if it cannot be read as an image.
    """
    name = os.fspath(file) if isinstance(file, (str, os.PathLike)) else "what was given"
    try:
        # PIL is not given a path, whose pixels it may map into memory: it then does not turn TIFF files as it does otherwise.
        if isinstance(file, (str, os.PathLike)):
            with open(file, "rb") as opened:
                return _decoded(opened, name)
        return _decoded(file, name)
    except Exception as error:
        lacks = name.lower().endswith((".heic", ".heif")) and "HEIF" not in Image.OPEN
        hint = "; pip install pillow-heif lets such files be read" if lacks else git_lfs.hint_for(Path(name))
        raise ValueError(f"cannot read {name} as an image: {reason(error)}{hint}") from error


def _decoded(file: IO[bytes], name: str) -> Image.Image:
    with Image.open(file, formats=possible_formats(name)) as image:
        return as_rgb(image)


def to_pil(image: Any, what: str = "image", upright: bool = False) -> Image.Image:
    """Returns `image` as a PIL RGB image.

    Args:
        image: PIL image; path of an image file, `~` for the home folder; its bytes, or an open file; or pixels, a tensor or an array:
            `[C, H, W]`, `[H, W, C]` with 1, 3 or 4 channels, or `[H, W]`; uint8, or floating-point in [0, 1]. A fourth channel
            (transparency) is dropped.
        what: how an error names the image.
        upright: turn images as their EXIF orientation says.

    Raises:
        TypeError: for another type or dtype.
        ValueError: for another shape, numbers out of range, an image without pixels, or a file that cannot be read.
    """
    if isinstance(image, Image.Image):
        try:
            found = as_rgb(image)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from error
    elif isinstance(image, (str, os.PathLike)):
        if "://" in os.fspath(image):
            raise ValueError(f"{what} is the address {os.fspath(image)!r}; download it, and give the file")
        found = open_image(os.path.expanduser(image))
    elif isinstance(image, (Tensor, np.ndarray)):
        found = _of_pixels(image, what)
    elif isinstance(image, (bytes, bytearray, memoryview)) or hasattr(image, "read"):
        if isinstance(image, io.TextIOBase):
            raise TypeError(f"{what} is a file that is open as text; open it with the mode 'rb'")
        try:
            found = open_image(image if hasattr(image, "read") else io.BytesIO(image))
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from error
    else:
        raise TypeError(f"{what} must be a PIL image, a path, or pixels [3, H, W]; got {type(image).__name__}")
    return _turned(found) if upright else found


def _of_pixels(image: Tensor | np.ndarray, what: str) -> Image.Image:
    if isinstance(image, Tensor):
        if image.layout != torch.strided or image.is_quantized:
            raise TypeError(f"{what} must be a dense tensor of plain numbers; got {image.dtype}, {image.layout}")
        small = image.is_floating_point() and image.dtype.itemsize < 4  # some of these NumPy does not know
        pixels = (image.float() if small else image).detach().cpu().numpy()
    else:
        pixels = image
    shape = list(pixels.shape)
    channels = (1, 3, 4)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    elif pixels.ndim == 3 and pixels.shape[0] in channels:
        if pixels.shape[2] in (1, 3):
            raise ValueError(
                f"{what} may be [C, H, W] or [H, W, C]; got {shape}: give a PIL image, whose width and height are known"
            )
        pixels = pixels.transpose(1, 2, 0)
    elif pixels.ndim != 3 or pixels.shape[2] not in channels:
        raise ValueError(f"{what} must be [C, H, W] or [H, W, C] with 1, 3 or 4 channels, or [H, W]; got {shape}")
    if pixels.dtype != np.uint8:
        if not np.issubdtype(pixels.dtype, np.floating):
            raise TypeError(
                f"{what} must hold uint8 pixels (0 to 255) or floating-point ones in [0, 1]; got {image.dtype}"
            )
        if pixels.size and not (pixels.min() >= 0 and pixels.max() <= 1):  # false for what is no number, too
            raise ValueError(
                f"{what} must have floating-point pixels in [0, 1], as ToTensor gives them; got {pixels.min():g} to {pixels.max():g}. Drop "
                "the normalisation (Normalize): the model brings its own. Divide by 255 what goes up to 255"
            )
        pixels = np.rint(pixels * 255).astype(np.uint8)
    if not pixels.size:
        raise ValueError(f"{what} has no pixels: {shape}")
    pixels = pixels[..., :3]
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))), "RGB")


def prepared(image: Any, transform: Transform, what: str, upright: bool) -> Tensor:
    """An image as `transform` makes it; the other arguments and the errors are those of `to_pil`, whatever the image."""
    opened = to_pil(image, what, upright)
    try:
        return transform(opened)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


def as_it_is(image: Image.Image) -> Tensor:
    """A PIL RGB image as uint8 `[3, H, W]`, not resized."""
    return torch.from_numpy(np.array(image).transpose(2, 0, 1).copy())


def check_dataset(dataset: Any) -> None:
    """Refuses what is no map-style data set, and says what to pass.

    Raises:
        TypeError: naming what came.
    """
    if isinstance(dataset, (str, os.PathLike)):
        raise TypeError(
            f"a data set of (image, label) is needed; got the path {os.fspath(dataset)!r}. "
            f"segp_ext.data.load_scenario(DataConfig(root={os.fspath(dataset)!r})) reads a folder; its tasks hold data sets (task.train)"
        )
    if isinstance(dataset, DataLoader):
        raise TypeError("a data set of (image, label) is needed; got a DataLoader: give its .dataset")
    indexed = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
    if not indexed or isinstance(
        dataset, (Mapping, IterableDataset)
    ):  # torch's iterable ones inherit an index that raises
        raise TypeError(
            f"a map-style data set is needed, with len() and [index], which gives (image, label); got {type(dataset).__name__}. "
            "list(...) makes one of an iterable that fits into memory"
        )
    if isinstance(dataset, (tuple, list)) and len(dataset) == 2 and _are_labels(dataset[1], dataset[0]):
        raise TypeError(
            "a data set of (image, label) is needed; got a pair of all images and all labels: give list(zip(images, labels, strict=True))"
        )


def _are_labels(labels: Any, images: Any) -> bool:
    """Whether `labels` are whole numbers, one for each of `images`."""
    if not all(
        isinstance(part, (list, tuple, np.ndarray, Tensor)) and getattr(part, "ndim", 1) for part in (labels, images)
    ):
        return False
    return len(labels) == len(images) and all(_whole(label) is not None for label in labels)


def _whole(label: Any) -> int | None:
    """A label as a number, also where it is a tensor or an array of one; None if it is no whole number."""
    if isinstance(label, (Tensor, np.ndarray)) and np.prod(label.shape) == 1:
        label = label.item()
    return int(label) if isinstance(label, (int, np.integer)) else None


_IMAGE_KEYS, _LABEL_KEYS = ("image", "img"), ("label", "labels")


def image_and_label(item: Any, index: int) -> tuple[Any, Any]:
    """The image and the label of a data set's item: a pair, or a dict as Hugging Face's data sets have it.

    Raises:
        TypeError: for anything else, saying what came.
    """
    if isinstance(item, Mapping):
        image, label = (next((key for key in keys if key in item), None) for keys in (_IMAGE_KEYS, _LABEL_KEYS))
        if image is None or label is None:
            raise TypeError(f"item {index} must have the keys image and label; it has {', '.join(map(str, item))}")
        return item[image], item[label]
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        what = f"{len(item)} things" if isinstance(item, (tuple, list)) else type(item).__name__
        kinds = f" ({', '.join(type(part).__name__ for part in item)})" if isinstance(item, (tuple, list)) else ""
        numbered = isinstance(item, (tuple, list)) and len(item) == 3 and isinstance(item[0], (int, np.integer))
        remedy = "; wrap the data set in one whose items leave the first out" if numbered else ""
        raise TypeError(f"item {index} must be (image, label); got {what}{kinds}{remedy}")
    return item[0], item[1]


def _known_labels(dataset: Any) -> Any:
    """The labels that a dataset lists, or None where its items alone tell them.

    What stands under these names may be another thing: the names of the classes, or the labels of all images behind a subset.
    """
    if getattr(dataset, "target_transform", None) is not None:
        return None
    for name in ("labels", "targets"):
        known = getattr(dataset, name, None)
        if (
            known is None
            or not hasattr(known, "__len__")
            or isinstance(known, (Mapping, set, str))
            or getattr(known, "ndim", 1) == 0
        ):
            continue
        if len(known) == len(dataset) and not (len(known) and isinstance(known[0], (str, bytes))):
            return known
    columns = getattr(
        dataset, "column_names", None
    )  # of a Hugging Face data set, whose images need not be decoded for it
    column = next((key for key in _LABEL_KEYS if isinstance(columns, list) and key in columns), None)
    return None if column is None else list(dataset[column])


def _item(dataset: SizedDataset, index: int) -> Any:
    """An item of a dataset, drawn as it always is for this index; whatever it raises tells which."""
    try:
        with nullcontext() if getattr(dataset, "draws_nothing", False) else drawn_by(index):
            return dataset[index]
    except Exception as error:
        error.add_note(f"raised by item {index} of the data set, whose length is {len(dataset)}")
        raise


def labels_of(dataset: SizedDataset) -> Tensor:
    """All labels of a dataset, int64 `[N]`, without decoding images where it has `labels` or `targets` and no `target_transform`.

    Raises:
        TypeError: if they are no integers.
        ValueError: if there is not one per image.
    """
    known = _known_labels(dataset)
    if known is None:
        known = [image_and_label(_item(dataset, i), i)[1] for i in range(len(dataset))]
    if isinstance(known, list):  # arrays of one number each, as torch takes tensors of one
        known = [label.item() if isinstance(label, np.ndarray) and label.size == 1 else label for label in known]
    try:
        labels = torch.as_tensor(known, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
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
        self.upright = config.orientation == "exif"
        self.pin = device.type == "cuda"
        # On the CPU the encoder needs every core; a GPU leaves them free.
        self.workers = (min(8, cores() // processes) if self.pin else 0) if config.workers is None else config.workers
        self.memory = free_memory() // (2 * processes) if config.memory_gb is None else int(config.memory_gb * 1e9)


class _Decoded(Dataset):
    """Decoded images by index; an error is handed over as an item, so that a worker's traceback does not bury its message."""

    def __init__(self, dataset: SizedDataset, labels: Tensor, transform: Transform, upright: bool) -> None:
        self.dataset, self.transform, self.upright = dataset, transform, upright
        self.labels = labels.numpy()  # which a worker process takes without shared memory
        self.shape: torch.Size | None = None

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Tensor | Exception:
        try:
            image, label = image_and_label(_item(self.dataset, index), index)
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
        """Refuses an item with another label than the dataset lists for it: one of the two was changed, and the other forgotten."""
        whole = _whole(label)
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
    """The images of one dataset as uint8 pixels, each decoded when it is first read and kept while memory lasts.

    CLIP's own preprocessing (resize, crop) ends in 8-bit pixels and no protocol here augments, so decoding once and keeping uint8 is
    exact. A dataset that does not fit into what is left of the reader's memory is decoded again on every pass.

    An image is the same one on every pass, kept or not, in any process, and after a run is resumed: teacher and student must see the same.
    A dataset that augments at random draws from Python's, NumPy's and torch's generators as seeded with the image's index, so that each
    image has one view. One with a generator of its own gives other pixels when it is read again, which is an error.

    Args:
        dataset: map-style dataset of (image, label), images as `to_pil` takes them; or of dicts with the keys image and label.
        reader: how to read it.
    """

    @torch.inference_mode(False)
    def __init__(self, dataset: SizedDataset, reader: Reader) -> None:
        check_dataset(dataset)
        self.labels = labels_of(dataset)
        self.reader = reader
        self._decoded = _Decoded(dataset, self.labels, reader.transform, reader.upright)
        self._pixels: Tensor | None = None  # [N, 3, H, W]; rows are valid where _kept says so
        self._kept = torch.zeros(len(dataset), dtype=torch.bool, device="cpu")
        self._sums = torch.full(
            (len(dataset),), -1, dtype=torch.int64, device="cpu"
        )  # checksums of pixels that are not kept

    def __len__(self) -> int:
        return len(self.labels)

    def __del__(self) -> None:
        if getattr(self, "_pixels", None) is not None:
            self.reader.memory += self._pixels.numel()  # type: ignore[union-attr]

    def read(self, chunks: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (indices int64 `[B]`, pixels uint8 `[B, 3, H, W]`) for every chunk of indices.

        Raises:
            TypeError, ValueError: for an image that cannot be read, or is another one than it was when it was read before, naming it.
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
        with torch.device("cpu"), _workers_named(workers):
            decoded = iter(loader)
        for chunk, indices in zip(chunks, missing, strict=True):
            with _workers_named(workers):
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
        """Refuses images that are not what they were on an earlier pass."""
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


@contextmanager
def _workers_named(workers: int) -> Iterator[None]:
    """Says what the end of a worker process may come from; errors of the data set do not come this way.

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
            "--shm-size), memory, or the number of open files (ulimit -n) may be used up; loading.workers 0 reads without them"
        ) from error


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Yields `items`, the next one being made in a thread while the present one is in use."""
    source = iter(items)
    with ThreadPoolExecutor(max_workers=1) as thread:
        end = object()
        coming = thread.submit(next, source, end)
        while (item := coming.result()) is not end:
            coming = thread.submit(next, source, end)
            yield item  # type: ignore[misc]
