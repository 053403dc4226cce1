"""The console command `segp`, also as `python -m segp_ext`: finds a sub-command and runs it."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from segp_ext import COMMANDS, WAIT_POLICY, __version__
from segp_ext.runtime.program import CONSOLE, program
from segp_ext.runtime.progress import run_command


def help_text() -> str:
    """Returns what `--help` prints: usage, all sub-commands and the options."""
    name = program()
    lines = [
        f"usage: {name} COMMAND [ARGUMENT ...]",
        "",
        "Teach a CLIP model new classes task after task (SeGP-CL, arXiv 2603.12055).",
        "",
        "commands:",
        *(f"  {command:9} {meaning}" for command, meaning in COMMANDS.items()),
        "",
        "options:",
        "  -h, --help  show this text",
        "  --version   show the version",
        "",
        f"{name} COMMAND --help explains a command.",
        f"{name} train learns the built-in digits, in a minute or two.",
    ]
    return "\n".join(lines)


def dispatch(arguments: Sequence[str]) -> int:
    """Runs the sub-command that the arguments name.

    Args:
        arguments: Name of a sub-command and its own arguments, or an option of `segp` itself.

    Returns:
        Exit status of the sub-command; 0 after help and version; 2 for a name that does not exist.
    """
    first, *rest = arguments or ["--help"]
    if first in ("-h", "--help"):
        print(help_text())
        return 0
    if first == "--version":
        print(f"segp_ext {__version__}")
        return 0
    if first in COMMANDS:
        return importlib.import_module(f"segp_ext.{first}").main(rest)
    kind = "option" if first.startswith("-") else "command"
    close = difflib.get_close_matches(first, [*COMMANDS, "--help", "--version"])
    hint = f"; close: {', '.join(close)}" if close else ""
    print(f"{program()}: error: unknown {kind} {first!r}{hint}\n\n{help_text()}", file=sys.stderr)
    return 2


def main() -> NoReturn:
    """Runs `segp` with the arguments of the process, and ends the process."""
    os.environ.setdefault(*WAIT_POLICY)  # before a sub-command imports torch, which reads it once
    if program() == CONSOLE and not sys.flags.safe_path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does; parts of the user's own are found there
    run_command(lambda: dispatch(sys.argv[1:]))


if __name__ == "__main__":
    main()
