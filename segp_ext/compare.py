"""Methods side by side over several seeds: `python -m segp_ext.compare`."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import queue
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from segp_ext.config import RESUMABLE, Config, dotted, from_dict, setting_types
from segp_ext.config.imports import import_files
from segp_ext.config.methods import METHODS as FIXED
from segp_ext.report.comparison import Comparison, console
from segp_ext.report.result import RunResult
from segp_ext.report.run_report import percent
from segp_ext.run.command_line import (
    CONFIGS,
    HelpFormatter,
    joined,
    parse,
    read_settings,
    settings_given,
    take,
    unrecognized,
)
from segp_ext.run.directory import check_version
from segp_ext.runtime.processes import cores
from segp_ext.runtime.progress import plain_warnings, progress, run_command, say
from segp_ext.storage.sealed import write_atomically

DESCRIPTION = """\
Run methods over several seeds and put them into tables: metrics over seen classes, global ones of the text path, and the cost. Numbers
are mean and standard deviation, beside the paired difference of each row from the first with its 95 % confidence interval. A seed sets
the class order too, unless a protocol or --data.order says it (a --config does not), and it takes the place of {seed} in settings.

Runs that are there already are taken, runs that stopped go on. Writes FOLDER/runs/ (one folder a run), FOLDER/results.csv,
FOLDER/summary.md, FOLDER/report.html, FOLDER/plots/ and FOLDER/matrices.jsonl (every accuracy); with --held_out, FOLDER/retention.csv
too.

examples:
  python -m segp_ext.compare --out comparisons/digits
  python -m segp_ext.compare --out comparisons/lwf --seeds 1 2 3 4 5 \\
      --methods segp lwf lora 'lora training.classes=new'
  python -m segp_ext.compare --out comparisons/steps \\
      --methods segp 'segp anchors.steps=20' --config cub200 --data.root DIR
  python -m segp_ext.compare --out comparisons/parts --rows paper/parts \\
      --config cifar100 --data.root DIR
      a table of the paper's
"""
METHODS = ["segp", "lwf", "lora"]
_LONGEST = 200
"""Bytes of a method's label in the name of its run's folder."""
_PLACES = ("run.name", "run.directory", "run.threads")
_SAME = ("data.root", "model.pretrained")
"""Settings that a run may be resumed with, and that make another result all the same."""
_OWN = {
    "method": "--methods",
    "seed": "--seeds",
    "run.name": "--out",
    "run.directory": "--out",
    "run.threads": "--threads",
}
"""Settings of a run that options of a comparison say."""


def packaged_rows() -> list[str]:
    """Names of the lists of methods that come with the package."""
    return sorted(f"paper/{path.stem}" for path in CONFIGS.glob("paper/*.yaml"))


def read_rows(name: str) -> list[str]:
    """The methods that a YAML list holds, each with the settings in which it differs; `name` is a file's, or one of `packaged_rows`.

    Raises:
        FileNotFoundError: if there is neither.
        ValueError: if the file holds no list of texts.
    """
    file = Path(name) if Path(name).is_file() or name not in packaged_rows() else CONFIGS / f"{name}.yaml"
    if not file.is_file():
        raise FileNotFoundError(f"there is no such file; lists in the package: {', '.join(packaged_rows())}")
    try:
        rows = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"it is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(rows, list) or not rows or not all(isinstance(row, str) and row.strip() for row in rows):
        raise ValueError("it must hold a list of methods, as in `- segp anchors.steps=20`")
    return rows


@dataclass(frozen=True)
class Row:
    """A method, and settings in which it differs from the others: "lora training.classes=new"."""

    label: str

    def of_seed(self, seed: int) -> Row:
        """With the seed in its places."""
        return Row(self.label.replace("{seed}", str(seed)))

    def arguments(self) -> list[str]:
        """As python -m segp_ext.train takes them."""
        method, *changes = self.label.split()
        return ["--method", method, *(f"--{change}" for change in changes)]

    def folder(self, out: Path, seed: int) -> Path:
        """Where its run of a seed is, in a comparison's folder."""
        name = re.sub(r"[^\w.=-]+", "-", self.label)
        if len(name.encode()) > _LONGEST:  # a file system takes 255 bytes
            cut = name.encode()[: _LONGEST - 9].decode(errors="ignore")
            name = f"{cut}-{hashlib.sha256(self.label.encode()).hexdigest()[:8]}"
        return out / "runs" / f"{name}-{seed}"


@dataclass(frozen=True, eq=False)
class Job:
    """One run: a row under one seed, in a folder of its own."""

    row: Row
    seed: int
    folder: Path
    arguments: tuple[str, ...]
    settings: dict[str, Any]

    @classmethod
    def of(cls, row: Row, seed: int, out: Path, given: Sequence[str], threads: int | None) -> Job:
        """Reads the row's settings; exits with a message, as `parse` does, where they do not fit."""
        folder = row.folder(out, seed)
        fixed = [
            *row.of_seed(seed).arguments(),
            f"--seed={seed}",
            f"--run.directory={folder.parent}",
            f"--run.name={folder.name}",
        ]
        fixed += [] if threads is None else [f"--run.threads={threads}"]
        given = joined([argument.replace("{seed}", str(seed)) for argument in given])
        for setting in FIXED.get(
            row.label.split()[0], {}
        ):  # what all rows are given does not hold where a method has its own
            given = take(given, f"--{setting}")[1]
        config = parse([*given, *fixed], "compare")
        stated = config.protocol is not None or "data.order" in settings_given([*given, *joined(fixed)])[0]
        if isinstance(config.data.order, int) and not stated:
            fixed.append(f"--data.order={seed}")
            config = parse([*given, *fixed], "compare")
        return cls(row, seed, folder, (*given, *fixed), dataclasses.asdict(config))

    @property
    def log(self) -> Path:
        """What the run says."""
        return self.folder.parent / f"{self.folder.name}.log"

    def result(self) -> RunResult | None:
        """The result of the finished run; None if there is no such run, or it did not end.

        Raises:
            ValueError: if the folder holds a run of other settings.
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
        """Runs it in a process of its own, or goes on with it; returns what it said last, empty if it ended well."""
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


def _options(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m segp_ext.compare",
        description=DESCRIPTION,
        formatter_class=HelpFormatter,
        epilog="All other arguments are settings for every run: --config, --protocol and --SECTION.SETTING, as python -m segp_ext.train "
        "--help says.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--methods", nargs="+", metavar="METHOD",
        help="methods, each with the settings in which it differs, in one text; default: " + " ".join(METHODS),
    )  # fmt: skip
    parser.add_argument(
        "--rows", metavar="FILE",
        help="YAML list of methods in place of --methods, or one in the package: " + ", ".join(packaged_rows()),
    )  # fmt: skip
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[1, 2, 3], metavar="SEED", help="of every method; default: 1 2 3"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="folder for all of it; what is there already is taken"
    )
    parser.add_argument(
        "--jobs", type=int, metavar="N", help="runs at a time; default: one on each CUDA device, or one"
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="CPU threads of each run; default: the cores shared out over the runs at a time",
    )
    options, settings = parser.parse_known_args(argv)
    try:
        settings = joined(settings)
        imported, others = take(take(settings, "--config")[1], "--import")
        import_files(imported)
        of_first = [argument.replace("{seed}", str(options.seeds[0])) for argument in others]
        given, others = settings_given(of_first)
    except ValueError as error:
        parser.error(str(error))
    for name, option in _OWN.items():
        if name in given:
            parser.error(f"--{name} is what {option} says here; give that")
    unknown = [argument for argument in others if argument != "--print_config"]
    if unknown:
        settable = [f"--{name}" for name in setting_types(Config) if name not in _OWN]
        parser.error(unrecognized(unknown, parser, settable))
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"--out must be a folder; {options.out} is none")
    if options.rows is not None and options.methods is not None:
        parser.error("--methods and --rows say the same thing; give one of them")
    try:
        options.methods = options.methods or (METHODS if options.rows is None else read_rows(options.rows))
    except (OSError, ValueError) as error:
        parser.error(f"--rows {options.rows}: {error}")
    for name, option in _OWN.items():
        for method in options.methods:
            if any(change.startswith(f"{name}=") for change in method.split()[1:]):
                parser.error(f"--methods: {method!r} sets {name}, which is what {option} says here")
    if not all(method.strip() for method in options.methods):
        parser.error("--methods must hold methods; got an empty text")
    for name in ("methods", "seeds"):
        values = getattr(options, name)
        twice = [value for number, value in enumerate(values) if value in values[:number]]
        if twice:
            parser.error(f"--{name} holds {twice[0]!r} twice")
    folders: dict[Path, str] = {}
    for method in options.methods:
        other = folders.setdefault(Row(method).folder(options.out, 0), method)
        if other != method:
            parser.error(
                f"--methods: {other!r} and {method!r} would share a folder; a setting that neither needs tells them apart"
            )
    for name in ("jobs", "threads"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            parser.error(f"--{name} must be 1 or more; got {getattr(options, name)}")
    return options, settings


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 0 if all runs ended well, 1 if one did not, 2 for settings that do not fit."""
    plain_warnings()
    options, given = _options(argv)
    devices = _devices()
    count = options.jobs or len(devices)
    threads = options.threads or max(1, cores() // count)
    jobs = []
    for label in options.methods:
        for setting in FIXED.get(label.split()[0], {}):
            if take(given, f"--{setting}")[0]:
                print(f"note: {label} has its own {setting}; --{setting} does not reach it")
        try:
            jobs += [Job.of(Row(label), seed, options.out, given, threads) for seed in options.seeds]
        except SystemExit as stop:
            if stop.code:  # not of --print_config
                print(f"(in the row {label!r})", file=sys.stderr)
            raise
    try:
        results = {job: result for job in jobs if (result := job.result()) is not None}
        print(f"{len(jobs)} runs, {len(results)} of them done", flush=True)
        failed = _execute([job for job in jobs if job not in results], devices, count, results)
        _check_same_data(results)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not results:
        return 1
    words = ["python", "-m", "segp_ext.compare", *(sys.argv[1:] if argv is None else argv)]
    finished = {(job.row.label, job.seed): results[job] for job in jobs if job in results}
    found = Comparison(finished, shlex.join(words), options.methods[0])
    made = found.page(found.plot(options.out / "plots"))
    for name, content in (
        ("results.csv", found.csv()),
        ("matrices.jsonl", found.matrices()),
        *([("retention.csv", found.retention_csv())] if found.retention else []),
        ("summary.md", made.markdown()),
        ("report.html", made.html(options.out)),
    ):
        write_atomically(options.out / name, content.encode())
    print(f"\n{console(found)}\n\nTables, plots and page: {options.out}")
    for job, said in failed.items():
        print(f"error: {job.row.label}, seed {job.seed}: {said} (see {job.log})", file=sys.stderr)
    return 1 if failed else 0


def _check_same_data(results: dict[Job, RunResult]) -> None:
    """Refuses runs whose settings name the same data and weights, and that did not find the same there.

    Raises:
        ValueError: naming two such runs.
    """
    found: dict[str, tuple[Job, tuple[str, str]]] = {}
    for job, result in results.items():
        named = repr((job.seed, job.settings["data"], job.settings["model"]))
        had = result.protocol["split_hash"], result.protocol["weights"]["hash"]
        other, theirs = found.setdefault(named, (job, had))
        if had != theirs:
            what = "images" if had[0] != theirs[0] else "weights"
            raise ValueError(
                f"{other.folder} and {job.folder} were run on other {what} under the same name; remove the older one"
            )


@contextmanager
def _no_more_of(pool: ThreadPoolExecutor) -> Iterator[None]:
    """Where it ends early, as by Ctrl-C, what has not begun does not begin; runs under way get the same Ctrl-C and end by themselves."""
    try:
        yield
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _devices() -> list[str | None]:
    """What CUDA_VISIBLE_DEVICES says to a run on each device that may be used here; one that says nothing where there is none."""
    count = torch.cuda.device_count()
    listed = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return [*(listed or map(str, range(count)))][:count] or [None]


def _execute(
    jobs: Sequence[Job], devices: Sequence[str | None], count: int, results: dict[Job, RunResult]
) -> dict[Job, str]:
    """Runs the jobs, `count` at a time and each on a device that is free; adds what they gave, returns what failed ones said."""
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
    with ThreadPoolExecutor(count) as pool, _no_more_of(pool):
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
            say(f"{job.row.label}, seed {job.seed}: Last {shown}")
    return failed


if __name__ == "__main__":
    run_command(main)
