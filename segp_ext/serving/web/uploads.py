"""The images that a request brings: as a form, as JSON, or as its body. Nothing is written to a disk."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from segp_ext.serving.web.limits import Limits, RefusedError, Room

FIELDS = 8
"""Fields of a form that are no files."""
FIELD_BYTES = 4096
"""Bytes of such a field."""
CLOSE = {"Connection": "close"}
"""Headers of a response that is sent before the request's body has come."""


@dataclass
class Upload:
    """What a request brought.

    Attributes:
        images: (name of the file, content) of each image; the name is empty where none was given.
        fields: The form's other fields.
    """

    images: list[tuple[str, bytes]]
    fields: dict[str, str] = field(default_factory=dict)


class _InMemory(MultiPartParser):
    """Reads forms without temporary files."""

    spool_max_size = 1 << 62  # the body is bounded while it comes


@asynccontextmanager
async def uploaded(request: Request, limits: Limits, room: Room, most: int) -> AsyncIterator[Upload]:
    """Reads what a request brings; its bytes are counted until the block ends.

    Args:
        request: The request, whose body has not been read.
        limits: How much it may bring, and in which time.
        room: Bytes of all requests in hand.
        most: Most images that it may bring.

    Raises:
        RefusedError: If it brings too much, too slowly, nothing, or another form of data.
    """
    taken = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        async for chunk in request.stream():
            if taken + len(chunk) > limits.bytes:
                raise _too_long(limits)
            room.take(len(chunk))
            taken += len(chunk)
            yield chunk

    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > limits.bytes:
        raise _too_long(limits)
    try:
        try:
            async with asyncio.timeout(limits.seconds):
                upload = await _read(request, body(), most)
        except TimeoutError:
            raise _too_slow(limits) from None
        except RefusedError as refused:
            refused.headers |= CLOSE
            raise
        if not upload.images:
            raise RefusedError(400, "no image came; send files in a form, base64 in JSON, or one image as the body")
        if len(upload.images) > most:
            raise RefusedError(413, f"at most {most} images may come at once; got {len(upload.images)}")
        for place, (name, content) in enumerate(upload.images):
            if not content:
                raise RefusedError(422, f"{title(place, name)} is empty")
        yield upload
    finally:
        room.give(taken)


def title(place: int, name: str) -> str:
    """Returns how a message names an image, from its place from 0 and the name of its file."""
    return f"image {place + 1}" + (f" ({name})" if name else "")


def _too_long(limits: Limits) -> RefusedError:
    return RefusedError(413, f"the body may have at most {limits.bytes:,} bytes", CLOSE)


def _too_slow(limits: Limits) -> RefusedError:
    return RefusedError(408, f"the body did not come within {limits.seconds:g} seconds", CLOSE)


async def _read(request: Request, body: AsyncIterator[bytes], most: int) -> Upload:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await _form(request, body, most)
    if kind == "application/json":
        content = b"".join([chunk async for chunk in body])
        return await asyncio.to_thread(_of_json, content)
    if kind.startswith("image/") or kind == "application/octet-stream":
        content = b"".join([chunk async for chunk in body])
        return Upload([("", content)] if content else [])
    accepted = "multipart/form-data, application/json, image/* or application/octet-stream"
    raise RefusedError(415, f"the content type must be {accepted}; got {kind[:100]!r}", CLOSE)


async def _form(request: Request, body: AsyncIterator[bytes], most: int) -> Upload:
    parser = _InMemory(request.headers, body, max_files=most, max_fields=FIELDS, max_part_size=FIELD_BYTES)  # type: ignore[arg-type]
    try:
        form = await parser.parse()
    except (MultiPartException, UnicodeError, ValueError) as error:
        said = getattr(error, "message", str(error))
        raise RefusedError(400, f"the form cannot be read: {said}", CLOSE) from error
    upload = Upload([])
    try:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile):
                upload.images.append((value.filename or "", await value.read()))
            else:
                upload.fields[name] = value
    finally:
        await form.close()
    return upload


def _of_json(content: bytes) -> Upload:
    found = json_object(content)
    given = found.get("images")
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise RefusedError(400, 'JSON must be {"images": ["...", ...]} with each image in base64')
    images = []
    for place, text in enumerate(given):
        try:  # a browser's address of the form data:image/png;base64,... is taken too
            images.append(("", base64.b64decode(text.rpartition(",")[2], validate=True)))
        except (binascii.Error, ValueError) as error:
            raise RefusedError(400, f"{title(place, '')} is not base64: {error}") from error
    return Upload(images)


async def small_object(request: Request, limits: Limits) -> dict[str, object]:
    """Reads the JSON object in a request that brings no images.

    Raises:
        RefusedError: If it holds none, or more than a few fields, or comes too slowly.
    """
    content = b""
    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.stream():
                content += chunk
                if len(content) > FIELDS * FIELD_BYTES:
                    raise RefusedError(413, f"the body may have at most {FIELDS * FIELD_BYTES:,} bytes", CLOSE)
    except TimeoutError:
        raise _too_slow(limits) from None
    return json_object(content)


def json_object(content: bytes) -> dict[str, object]:
    """Reads the JSON object that a body holds.

    Raises:
        RefusedError: If it holds none.
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, f"the body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise RefusedError(400, f"JSON must be an object; got {type(found).__name__}")
    return found
