"""What commands show while they work: progress bars, and warnings and errors in one line each."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO, TypeVar

from tqdm import tqdm

T = TypeVar("T")
_USUAL_FORMAT = warnings.formatwarning


def progress(items: Iterable[T], description: str, total: int | None = None, initial: int = 0) -> tqdm[T]:
    """Shows a progress bar while items are iterated over; it vanishes at the end.

    No bar is shown where standard error is no terminal, or by processes other than the main one.

    Args:
        items: the items, which the bar yields.
        description: what stands before the bar.
        total: number of items, where `items` has no length.
        initial: number of items that are done already.
    """
    if _lines_wanted:
        return _Lines(items, description, total, initial=initial, file=io.StringIO())
    shown = is_terminal(sys.stderr) and os.environ.get("RANK", "0") == "0"
    return tqdm(items, description, total, leave=False, dynamic_ncols=True, disable=not shown, initial=initial)


_lines_wanted = False


@contextmanager
def progress_in_lines(wanted: bool) -> Iterator[None]:
    """Shows progress inside the block as lines on standard output, `progress 42 training`, if `wanted`: for programs that read them."""
    global _lines_wanted
    _lines_wanted = wanted
    try:
        yield
    finally:
        _lines_wanted = False


class _Lines(tqdm):
    """A bar that prints a line for each new percent."""

    _percent = -1

    def display(self, *args: Any, **kwargs: Any) -> None:
        percent = int(100 * self.n / self.total) if self.total else 0
        if percent != self._percent:
            self._percent = percent
            print(f"progress {percent} {self.desc.removesuffix(': ')}", flush=True)


def say(line: str, stream: TextIO | None = None) -> None:
    """Prints a line, to standard output by default; a bar that is shown stays below it."""
    stream = stream or sys.stdout
    tqdm.write(line, stream)
    stream.flush()


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal; it may be None (a service has no streams), closed, or a logger."""
    return hasattr(stream, "isatty") and not getattr(stream, "closed", False) and stream.isatty()


def run_command(main: Callable[[], int]) -> NoReturn:
    """Runs a command, and ends the process with its exit status.

    It ends silently if nobody reads the output any more (`| head`). Characters that the output's encoding lacks are written as escapes.

    Args:
        main: the command; returns its exit status.
    """
    _open_what_is_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    status: Any
    try:
        try:
            status = main()
        except SystemExit as stop:  # --help and refused settings raise it
            status = stop.code
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter would say so as it ends
        status = 141  # the shell's status of a program that a closed pipe stops
    sys.exit(status)


def _open_what_is_closed() -> None:
    """Opens the null device as input and output of a process that was started without them, as services are."""
    if None not in (sys.stdin, sys.stdout, sys.stderr):
        return
    # Else a file that is opened later would get what native code writes to 1 and 2.
    while os.open(os.devnull, os.O_RDWR) < 2:
        pass
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open until the process ends)
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def plain_warnings() -> None:
    """Shows this package's warnings in one line each, without the place in the code, and all warnings above bars; for commands."""
    warnings.formatwarning = _formatted
    if is_terminal(sys.stderr):
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
    """Returns the first line of an exception's message, or the name of its type where it has no message."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
