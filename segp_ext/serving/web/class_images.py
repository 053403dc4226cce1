"""The images of a class to learn: each is read once before it is written to a file."""

from __future__ import annotations

import io

from PIL import Image

from segp_ext.data.decoding import possible_formats, to_pil
from segp_ext.serving.web.limits import RefusedError

_ENDINGS = {"JPEG": ".jpg", "JPEG2000": ".jp2"}
"""Endings of files by format, where it is not the format's name."""


def class_image(content: bytes, what: str) -> tuple[str, bytes]:
    """Checks an image.

    Args:
        content: The file.
        what: How a message names it.

    Returns:
        The ending of a file of its format, and the content as it came.

    Raises:
        RefusedError: With status 422, if it cannot be read.
    """
    try:
        to_pil(content, what)
    except ValueError as error:
        raise RefusedError(422, str(error)) from error
    with Image.open(io.BytesIO(content), formats=possible_formats("")) as image:
        form = image.format or ""
    return _ENDINGS.get(form, f".{form.lower()}"), content
