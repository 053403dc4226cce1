"""Names the user's own part and its setting where the part fails or returns what does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from segp_ext.config.named import is_own


class OwnPartError(ValueError):
    """Tells that a part of the user's own failed; the exception that the part raised is its cause."""


def title(setting: str, part: object | type) -> str:
    """Returns the setting and the class of a part, such as `anchors.kind my_module:Mine`."""
    kind = part if isinstance(part, type) else type(part)
    return f"{setting} {kind.__module__}:{kind.__qualname__}"


@contextmanager
def naming(setting: str, part: object | type) -> Iterator[None]:
    """Names the setting and the class in an exception that the user's own part raises in the block.

    Parts of this package raise as they are. So does memory that runs out, which commands explain themselves.

    Args:
        setting: dotted name of the setting that names the part.
        part: the part, or its class before an object of it is made.

    Raises:
        OwnPartError: from the exception of the part.
    """
    try:
        yield
    except (torch.OutOfMemoryError, OwnPartError):
        raise
    except Exception as error:
        if not is_own(part):
            raise
        said = f": {error}" if str(error) else ""
        raise OwnPartError(f"{title(setting, part)}: {type(error).__name__}{said}") from error


def check_returned(
    named: str, value: Any, shape: Sequence[int], dtype: torch.dtype | None, device: torch.device
) -> None:
    """Refuses what a part returned if it is no tensor of this shape, dtype and device.

    Args:
        named: the setting, the class and the method, for the message.
        value: what the part returned.
        shape: shape that is expected.
        dtype: dtype that is expected; None for any floating-point dtype.
        device: device that is expected.

    Raises:
        OwnPartError: saying what was expected and what came.
    """
    if isinstance(value, Tensor):
        right = value.is_floating_point() if dtype is None else value.dtype == dtype
        if right and list(value.shape) == list(shape) and value.device == device:
            return
        got = f"{_described(value.dtype)} {list(value.shape)} on {value.device}"
    else:
        got = type(value).__name__
    raise OwnPartError(f"{named} must return a {_described(dtype)} tensor {list(shape)} on {device}; got {got}")


def _described(dtype: torch.dtype | None) -> str:
    return "floating-point" if dtype is None else str(dtype).removeprefix("torch.")
