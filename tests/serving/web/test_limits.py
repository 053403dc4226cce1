"""What is counted as in hand, and images that PIL refuses."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from web_service import bomb

from segp_ext.data.decoding import to_pil
from segp_ext.serving.web.limits import RefusedError, Room, bounded_pixels


def test_what_does_not_fit_is_refused_and_not_counted():
    room = Room(10, "images")
    room.take(8)
    with pytest.raises(RefusedError) as error:
        room.take(3)
    assert (error.value.status, error.value.headers, room.taken) == (503, {"Retry-After": "1"}, 8)
    room.take(2)
    room.give(10)
    assert room.taken == 0


def test_an_error_gives_the_room_back():
    room = Room(10, "images")
    with pytest.raises(KeyError), room.held(4):
        assert room.taken == 4
        raise KeyError
    assert room.taken == 0


def test_an_image_above_the_limit_is_refused_before_it_is_decoded():
    """Of an icon the file's head tells another size than its pixels have."""
    before = Image.MAX_IMAGE_PIXELS
    icon = bytes.fromhex("00000100010010100000010020000000000016000000") + bomb(1001)
    icon = icon[:14] + (len(icon) - 22).to_bytes(4, "little") + icon[18:]
    with bounded_pixels(1_000_000):
        assert to_pil(bomb(1000)).size == (1000, 1000)
        for content in (bomb(1001), icon):
            with pytest.raises(ValueError, match="exceeds limit of 1000000 pixels"):
                to_pil(content)
    assert before == Image.MAX_IMAGE_PIXELS and to_pil(io.BytesIO(bomb(1001))).width == 1001
