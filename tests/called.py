"""Calls of a command's `main` that reads the arguments of the process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest


def call(main: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> Any:
    """Returns what `main` returns when these are the arguments of the process."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    return main()
