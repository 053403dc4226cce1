"""A comparison from its rows and seeds to its jobs, and from their results to the files in its folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from segp_ext.config.methods import METHODS
from segp_ext.report.result import RunResult
from segp_ext.report.terminal import wrapped
from segp_ext.run.arguments import take
from segp_ext.run.jobs import Job
from segp_ext.run.rows import Row


def make_jobs(
    labels: Sequence[str], seeds: Sequence[int], out: Path, given: Sequence[str], threads: int | None
) -> list[Job]:
    """Makes the job of every row under every seed; exits with a message that names the row if its settings do not fit.

    Args:
        labels: Labels of the rows.
        seeds: Seeds of every row.
        out: Folder of the comparison.
        given: Arguments for all rows, each as --NAME=VALUE. A printed note names each one that a row's method sets itself.
        threads: CPU threads of each run; torch's own choice if None.
    """
    jobs = []
    for label in labels:
        row = Row(label)
        for setting in METHODS.get(row.method, {}):
            if take(given, f"--{setting}")[0]:
                print(wrapped(f"note: --{setting} does not apply to {label}, whose method sets it"))
        try:
            jobs += [Job.of(row, seed, out, given, threads) for seed in seeds]
        except SystemExit as stop:
            if stop.code:  # --print_config exits too, with 0
                print(f"(in the row {label!r})", file=sys.stderr)
            raise
    return jobs


def check_same_data(results: dict[Job, RunResult]) -> None:
    """Checks that runs whose settings name the same data and weights found the same there.

    Raises:
        ValueError: If two of them did not; names both.
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
