"""A class that is learnt behind the answers: one program at a time, with its progress, which can be cancelled."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segp_ext.serving.web.commands import Commands, what_failed
from segp_ext.serving.web.limits import RefusedError

State = Literal["learning", "learnt", "refused", "failed", "cancelled"]
LOOK = 0.2
"""Seconds between two looks at what the program says."""
PATIENCE = 10.0
"""Seconds that a program has to end once it is asked to."""


@dataclass(frozen=True)
class Job:
    """A class that is learnt, or was.

    Attributes:
        number: Its number since the server started, from 1.
        name: Name of the class.
        images: How many images it is learnt from.
        state: learning; or how it ended: learnt, refused (the learner cannot take it), failed or cancelled.
        percent: How much is done, 0 to 100.
        stage: What is being done, in the program's words.
        message: Why it did not end well; empty otherwise.
    """

    number: int
    name: str
    images: int
    state: State = "learning"
    percent: int = 0
    stage: str = ""
    message: str = ""


class Learning:
    """Runs the program that learns.

    The program writes to files, not to pipes: if this process is killed, it goes on and ends.

    Args:
        learner: The learner on disk.
        commands: How the program is called.
        done: Is called after a class was learnt.
        keep: Folder that keeps the images of learnt classes, each in a folder of its name; None keeps none.

    Attributes:
        job: The job that runs, or the last one; None before the first.
    """

    def __init__(self, learner: Path, commands: Commands, done: Callable[[], object], keep: Path | None = None) -> None:
        self.learner, self.commands, self.done, self.keep = learner, commands, done, keep
        self.job: Job | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._cancelled = False

    def start(self, name: str, images: Sequence[tuple[str, bytes]]) -> Job:
        """Begins to learn a class.

        Args:
            name: Its name, which `segp_ext.serving.web.commands.checked_name` gave.
            images: (ending, content) of the file of each image.

        Raises:
            RefusedError: If another class is being learnt.
            OSError: If the images cannot be written.
        """
        if self.job is not None and self.job.state == "learning":
            raise RefusedError(409, f"the class {self.job.name!r} is being learnt; wait, or cancel it first")
        folder = Path(tempfile.mkdtemp(prefix="segp-serve-"))
        try:
            (folder / "images" / name).mkdir(parents=True)
            for place, (ending, content) in enumerate(images):
                (folder / "images" / name / f"{place:03}{ending}").write_bytes(content)
            with open(folder / "out", "wb") as out, open(folder / "err", "wb") as err:
                command = [*self.commands.learn, str(self.learner), str(folder / "images"), "--progress"]
                # A session of its own: Ctrl-C in the server's terminal is the server's to pass on.
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
                )
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._cancelled = False
        self.job = Job(1 if self.job is None else self.job.number + 1, name, len(images))
        self._thread = threading.Thread(
            target=self._follow, args=(self.job, folder, self._process), name="learning", daemon=True
        )
        self._thread.start()
        return self.job

    def cancel(self) -> None:
        """Stops the job that runs, and waits for its end; the learner on disk stays as it is, unless it had just been replaced.

        Raises:
            RefusedError: If none runs.
        """
        process, thread = self._process, self._thread
        if self.job is None or self.job.state != "learning" or process is None or thread is None:
            raise RefusedError(409, "no class is being learnt")
        self._cancelled = True
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
        thread.join()

    def close(self) -> None:
        """Cancels the job if one runs."""
        if self.job is not None and self.job.state == "learning":
            self.cancel()

    def _follow(self, job: Job, folder: Path, process: subprocess.Popen[bytes]) -> None:
        try:
            with open(folder / "out", encoding="utf-8", errors="replace") as out:
                status, rest = None, ""
                while status is None:
                    try:
                        status = process.wait(LOOK)
                    except subprocess.TimeoutExpired:
                        status = None
                    *lines, rest = (rest + out.read()).split("\n")
                    for line in lines:
                        job = self.job = progressed(job, line)
            said = (folder / "err").read_text(encoding="utf-8", errors="replace")
            job = self._ended(job, status, said)
            if job.state == "learnt" and self.keep is not None:
                job = _kept(job, folder / "images" / job.name, self.keep / job.name)
        except OSError as error:
            job = dataclasses.replace(job, state="failed", message=str(error))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            self.job = job
        if job.state == "learnt":
            self.done()

    def _ended(self, job: Job, status: int, said: str) -> Job:
        if status == 0:
            return dataclasses.replace(job, state="learnt", percent=100)
        if self._cancelled:
            return dataclasses.replace(job, state="cancelled")
        return dataclasses.replace(job, state="refused" if status == 2 else "failed", message=what_failed(status, said))


def _kept(job: Job, images: Path, place: Path) -> Job:
    """Moves the images of a learnt class to a folder, beside the images that are there."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        number = len(list(place.iterdir()))
        for file in sorted(images.iterdir()):
            while (target := place / f"{number:03}{file.suffix}").exists():
                number += 1
            shutil.move(file, target)
            number += 1
    except OSError as error:
        return dataclasses.replace(job, message=f"its images were not all kept: {error}")
    return job


def progressed(job: Job, line: str) -> Job:
    """Returns a job after a line of its program: `progress 42 training` tells how much is done, and other lines are for people."""
    word, _, rest = line.strip().partition(" ")
    percent, _, stage = rest.partition(" ")
    if word != "progress" or not percent.isdecimal():
        return job
    return dataclasses.replace(job, percent=min(100, int(percent)), stage=stage)
