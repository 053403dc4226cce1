"""The form in which a command was started, for usage lines and for commands that a message tells the user to type."""

from __future__ import annotations

import re
import sys
from pathlib import PurePath

CONSOLE = "segp"
"""Name of the console command that pip installs."""


def program(command: str = "") -> str:
    """Returns what the user typed to reach a command.

    Args:
        command: Name of the sub-command, such as "train". Empty for the command itself.

    Returns:
        `segp train`, `python -m segp_ext train` or `python -m segp_ext.train`. The last one also stands for code that calls a command
        from Python, and for launchers such as `torchrun`.
    """
    started = PurePath(sys.argv[0] if sys.argv else "")
    if started.stem == CONSOLE:
        return f"{CONSOLE} {command}".rstrip()
    if started.name == "__main__.py" and started.parent.name == "segp_ext":
        return f"python -m segp_ext {command}".rstrip()
    return f"python -m segp_ext.{command}" if command else "python -m segp_ext"


def as_typed(text: str) -> str:
    """Returns a text in which every `python -m segp_ext.COMMAND` has the form in which the present command was started."""
    return re.sub(r"python -m segp_ext\.(\w+)", lambda found: program(found[1]), text)
