"""The Hugging Face hub that does not answer, and code from it: the hub is asked once, and nobody is asked to run code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def asking_once(needed: bool) -> Iterator[None]:
    """Asks the hub whether it answers, if it is needed. If it does not, the block reads the local cache alone.

    Without this, each missing file would be asked for seven times, with pauses of half a minute in all.

    Args:
        needed: whether the block may need the hub.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    before = constants.HF_HUB_OFFLINE
    try:
        if needed and not before:
            get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception:  # its kind depends on the hub library's version
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def asking_nobody() -> Iterator[None]:
    """Lets transformers refuse a model's own code inside, instead of asking on the terminal whether to run it."""
    from transformers import dynamic_module_utils

    before = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = before
