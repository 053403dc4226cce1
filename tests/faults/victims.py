"""Runs commands in processes that are killed where a test wants it: by SIGKILL, so that nothing is cleaned up, as in a power cut.

As a program, this file is the process that makes these victims. It imports everything once and forks a victim per request; that saves most
of a small run's time.
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_EVENTS = {"open": 0, "os.rename": 1, "os.remove": 0, "os.rmdir": 0, "os.mkdir": 0, "os.symlink": 1}
"""Python's audit events of writes, and which of their arguments is the path that is written to; for a rename it is the new path."""


@dataclass
class Victim:
    """How a victim ended.

    Attributes:
        status: exit status; the negative number of the signal if a signal killed it.
        seconds: time that it ran.
        passed: how often it passed each write point, by name.
        steps: optimiser steps that it did, as "task N, epoch N: step".
        output: its standard output and standard error.
    """

    status: int
    seconds: float
    passed: dict[str, int]
    steps: list[str]
    output: str


class Victims:
    """Starts victims, one at a time.

    Args:
        folder: folder of their runs; names of write points are relative to it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def run(
        self,
        arguments: list[str],
        *,
        point: tuple[str, int] | None = None,
        after: float | None = None,
        full: bool = False,
        command: str = "train",
    ) -> Victim:
        """Runs a command, and interrupts it where a test wants it.

        Args:
            arguments: arguments of the command.
            point: name of a write point, and at which of its occurrences, from 1, to kill the victim.
            after: seconds after which to kill it.
            full: instead of a kill, let no write to the run's folder succeed from the point on, as on a full disk.
            command: name of the command, a module of `segp_ext`.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(
            json.dumps({"arguments": arguments, "point": point, "after": after, "full": full, "command": command})
            + "\n"
        )
        self._process.stdin.flush()
        return Victim(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """Ends the process that starts the victims."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def point_name(event: str, arguments: tuple[Any, ...], root: str) -> str | None:
    """Names a write inside `root` by its kind and file, with numbers replaced by N; returns None for all other events."""
    if event not in _EVENTS or (event == "open" and not _writes(arguments)):
        return None
    path = arguments[_EVENTS[event]]
    if isinstance(path, int) or not (text := os.fsdecode(path)).startswith(root + os.sep):
        return None
    return f"{event.removeprefix('os.')} {re.sub(r'[0-9]+', 'N', os.path.relpath(text, root))}"


def _writes(arguments: tuple[Any, ...]) -> bool:
    mode, flags = arguments[1:3]
    return bool({*"wax+"} & {*mode}) if mode else bool((flags or 0) & (os.O_WRONLY | os.O_RDWR))


def _victim(request: dict[str, Any], root: str, output: str, notes: str) -> int:
    """Runs the command in the forked process; returns its exit status.

    Args:
        request: the arguments of `Victims.run`.
        root: folder of the runs.
        output: file for standard output and standard error.
        notes: file that gets a line for each write point and each optimiser step.
    """
    import importlib

    from segp_ext.method.loss_record import LossRecord

    sys.stdin.close()
    with open(output, "wb", 0) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    noted = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    passed: Counter[str] = Counter()
    reached = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        name = point_name(event, arguments, root)
        nonlocal reached
        if name is None:
            return
        os.write(noted, f"P{name}\n".encode())
        passed[name] += 1
        reached = reached or request["point"] == [name, passed[name]]
        if reached and not request["full"]:
            os.kill(os.getpid(), signal.SIGKILL)
        if reached and event in ("open", "os.mkdir", "os.symlink"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(arguments[_EVENTS[event]]))

    add = LossRecord.add

    def noted_add(self: LossRecord, step: int, *arguments: Any) -> None:
        os.write(noted, f"S{self.where}: {step}\n".encode())
        add(self, step, *arguments)

    LossRecord.add = noted_add  # type: ignore[method-assign]
    sys.addaudithook(hook)
    try:
        return importlib.import_module(f"segp_ext.{request['command']}").main(request["arguments"])
    except SystemExit as end:
        return int(end.code or 0)


def main() -> None:
    import matplotlib.pyplot
    import open_clip
    import peft
    import sklearn.datasets
    import torch

    import segp_ext.learn
    import segp_ext.train  # noqa: F401

    del matplotlib, open_clip, peft, sklearn
    torch.set_num_threads(1)  # threads would not survive the fork
    root = str(Path(sys.argv[1]).resolve())
    output, notes = f"{root}.output", f"{root}.notes"
    for line in sys.stdin:
        request = json.loads(line)
        begin = time.perf_counter()
        child = os.fork()
        if child == 0:
            status = 70
            try:
                status = _victim(request, root, output, notes)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        if request["after"] is not None:
            while (
                os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
                and time.perf_counter() - begin < request["after"]
            ):
                time.sleep(0.005)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        noted = Path(notes).read_text().splitlines()
        victim = {
            "status": os.waitstatus_to_exitcode(status),
            "seconds": time.perf_counter() - begin,
            "passed": Counter(line[1:] for line in noted if line[0] == "P"),
            "steps": [line[1:] for line in noted if line[0] == "S"],
            "output": Path(output).read_text(errors="replace"),
        }
        print(json.dumps(victim), flush=True)


if __name__ == "__main__":
    main()
