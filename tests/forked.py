"""Starts programs of this package without the seconds that each would spend on imports: a process that has done them forks.

`python tests/forked.py serve SOCKET` is that process. `python tests/forked.py run SOCKET ARGUMENTS` asks it for
`python -m segp_ext ARGUMENTS`, and ends as that does.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

COMMAND = "import runpy; runpy.run_module('segp_ext', run_name='__main__', alter_sys=True)"
"""Program that is `python -m segp_ext`."""

PRELOADED = ("torch", "open_clip", "peft", "sklearn.datasets", "segp_ext.learn", "segp_ext.serving.web.starting")


class Forked:
    """A program that was asked for.

    Args:
        place: the socket of the process that forks.
        code: the program.
        arguments: its `sys.argv`.
        streams: descriptors of its standard input, output and error.
    """

    def __init__(self, place: str, code: str, arguments: Sequence[str], streams: Sequence[int] = (0, 1, 2)) -> None:
        self._answers = socket.socket(socket.AF_UNIX)
        self._answers.connect(place)
        request = json.dumps({"code": code, "argv": [*arguments], "cwd": os.getcwd(), "environ": dict(os.environ)})
        socket.send_fds(self._answers, [f"{len(request.encode())}\n".encode()], streams)
        self._answers.sendall(request.encode())
        self._lines = self._answers.makefile()
        self.pid = int(self._lines.readline())
        self._status: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Returns its exit status; the negative number of the signal if a signal killed it."""
        if self._status is None:
            self._answers.settimeout(timeout)
            self._status = int(self._lines.readline())
        return self._status

    def kill(self, how: int = signal.SIGKILL) -> None:
        """Sends it a signal, if it has not ended."""
        if self._status is None:
            try:
                os.kill(self.pid, how)
            except ProcessLookupError:
                self.wait()

    def terminate(self) -> None:
        """Asks it to end."""
        self.kill(signal.SIGTERM)


class Forks:
    """The process that forks.

    Args:
        folder: where its socket will be.
        threads: threads that each program may use.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        self.place = os.path.relpath(folder / "forks")  # a socket's path may have 107 bytes
        self.place = min(self.place, str(folder / "forks"), key=len)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, __file__, "serve", self.place]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, env=environment)
        while not os.path.exists(self.place):
            assert self._process.poll() is None, "the process that forks has ended"
            time.sleep(0.05)

    def close(self) -> None:
        """Ends the process; what it has started goes on."""
        self._process.communicate()


def _next_request(place: str) -> tuple[dict, list[int]]:
    """Listens; returns, in a process of its own for every program, what was asked for and the three streams."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{place}.new")
        listening.listen()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait below
        os.rename(f"{place}.new", place)  # so that it is there only when it answers
        while True:
            if 0 in select.select([listening, 0], [], [])[0]:  # nobody is there any more who could ask
                os._exit(0)
            asked, _ = listening.accept()
            if os.fork():
                asked.close()
                continue
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            head, streams, *_ = socket.recv_fds(asked, 64, 3)
            size, _, content = head.partition(b"\n")
            while len(content) < int(size):
                content += asked.recv(1 << 20)
            child = os.fork()
            if child == 0:
                asked.close()
                return json.loads(content), streams
            for stream in (*streams, 0, 1, 2):  # or a pipe would not end with the program
                os.close(stream)
            asked.sendall(f"{child}\n".encode())
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            try:
                asked.sendall(f"{status}\n".encode())
            finally:
                os._exit(0)


def _serve(place: str) -> None:
    for name in PRELOADED:
        with contextlib.suppress(ImportError):  # an extra that is not installed
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # or each collection in a fork would copy all memory
    request, streams = _next_request(place)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  (new ones, as the old may remember a file where there is a pipe)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.argv[:] = request["argv"]
    sys.path[0] = request["cwd"]  # as for -m and -c
    status = 1
    try:
        exec(compile(request["code"], "<forked>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:  # to take the interpreter apart would touch, and so copy, all memory
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve(sys.argv[2])
    else:
        ended = Forked(sys.argv[2], COMMAND, ["segp", *sys.argv[3:]]).wait()
        if ended < 0:
            os.kill(os.getpid(), -ended)
        sys.exit(ended)
