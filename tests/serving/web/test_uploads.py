"""The bodies of requests: counted while they come, in time, and never on a disk."""

from __future__ import annotations

import asyncio
import tempfile

import pytest
from fastapi import Request
from web_service import picture

from segp_ext.serving.web.limits import Limits, RefusedError, Room
from segp_ext.serving.web.uploads import uploaded

FORM = "multipart/form-data; boundary=edge"


def body_of(*contents: bytes) -> bytes:
    head = b'--edge\r\nContent-Disposition: form-data; name="images"; filename="%d.png"\r\n\r\n'
    return b"".join(head % place + content + b"\r\n" for place, content in enumerate(contents)) + b"--edge--\r\n"


def read(chunks, kind=FORM, limits=None, room=None, pause=0.0, most=4):
    """Reads a request whose body comes in chunks; returns (upload, bytes counted meanwhile)."""
    room = room or Room(10**9, "bytes")

    async def run():
        waiting = list(chunks)

        async def receive():
            await asyncio.sleep(pause)
            body = waiting.pop(0)
            return {"type": "http.request", "body": body, "more_body": bool(waiting)}

        scope = {"type": "http", "method": "POST", "path": "/", "headers": [(b"content-type", kind.encode())]}
        try:
            async with uploaded(Request(scope, receive), limits or Limits(), room, most) as upload:
                return upload, room.taken
        finally:
            assert room.taken == 0

    return asyncio.run(run())


def test_forms_have_images_and_fields():
    field = b'--edge\r\nContent-Disposition: form-data; name="name"\r\n\r\nred fox\r\n'
    body = field + body_of(b"one", b"two")
    upload, taken = read([body[:50], body[50:]])
    assert upload.images == [("0.png", b"one"), ("1.png", b"two")] and upload.fields == {"name": "red fox"}
    assert taken == len(body)


def test_no_temporary_file_is_made(monkeypatch):
    def fails(*given, **named):
        raise AssertionError("a file was made")

    monkeypatch.setattr(tempfile, "TemporaryFile", fails)
    monkeypatch.setattr(tempfile.SpooledTemporaryFile, "rollover", fails)
    large = bytes(3_000_000)
    assert read([body_of(large)])[0].images[0][1] == large


def test_a_slow_body_is_given_up():
    body = body_of(picture())
    with pytest.raises(RefusedError) as error:
        read([body[start : start + 10] for start in range(0, len(body), 10)], limits=Limits(seconds=0.2), pause=0.02)
    assert (error.value.status, error.value.message) == (408, "the body did not come within 0.2 seconds")
    assert error.value.headers == {"Connection": "close"}


def test_bytes_of_all_requests_are_bounded():
    room = Room(1000, "bytes")
    with pytest.raises(RefusedError) as error:
        read([bytes(600), bytes(600)], "image/png", room=room)
    assert error.value.status == 503 and error.value.headers == {"Retry-After": "1", "Connection": "close"}


@pytest.mark.parametrize("chunks", [[bytes(11)], [bytes(6), bytes(5)]])
def test_a_body_that_is_too_long_is_refused_while_it_comes(chunks):
    with pytest.raises(RefusedError) as error:
        read(chunks, "image/png", Limits(bytes=10))
    assert (error.value.status, error.value.message) == (413, "the body may have at most 10 bytes")
    assert read([bytes(6), bytes(4)], "image/png", Limits(bytes=10))[0].images == [("", bytes(10))]


@pytest.mark.parametrize(
    "body",
    [b"", b"--edge", b"no form", body_of(b"x")[:-10], body_of(b"x").replace(b"form-data; name", b"form-data; nm")],
)
def test_damaged_forms_are_refused(body):
    with pytest.raises(RefusedError) as error:
        read([body])
    assert error.value.status == 400


def test_fields_are_short_and_few():
    field = b'--edge\r\nContent-Disposition: form-data; name="f"\r\n\r\n%s\r\n'
    for body in (field % bytes(5000), field % b"x" * 9):
        with pytest.raises(RefusedError) as error:
            read([body + b"--edge--\r\n"])
        assert error.value.status == 400
