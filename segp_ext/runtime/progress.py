"""What the commands show while they work: progress bars, and warnings and errors in one line."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TextIO, TypeVar

from tqdm import tqdm

T = TypeVar("T")
_USUAL_FORMAT = warnings.formatwarning


def progress(items: Iterable[T], description: str, total: int | None = None, initial: int = 0) -> tqdm[T]:
    """Wraps `items` in a bar that vanishes when done; `initial` of them are done already.

    There is none where standard error is no terminal, nor in processes but the main one.
    """
    shown = _is_terminal(sys.stderr) and os.environ.get("RANK", "0") == "0"
    return tqdm(items, description, total, leave=False, dynamic_ncols=True, disable=not shown, initial=initial)


def say(line: str, stream: TextIO | None = None) -> None:
    """Prints a line, to standard output by default; above a bar that is shown."""
    stream = stream or sys.stdout
    tqdm.write(line, stream)
    stream.flush()


def _is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal; one that was taken away (a service), closed, or replaced by a logger is none."""
    return hasattr(stream, "isatty") and not getattr(stream, "closed", False) and stream.isatty()


def run_command(main: Callable[[], int]) -> NoReturn:
    """Runs a command and ends the process with its exit status; in silence if whoever reads its output has gone (`| head`).

    Characters that the output's encoding lacks are written as escapes.
    """
    _open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    status: Any
    try:
        try:
            status = main()
        except SystemExit as stop:  # of --help, and of settings that are refused
            status = stop.code
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would say so as it ends
        status = 141  # as a shell has it for a program that such a pipe stops
    sys.exit(status)


def _open_what_is_closed() -> None:
    """Gives a process that was started without an input or output (as services are) one that leads nowhere."""
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    while (
        os.open(os.devnull, os.O_RDWR) < 2
    ):  # or a file that is opened later would get what native code writes to 1 and 2
        pass
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open until the process ends)
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def plain_warnings() -> None:
    """Lets this package's warnings be a line each, without the place in its code, and all stand above bars; for commands."""
    warnings.formatwarning = _formatted
    if _is_terminal(sys.stderr):
        warnings.showwarning = _shown


def _formatted(message: Warning | str, category: type[Warning], *place: Any, **line: Any) -> str:
    return f"warning: {message}\n" if category is RuntimeWarning else _USUAL_FORMAT(message, category, *place, **line)


def _shown(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    text = warnings.formatwarning(message, category, filename, lineno, line)
    say(text.rstrip("\n"), file or sys.stderr)


def first_line(error: BaseException) -> str:
    """An exception's first line of text, or its type where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
