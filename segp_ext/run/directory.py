"""The folder of a run: which process works in it, its checkpoints, and where a stopped run goes on.

config.yaml, result.json, summary.md, report.html, plots/
run.lock                     the process that works here
checkpoints/task-003/        the learner and the results after three tasks; a sealed folder (`segp_ext.storage.sealed`)
checkpoints/latest           link to the newest checkpoint
checkpoints/learning-004/    the task that is being learnt: a `segp_ext.storage.task_progress.TaskProgress`
"""

from __future__ import annotations

import errno
import itertools
import os
import platform
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from segp_ext.config import Config
from segp_ext.report.result import RunResult
from segp_ext.storage import sealed
from segp_ext.storage.checkpoint import OTHER_METHOD, SavedLearner, is_earlier, read_learner

try:
    import fcntl
except ImportError:  # a system without these locks
    fcntl = None  # type: ignore[assignment]

_LATEST, _RESULT = "latest", "run.json"
_TASK = re.compile(r"task-(\d+)")
_LEFT = re.compile(
    r"\.(task-\d+|learning-\d+|step-\d+|anchors)\.(new|old|gone)|\.(config\.yaml|result\.json|summary\.md|report\.html)\.\d+|\.latest"
)
"""Names of files and folders that are written aside in a run's folder; a process that dies leaves them half-written."""


class RunDirectory:
    """Holds the folder of one run for this process, until `release` or the end of the process.

    Args:
        path: The folder; made if it is not there.

    Attributes:
        path: The folder.
        checkpoints: The folder of its checkpoints.

    Raises:
        FileExistsError: If another process works in it; names that process.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.checkpoints = path, path / "checkpoints"
        path.mkdir(parents=True, exist_ok=True)
        self._lock: IO[str] = open(path / "run.lock", "a+", encoding="utf-8")  # noqa: SIM115 (held while this object lives)
        if not _held(self._lock):
            self._lock.seek(0)
            owner = self._lock.read().strip() or "another process"
            self._lock.close()
            raise FileExistsError(f"{path} is in use by {owner}; wait for it, stop it, or choose another --run.name")
        if hasattr(os, "register_at_fork"):
            # A child of this process would go on holding the lock after this one has died.
            os.register_at_fork(after_in_child=self._lock.close)
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {platform.node()} since {datetime.now():%Y-%m-%d %H:%M:%S}\n")
        self._lock.flush()
        self.checkpoints.mkdir(exist_ok=True)
        for folder in (path, self.checkpoints, *self.checkpoints.glob("learning-*")):
            for entry in _leftovers(folder):
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()

    @classmethod
    def create(cls, config: Config, data: str) -> RunDirectory:
        """Makes and holds the folder of a new run.

        Args:
            config: Settings of the run. `run.name` names the folder; without it data, method and time do.
            data: Name of the data set.

        Raises:
            FileExistsError: If `run.name` is there and holds anything, or another process works in it.
        """
        parent = Path(config.run.directory)
        if config.run.name is not None:
            path = parent / config.run.name
            if path.is_dir() and _used(path):
                if not (path / "config.yaml").is_file():
                    raise FileExistsError(f"{path} is not empty, and holds no run; choose another --run.name")
                raise FileExistsError(
                    f"{path} holds a run already; continue it with --resume {path}, choose another --run.name, or remove it"
                )
            return cls(path)
        parent.mkdir(parents=True, exist_ok=True)
        short = os.fsencode(data)[:150].decode(errors="ignore")  # disks take names of 255 bytes
        stamp = f"{short}-{config.method}-{datetime.now():%Y%m%d-%H%M%S}"
        for count in itertools.count(1):
            path = parent / (stamp if count == 1 else f"{stamp}-{count}")
            try:
                path.mkdir()
                break
            except FileExistsError:
                continue
        return cls(path)

    @classmethod
    def reopen(cls, path: Path) -> RunDirectory:
        """Holds the folder of a run that goes on.

        Raises:
            FileNotFoundError: If there is no run in it.
            FileExistsError: If another process works in it.
        """
        return cls(find_run(path))

    def release(self) -> None:
        """Lets other processes work in the folder."""
        self._lock.close()

    def check_held(self) -> None:
        """Checks that the folder which this process holds is still in its place.

        Raises:
            FileNotFoundError: If it was removed, or another one is in its place.
        """
        try:
            there = os.stat(self.path / "run.lock")
        except FileNotFoundError:
            there = None
        mine = os.fstat(self._lock.fileno())
        if there is None or (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            raise FileNotFoundError(
                f"the run's folder {self.path} was removed or replaced while the run went on; nothing is written there"
            )

    def save(
        self, tasks: int, write: Callable[[Path, dict[str, bytes]], None], result: RunResult, keep: int | None
    ) -> None:
        """Writes a checkpoint, makes it the latest one, and removes older ones and the progress of the tasks that it holds.

        Args:
            tasks: Number of tasks that the learner has learnt.
            write: Seals the learner in a folder, together with files given by name.
            result: Result of the run until now.
            keep: Number of checkpoints to keep; all if None.

        Raises:
            FileNotFoundError: If the run's folder was removed or replaced.
        """
        self.check_held()
        path = checkpoint_after(self.path, tasks)
        write(path, {_RESULT: result.to_json()})
        self._make_latest(path)
        older = [saved for saved in saved_tasks(self.path) if _number(saved) < _number(path)]
        for old in older[keep - 1 :] if keep is not None else ():
            sealed.remove(old)

    def _make_latest(self, path: Path) -> None:
        """Points `latest` at a whole checkpoint, and removes the progress of the tasks that it holds."""
        aside, link = self.checkpoints / f".{_LATEST}", self.checkpoints / _LATEST
        try:
            aside.unlink(missing_ok=True)
            aside.symlink_to(path.name, target_is_directory=True)
            if link.is_dir() and not link.is_symlink():  # a copy that followed links made a folder of it
                shutil.rmtree(link)
            os.replace(aside, link)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            warnings.warn(f"{link} could not be made to name {path.name}: {error}", RuntimeWarning, stacklevel=3)
        for task in range(1, _number(path) + 1):
            if learning(self.path, task).exists():
                sealed.remove(learning(self.path, task))

    def load(self) -> SavedRun | None:
        """Reads the newest whole checkpoint and warns of damaged ones; returns None if the run stopped before its first.

        Raises:
            ValueError: If there are checkpoints, but all of them are damaged.
        """
        paths = saved_tasks(self.path)
        for path in paths:
            try:
                found = SavedRun.read(path)
            except (OSError, ValueError) as error:
                warnings.warn(f"{error}; the one before it is tried", RuntimeWarning, stacklevel=2)
                continue
            self._make_latest(path)
            return found
        if paths:
            raise ValueError(f"no checkpoint of {self.path} is whole; start anew, under another --run.name")
        return None


@dataclass
class SavedRun:
    """Describes a run after some of its tasks.

    Attributes:
        learner: The learner.
        result: The result until then.
    """

    learner: SavedLearner
    result: RunResult

    @classmethod
    def read(cls, path: Path) -> SavedRun:
        """Reads a checkpoint of a run.

        Raises:
            OSError, ValueError: If the folder is damaged, or holds no checkpoint of a run.
        """
        learner = read_learner(path)
        if len(learner.task_sizes) != _number(path):
            raise ValueError(f"{path} holds a learner after {len(learner.task_sizes)} tasks: was it moved?")
        if _RESULT not in learner.files:
            raise ValueError(f"{path} is a learner, but not of a run: its seal does not name {_RESULT}")
        return cls(learner, RunResult.read(path / _RESULT, _number(path)))


def _leftovers(folder: Path) -> list[Path]:
    return [entry for entry in folder.glob(".*") if _LEFT.fullmatch(entry.name)]


def _used(path: Path) -> bool:
    """Tells whether a folder holds more than is left by a run that ended before its first task."""
    begun = (
        {entry.name for entry in path.iterdir()}
        - {"run.lock", "checkpoints"}
        - {entry.name for entry in _leftovers(path)}
    )
    return bool(begun) or any((path / "checkpoints").glob("*"))


def checkpoint_after(run: Path, tasks: int) -> Path:
    """Returns the folder of a run's checkpoint after so many tasks."""
    return run / "checkpoints" / f"task-{tasks:03d}"


def learning(run: Path, task: int) -> Path:
    """Returns the folder where a run keeps its progress in a task, counted from 1, while it learns it."""
    return run / "checkpoints" / f"learning-{task:03d}"


def _number(path: Path) -> int:
    match = _TASK.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def saved_tasks(run: Path) -> list[Path]:
    """Returns the folders of a run's checkpoints, whole or not, the newest first."""
    return sorted(
        (path for path in run.glob("checkpoints/task-*") if _TASK.fullmatch(path.name)), key=_number, reverse=True
    )


def find_run(path: Path) -> Path:
    """Returns `path` if there is a run in it.

    Raises:
        FileNotFoundError: If there is none.
    """
    if not (path / "config.yaml").is_file():
        raise FileNotFoundError(f"no run in {str(path)!r}: there is no config.yaml in it")
    return path


def check_version(run: Path) -> None:
    """Checks that a run was not begun by segp_ext 0.1, whose method differed. `result.json` or a checkpoint tells.

    Raises:
        ValueError: If it was; names the run and the version.
    """
    try:
        version = str(sealed.read_json(run / "result.json")["versions"]["segp_ext"])
    except (OSError, ValueError, KeyError, TypeError):  # its reader says what is wrong with it
        version = "0.1" if any(is_earlier(checkpoint) for checkpoint in saved_tasks(run)) else ""
    if version == "0.1" or version.startswith("0.1."):
        raise ValueError(f"{run} was made by segp_ext {version}, {OTHER_METHOD}")


def unfinished(directory: Path, settings: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """Yields runs of the same settings that stopped before their end.

    Args:
        directory: Folder with runs.
        settings: Settings to look for, nested as in `Config`; the section "run" does not count.

    Yields:
        The folder of such a run, and how far it came.
    """
    import yaml

    for path in sorted(directory.glob("*/config.yaml")):
        try:
            theirs = yaml.safe_load(path.read_text(encoding="utf-8"))
            result = sealed.read_json(path.parent / "result.json")
            same = {**theirs, "run": None} == {**settings, "run": None}
            if same and result["status"] != "finished" and not _in_use(path.parent):
                yield path.parent, result["message"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError):
            continue  # no run that could go on


def _held(lock: IO[str]) -> bool:
    """Takes the lock on a file; returns False if another process has it. The lock ends with the process.

    Some network disks have no locks: there the function warns and returns True.
    """
    if fcntl is None:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        warnings.warn(
            f"{lock.name} cannot be locked on this disk ({error.strerror}): no second process may work in that folder",
            RuntimeWarning,
            stacklevel=3,
        )
    return True


def _in_use(path: Path) -> bool:
    with open(path / "run.lock", "a", encoding="utf-8") as lock:
        return not _held(lock)
