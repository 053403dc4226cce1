"""How much a request may bring, how much may be in hand at a time, and how a request is refused."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image


class RefusedError(Exception):
    """A request that is not answered, and why.

    Attributes:
        status: The HTTP status, 4xx or 503.
        message: One line for whoever asked.
        headers: Headers of the response.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


def busy(message: str) -> RefusedError:
    """Makes the refusal of a request that may come again in a second."""
    return RefusedError(503, message, {"Retry-After": "1"})


@dataclass(frozen=True)
class Limits:
    """What one request may bring.

    Attributes:
        bytes: Bytes of its body.
        pixels: Pixels of each of its images.
        images: Images to name.
        class_images: Images of a class to learn.
        seconds: Seconds in which its body must have come, and again in which its answer must be there.
    """

    bytes: int = 32_000_000
    pixels: int = 40_000_000
    images: int = 64
    class_images: int = 500
    seconds: float = 30.0


class Room:
    """Counts what is in hand at a time. The event loop alone calls it, so it has no lock.

    Args:
        most: The largest count.
        what: What is counted, for messages.

    Attributes:
        taken: The count now.
    """

    def __init__(self, most: int, what: str) -> None:
        self.most, self.what, self.taken = most, what, 0

    def take(self, count: int) -> None:
        """Counts some more.

        Raises:
            RefusedError: With status 503, if they do not fit; nothing is counted then.
        """
        if self.taken + count > self.most:
            raise busy(f"busy: {self.taken:,} of {self.most:,} {self.what} are in hand; ask again in a second")
        self.taken += count

    def give(self, count: int) -> None:
        """Counts some as done."""
        self.taken -= count

    @contextmanager
    def held(self, count: int) -> Iterator[None]:
        """Counts some while the block runs; raises as `take`."""
        self.take(count)
        try:
            yield
        finally:
            self.give(count)


@contextmanager
def bounded_pixels(pixels: int) -> Iterator[None]:
    """Has PIL refuse images above a number of pixels, for the whole process, before it makes room for them.

    Args:
        pixels: The largest number; PIL refuses above twice its own setting, so an odd number counts as one less.
    """
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = pixels // 2
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # of half as many
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
