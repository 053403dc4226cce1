"""Jobs of a comparison: each run in a process of its own, shared out over the devices of this machine."""

from __future__ import annotations

import dataclasses
import os
import queue
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from segp_ext.config import RESUMABLE, Config, dotted, from_dict
from segp_ext.config.methods import METHODS
from segp_ext.config.settings_files import read_settings
from segp_ext.report.result import RunResult
from segp_ext.report.table import percent
from segp_ext.report.terminal import wrapped
from segp_ext.run.arguments import joined, settings_given, take
from segp_ext.run.command_line import parse
from segp_ext.run.directory import check_version
from segp_ext.run.rows import Row
from segp_ext.runtime.progress import progress, say

_PLACES = ("run.name", "run.directory", "run.threads")
"""Settings in which a run that is there already may differ from the job."""
_SAME = ("data.root", "model.pretrained")
"""Settings that a run may be resumed with, but that must be the same in a run that is there already."""


@dataclass(frozen=True, eq=False)
class Job:
    """One run of a comparison: a row under one seed, in a folder of its own.

    Attributes:
        row: The method and its settings.
        seed: Seed of the run.
        folder: Folder of the run.
        arguments: Arguments for `segp train`.
        settings: Settings of the run, nested as in `Config`.
    """

    row: Row
    seed: int
    folder: Path
    arguments: tuple[str, ...]
    settings: dict[str, Any]

    @classmethod
    def of(cls, row: Row, seed: int, out: Path, given: Sequence[str], threads: int | None) -> Job:
        """Reads the settings of a row; exits with a message, as `parse` does, if they do not fit.

        Args:
            row: The method and its settings.
            seed: Seed of the run. It sets the class order too, unless a protocol or `data.order` says that.
            out: Folder of the comparison.
            given: Arguments for all rows; `{seed}` stands for the seed. A setting that the row's method fixes itself is left out.
            threads: CPU threads of the run; torch's own choice if None.
        """
        folder = row.folder(out, seed)
        fixed = [
            *row.of_seed(seed).arguments(),
            f"--seed={seed}",
            f"--run.directory={folder.parent}",
            f"--run.name={folder.name}",
        ]
        fixed += [] if threads is None else [f"--run.threads={threads}"]
        given = joined([argument.replace("{seed}", str(seed)) for argument in given])
        for setting in METHODS.get(row.method, {}):
            given = take(given, f"--{setting}")[1]
        config = parse([*given, *fixed], "compare")
        stated = config.protocol is not None or "data.order" in settings_given([*given, *joined(fixed)])[0]
        if isinstance(config.data.order, int) and not stated:
            fixed.append(f"--data.order={seed}")
            config = parse([*given, *fixed], "compare")
        return cls(row, seed, folder, (*given, *fixed), dataclasses.asdict(config))

    @property
    def log(self) -> Path:
        """File with the output of the run."""
        return self.folder.parent / f"{self.folder.name}.log"

    def result(self) -> RunResult | None:
        """Reads the result of the run; returns None if there is no run, or it did not finish.

        Raises:
            ValueError: If the folder holds a run of other settings, or one that cannot be read.
        """
        file = self.folder / "config.yaml"
        if not file.is_file():
            return None
        try:
            check_version(self.folder)
            there = dotted(dataclasses.asdict(from_dict(Config, read_settings(file))))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{file} cannot be read; remove {self.folder}, or choose another --out: {error}"
            ) from error
        for name, value in dotted(self.settings).items():
            if (name in _SAME or name not in (*_PLACES, *RESUMABLE)) and there.get(name) != value:
                raise ValueError(
                    f"{self.folder} holds a run with {name} {there.get(name)!r}, not {value!r} as asked for; remove it, or "
                    "choose another --out"
                )
        try:
            result = RunResult.read(self.folder / "result.json")
        except (OSError, ValueError):
            return None
        return result if result.status == "finished" else None

    def execute(self, device: str | None) -> str:
        """Runs the job in a process of its own, or resumes the run in its folder.

        Args:
            device: Value of CUDA_VISIBLE_DEVICES for the process; unchanged if None.

        Returns:
            An empty string if the run finished; else the exit status and the last words of the run.
        """
        arguments = list(self.arguments)
        if (self.folder / "config.yaml").is_file():
            now = [(name, take(self.arguments, f"--{name}")[0]) for name in RESUMABLE if name not in _SAME]
            arguments = ["--resume", str(self.folder), *(f"--{name}={values[-1]}" for name, values in now if values)]
        environment = dict(os.environ) if device is None else {**os.environ, "CUDA_VISIBLE_DEVICES": device}
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as log:
            before = log.tell()
            done = subprocess.run(
                [sys.executable, "-m", "segp_ext.train", *arguments],
                stdout=log,
                stderr=log,
                env=environment,
                check=False,
            )
        if done.returncode == 0:
            return ""
        said = self.log.read_bytes()[before:].decode(errors="replace").strip().splitlines()
        return f"exit status {done.returncode}: " + next(
            (line for line in reversed(said) if "error" in line), (said or ["nothing said"])[-1]
        )


def usable_devices() -> list[str | None]:
    """Returns a value of CUDA_VISIBLE_DEVICES for each device that this process may use; `[None]` where there is no CUDA device."""
    count = torch.cuda.device_count()
    listed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return [*(listed or map(str, range(count)))][:count] or [None]


@contextmanager
def _cancelling(pool: ThreadPoolExecutor) -> Iterator[None]:
    """Cancels the jobs that wait when the block ends early, as by Ctrl-C; running jobs get the same Ctrl-C and end by themselves."""
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def execute_jobs(
    jobs: Sequence[Job], devices: Sequence[str | None], count: int, results: dict[Job, RunResult]
) -> dict[Job, str]:
    """Runs jobs, each on a device that is free.

    Args:
        jobs: Jobs to run.
        devices: Devices, as `usable_devices` returns them.
        count: Number of jobs at a time; they share the devices evenly.
        results: Gets the result of every job that finished.

    Returns:
        The last words of every job that failed.
    """
    free: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    for number in range(count):
        free.put(devices[number % len(devices)])

    def run(job: Job) -> str:
        device = free.get()
        try:
            return job.execute(device)
        except OSError as error:
            return str(error)
        finally:
            free.put(device)

    failed = {}
    with ThreadPoolExecutor(count) as pool, _cancelling(pool):
        running = {pool.submit(run, job): job for job in jobs}
        for future in progress(as_completed(running), "runs", len(running)):
            job, said = running[future], future.result()
            try:
                result = None if said else job.result()
            except ValueError as error:  # somebody wrote there meanwhile
                result, said = None, str(error)
            if result is None:
                failed[job] = said or "it ended without a result"
                say(f"{job.row.label}, seed {job.seed}: {failed[job]}", sys.stderr)
                continue
            results[job] = result
            shown = ", ".join(f"{row.path} {percent(row.scores.metrics()['last'])}" for row in result.own)
            say(wrapped(f"{job.row.label}, seed {job.seed}: Last {shown}"))
    return failed
