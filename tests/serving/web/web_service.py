"""Makes a service of a saved learner, with small limits, and stands in for the programs that change the learner."""

from __future__ import annotations

import argparse
import io
import os
import sys
import textwrap
import time
from contextlib import contextmanager

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from segp_ext import serve
from segp_ext.serving.web.commands import Commands
from segp_ext.serving.web.starting import guarded, make_service


def options_of(learner, *given: str) -> argparse.Namespace:
    """Reads options of the command; the CPU, and a learner that is looked at only when asked."""
    return serve.read_options([str(learner), "--device=cpu", "--watch=600", *given])


@contextmanager
def client_of(learner, *given: str, commands: Commands | None = None):
    """Yields (client, service) of a running application."""
    options = options_of(learner, *given)
    service = make_service(options, commands or Commands())
    app = guarded(service, options.host, options.token)
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as client:
        yield client, service


def picture(seed: int = 0, side: int = 20, form: str = "PNG") -> bytes:
    """Makes an image file."""
    pixels = np.random.RandomState(seed).randint(0, 256, (side, side, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def bomb(side: int) -> bytes:
    """Makes a small PNG file of a large image."""
    file = io.BytesIO()
    Image.new("1", (side, side)).save(file, "PNG")
    return file.getvalue()


def program(folder, code: str) -> list[str]:
    """Writes a program that stands in for a command of this package; returns how to call it."""
    file = folder / f"program{len(list(folder.glob('program*')))}.py"
    file.write_text(textwrap.dedent(code))
    return [sys.executable, str(file)]


def until(true, seconds: float = 60.0):
    """Waits until something is true, and returns it."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)
    return found


def alive(process: int) -> bool:
    """Tells whether a process runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
