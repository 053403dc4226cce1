"""Decodes images to 8-bit RGB: files by path or content, PIL images of any mode, and pixels of tensors and arrays."""

from __future__ import annotations

import functools
import importlib.util
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from segp_ext.runtime import git_lfs
from segp_ext.runtime.progress import first_line

Transform = Callable[[Image.Image], Tensor]
"""Turns a PIL RGB image into pixels, uint8 `[3, S, S]`."""

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000", "ICO", "HEIF")
"""Formats that an image file may hold, whatever its ending. HEIF needs the package pillow-heif. TGA is left out, as such files have no
mark: they are known by their ending alone. PIL reads many more formats, and runs another program for one of them."""

_SIXTEEN_BITS = ("PNG", "PPM")
"""Formats whose pixels have at most 16 bits. PIL may hold them in 32."""


def as_rgb(image: Image.Image) -> Image.Image:
    """Converts a PIL image of any mode to 8-bit RGB, and keeps its EXIF data. Transparency is dropped.

    Grey pixels of 16 bits are scaled to 8 bits. Grey pixels of 32 bits go by the image's own range:

    - whole numbers up to 255 stay as they are; up to 65,535 they count as 16 bits;
    - floating-point numbers up to 1 are multiplied by 255; with a maximum from 2 to 255 they stay as they are.

    A PGM file of 16 bits is known by its format. Images that PIL makes of it (`copy`, `resize`) have 32 bits and go by their range.

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
    limit = 65535 if image.mode == "I" else 255
    if not (low >= 0 and high <= limit):  # NaN fails here, too
        raise ValueError(
            f"pixels of 32 bits (mode {image.mode}) must be from 0 to {limit}; got {low:g} to {high:g}. Save the image with 8 bits"
        )
    if image.mode == "F" and 1 < high < 2:
        raise ValueError(
            f"pixels of mode F must have a maximum up to 1, which is white, or from 2 to 255; got {low:g} to {high:g}, which may be "
            "either. Clip the pixels to 1, or save the image with 8 bits"
        )
    if image.mode == "F":
        pixels = np.rint(pixels * 255 if high <= 1 else pixels)
    elif high > 255:
        pixels = pixels >> 8
    return Image.fromarray(pixels.astype(np.uint8))


def _turned(image: Image.Image) -> Image.Image:
    """Turns an image upright by its EXIF orientation; an image whose EXIF data cannot be read stays as it is."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the pixels are sound, and damaged EXIF data tell no orientation
        return image


def possible_formats(name: str) -> tuple[str, ...]:
    """Lists the formats that a file of this name may hold: all of `FORMATS` that PIL reads here, and TGA if the name ends so."""
    return (*_known_formats(), *(("TGA",) if name.lower().endswith(".tga") else ()))


@functools.cache
def _known_formats() -> tuple[str, ...]:
    """Lists the formats of `FORMATS` that this PIL reads."""
    if importlib.util.find_spec("pillow_heif") is not None:
        importlib.import_module("pillow_heif").register_heif_opener()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def reason(error: Exception) -> str:
    """Says in one line why an image cannot be read. The memory address of the open file is left out."""
    return re.sub(r" <_io\..*>", "", first_line(error))


def open_image(file: str | os.PathLike[str] | IO[bytes]) -> Image.Image:
    """Reads an image file, given by its path or open in binary mode, as RGB.

    Raises:
        ValueError: naming the file, if it cannot be read as an image.
    """
    name = os.fspath(file) if isinstance(file, (str, os.PathLike)) else "the given data"
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
        image: one of

            - a PIL image;
            - the path of an image file, `~` for the home folder;
            - the bytes of an image file, or a file open in binary mode;
            - pixels, as a tensor or an array: `[C, H, W]` or `[H, W, C]` with 1, 3 or 4 channels, or `[H, W]`. They are
              uint8, or floating-point in [0, 1]. A fourth channel (transparency) is dropped.
        what: how an error names the image.
        upright: turn images by their EXIF orientation.

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
            raise TypeError(f"{what} is a file open as text; open it with the mode 'rb'")
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
        small = image.is_floating_point() and image.dtype.itemsize < 4  # NumPy does not know all of these dtypes
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
                f"{what} must hold uint8 pixels (0 to 255) or floating-point pixels in [0, 1]; got {image.dtype}"
            )
        if pixels.size and not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN fails here, too
            raise ValueError(
                f"{what} must have floating-point pixels in [0, 1], as ToTensor gives them; got {pixels.min():g} to {pixels.max():g}. Drop "
                "the normalisation (Normalize): the model brings its own. Divide pixels that go up to 255 by 255"
            )
        pixels = np.rint(pixels * 255).astype(np.uint8)
    if not pixels.size:
        raise ValueError(f"{what} has no pixels: {shape}")
    pixels = pixels[..., :3]
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3))), "RGB")


def prepared(image: Any, transform: Transform, what: str, upright: bool) -> Tensor:
    """Decodes an image and applies `transform`.

    Args:
        image: the image, as `to_pil` takes it.
        transform: PIL RGB image → pixels.
        what: how an error names the image.
        upright: turn images by their EXIF orientation.

    Raises:
        TypeError, ValueError: as `to_pil`, and for an image that the transform refuses; naming the image.
    """
    opened = to_pil(image, what, upright)
    try:
        return transform(opened)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


def as_it_is(image: Image.Image) -> Tensor:
    """Returns a PIL RGB image as uint8 `[3, H, W]`, not resized: a transform for pixels that the device resizes."""
    return torch.from_numpy(np.array(image).transpose(2, 0, 1).copy())
