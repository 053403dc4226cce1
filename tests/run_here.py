"""Runs the runs of a comparison in the test's own process, as each new process would spend several seconds on imports."""

from __future__ import annotations

import contextlib
import subprocess
from types import SimpleNamespace
from typing import Any, TextIO

import pytest

from segp_ext import train
from segp_ext.run import jobs


def _run(command: list[str], stdout: TextIO, **_: Any) -> subprocess.CompletedProcess[str]:
    """Replaces `subprocess.run` for the command `python -m segp_ext.train ARGUMENTS`."""
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stdout):
        try:
            status = train.main(command[3:])
        except SystemExit as stop:
            status = int(stop.code or 0)
    return subprocess.CompletedProcess(command, status)


def runs_here(patch: pytest.MonkeyPatch) -> None:
    """Lets a comparison's runs run in this process until `patch` is undone."""
    patch.setattr(jobs, "subprocess", SimpleNamespace(run=_run))
