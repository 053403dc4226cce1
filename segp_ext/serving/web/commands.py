"""The programs that change the learner on disk, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segp_ext.data.class_names import class_name, composed
from segp_ext.data.files import is_ignored
from segp_ext.serving.web.limits import RefusedError

SECONDS = 300.0
"""Time that a renaming may take."""


@dataclass(frozen=True)
class Commands:
    """How the programs are called.

    Attributes:
        learn: Gets LEARNER FOLDER --progress, with a folder of images for each class in FOLDER.
        rename: Gets LEARNER OLD NEW.
    """

    learn: Sequence[str] = (sys.executable, "-m", "segp_ext.learn")
    rename: Sequence[str] = (sys.executable, "-m", "segp_ext.classes", "rename")


def rename(commands: Commands, learner: Path, old: str, new: str) -> None:
    """Renames a class of a learner on disk.

    Raises:
        RefusedError: If the program refuses, with what it says; the learner is as before.
    """
    try:
        done = subprocess.run(
            [*commands.rename, str(learner), old, new],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise RefusedError(503, f"renaming took more than {SECONDS:g} seconds and was stopped") from error
    if done.returncode:
        raise RefusedError(409, what_failed(done.returncode, done.stderr))


def what_failed(status: int, said: str) -> str:
    """Returns the line in which a program said why it failed, without the word "error"."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    named = [line for line in lines if line.startswith("error: ") or ": error: " in line]
    line = (named or lines or [f"the program ended with status {status} and said nothing"])[-1]
    return line.rpartition("error: ")[2]


def checked_name(given: object) -> str:
    """Returns the name of a class as it is learnt, from the name that somebody wrote.

    Raises:
        RefusedError: If no folder can have it, or a program would read it as an option.
    """
    if not isinstance(given, str):
        raise RefusedError(422, f"the name must be text; got {type(given).__name__}")
    name = class_name(composed(given))
    if not name:
        raise RefusedError(422, "the class needs a name")
    shown = repr(name[:60])
    if len(name.encode(errors="replace")) > 200:
        raise RefusedError(422, f"the name {shown}... is too long: at most 200 bytes")
    if not name.isprintable() or "/" in name or "\\" in name:
        raise RefusedError(422, f"the name {shown} must be printable characters without / and \\")
    if name.startswith("-") or is_ignored(name):
        raise RefusedError(422, f"the name {shown} may not begin with - or a dot, or be a system's folder")
    return name
