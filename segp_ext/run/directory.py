"""A run's folder: who works in it, its checkpoints, and where a run that stopped goes on.

config.yaml, result.json, summary.md, plots/
run.lock                     the process that works here
checkpoints/task-003/        a learner after three tasks, with the results until then; a sealed folder (`segp_ext.storage.sealed`)
checkpoints/latest           link to the newest of these
checkpoints/learning-004/    the task that is being learnt, a `segp_ext.storage.task_progress.TaskProgress`
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
"""Names of what is written aside in a run's folder; a process that died leaves them half-written."""


class RunDirectory:
    """The folder of one run, held by this process until `release` or its end.

    Args:
        path: the folder; made if need be.

    Raises:
        FileExistsError: if another process works in it, naming that process.
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
        if hasattr(
            os, "register_at_fork"
        ):  # a child of this process would go on holding the lock when this one has died
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
        """A new run's folder: `run.name`, or one named for the data, the method and the time.

        Raises:
            FileExistsError: if `run.name` is there and holds anything, or another process works in it.
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
        """The folder of a run to go on with.

        Raises:
            FileNotFoundError: if there is no run in it.
            FileExistsError: if another process works in it.
        """
        return cls(find_run(path))

    def release(self) -> None:
        """Lets other processes work here."""
        self._lock.close()

    def check_held(self) -> None:
        """Raises FileNotFoundError if the folder that this process holds is gone, or another one is in its place."""
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
        """Keeps the checkpoint after so many tasks, makes it the latest, and removes what it makes needless and all but the newest `keep`.

        `write` seals a learner in a folder, together with the files that it is given.
        """
        self.check_held()
        path = checkpoint_after(self.path, tasks)
        write(path, {_RESULT: result.to_json()})
        self._make_latest(path)
        older = [saved for saved in saved_tasks(self.path) if _number(saved) < _number(path)]
        for old in older[keep - 1 :] if keep is not None else ():
            sealed.remove(old)

    def _make_latest(self, path: Path) -> None:
        """Points `latest` at a whole checkpoint, and removes what was kept while its tasks were learnt."""
        aside, link = self.checkpoints / f".{_LATEST}", self.checkpoints / _LATEST
        try:
            aside.unlink(missing_ok=True)
            aside.symlink_to(path.name, target_is_directory=True)
            if link.is_dir() and not link.is_symlink():  # as a copy that follows links has it
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
        """The newest checkpoint that is whole, or none if the run stopped before its first.

        Raises:
            ValueError: if there are checkpoints, but all of them are damaged.
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
    """A run after some of its tasks: the learner, and the result until then."""

    learner: SavedLearner
    result: RunResult

    @classmethod
    def read(cls, path: Path) -> SavedRun:
        """Reads a run's checkpoint.

        Raises:
            OSError, ValueError: if it is damaged, or none.
        """
        learner = read_learner(path)
        if len(learner.task_sizes) != _number(path):
            raise ValueError(f"{path} holds a learner after {len(learner.task_sizes)} tasks: was it moved?")
        if _RESULT not in learner.files:
            raise ValueError(f"{path} is a learner, but not a run's: {_RESULT} is no part of it")
        return cls(learner, RunResult.read(path / _RESULT, _number(path)))


def _leftovers(folder: Path) -> list[Path]:
    return [entry for entry in folder.glob(".*") if _LEFT.fullmatch(entry.name)]


def _used(path: Path) -> bool:
    """Whether a folder holds more than a run that ended before it began leaves."""
    begun = (
        {entry.name for entry in path.iterdir()}
        - {"run.lock", "checkpoints"}
        - {entry.name for entry in _leftovers(path)}
    )
    return bool(begun) or any((path / "checkpoints").glob("*"))


def checkpoint_after(run: Path, tasks: int) -> Path:
    """Where a run's checkpoint after so many tasks is."""
    return run / "checkpoints" / f"task-{tasks:03d}"


def learning(run: Path, task: int) -> Path:
    """Where a run keeps what it has of task number `task`, from 1, while it is learnt."""
    return run / "checkpoints" / f"learning-{task:03d}"


def _number(path: Path) -> int:
    match = _TASK.fullmatch(path.name)
    assert match is not None
    return int(match[1])


def saved_tasks(run: Path) -> list[Path]:
    """The checkpoints of a run, whole or not, the newest first."""
    return sorted(
        (path for path in run.glob("checkpoints/task-*") if _TASK.fullmatch(path.name)), key=_number, reverse=True
    )


def find_run(path: Path) -> Path:
    """`path`, if there is a run in it.

    Raises:
        FileNotFoundError: if there is none.
    """
    if not (path / "config.yaml").is_file():
        raise FileNotFoundError(f"no run in {str(path)!r}: there is no config.yaml in it")
    return path


def check_version(run: Path) -> None:
    """Refuses a run that segp_ext 0.1 began, whose method was another; `result.json` or a checkpoint tells.

    Raises:
        ValueError: naming the run and the version.
    """
    try:
        version = str(sealed.read_json(run / "result.json")["versions"]["segp_ext"])
    except (OSError, ValueError, KeyError, TypeError):  # whoever reads it says what is wrong with it
        version = "0.1" if any(is_earlier(checkpoint) for checkpoint in saved_tasks(run)) else ""
    if version == "0.1" or version.startswith("0.1."):
        raise ValueError(f"{run} was made by segp_ext {version}, {OTHER_METHOD}")


def unfinished(directory: Path, settings: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    """Runs in `directory` of the same settings (where results go left out) that stopped before their end, and how far they came."""
    import yaml

    for path in sorted(directory.glob("*/config.yaml")):
        try:
            theirs = yaml.safe_load(path.read_text(encoding="utf-8"))
            result = sealed.read_json(path.parent / "result.json")
            same = {**theirs, "run": None} == {**settings, "run": None}
            if same and result["status"] != "finished" and not _in_use(path.parent):
                yield path.parent, result["message"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError, yaml.YAMLError):
            continue  # no run that could be gone on with


def _held(lock: IO[str]) -> bool:
    """Takes a lock file, if no other process has it; it goes with the process. Some network disks have no locks: then nobody has it."""
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
