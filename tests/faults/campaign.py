"""Tries all faults before a release: kills the built-in run at random instants and at every write point, and fills the disk at every write.

    python tests/faults/campaign.py [--kills 50] [--lanes 2] [--only TEXT] [--out benchmarks/results/faults.md] [ARGUMENT...]

Every run is then resumed to its end. It must give the uninterrupted run's weights and numbers, bit for bit. It may repeat no more steps
than lie between two saved positions. Further ARGUMENTs go to `segp_ext.train`.
"""

from __future__ import annotations

import argparse
import platform
import random
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from runs import Trial
from victims import Victims

import segp_ext

EVERY = 5


def cases(trial: Trial, kills: int, seed: int) -> list[tuple[str, dict[str, Any]]]:
    """Lists the cases: a name for the log, and the arguments of `Trial.survives`.

    They are shuffled by the seed, so that every lane gets some of each kind.

    Args:
        trial: tells the write points and the time of the uninterrupted run.
        kills: number of kills at random instants.
        seed: seed of all draws.
    """
    draw = random.Random(seed)
    found: list[tuple[str, dict[str, Any]]] = []
    for _ in range(kills):
        share = draw.random()
        found.append((f"killed at {share:.3f} of its time", {"after": share * trial.whole.seconds}))
    for point in trial.points():
        times = trial.whole.passed[point.replace(" cut", " whole", 1)]
        which = draw.randint(1, times)
        found.append((f"killed at `{point}`, number {which} of {times}", {"point": (point, which)}))
        if point.split()[0] in ("open", "mkdir", "symlink") and " cut/checkpoints/" in point:
            found.append(
                (f"disk full from `{point}` on, number {which} of {times}", {"point": (point, which), "full": True})
            )
    draw.shuffle(found)
    return found


def lane(number: int, count: int, options: argparse.Namespace, folder: Path) -> list[tuple[str, str, bool]]:
    """Runs one lane's share of the cases in a process of victims.

    Args:
        number: which lane this is, from 0.
        count: number of lanes.
        options: options of the command line.
        folder: where the lane makes its folder.

    Returns:
        Name, outcome, and whether the run survived as it must, for each case.
    """
    place = folder / f"lane{number}"
    place.mkdir()
    victims = Victims(place)
    try:
        trial = Trial(victims, options.arguments, EVERY)
        rows = []
        chosen = [case for case in cases(trial, options.kills, seed=0) if options.only in case[0]]
        for name, case in chosen[number::count]:
            try:
                outcome, good = trial.survives(**case), True
            except AssertionError as error:
                outcome, good = str(error).splitlines()[0], False
            rows.append((name, outcome, good))
            print(f"{'ok  ' if good else 'FAIL'} {name}: {outcome}", flush=True)
        return rows
    finally:
        victims.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="kills at random instants")
    parser.add_argument("--lanes", type=int, default=2, help="runs at a time, with one thread each")
    parser.add_argument("--only", default="", help="run only the cases whose names in the log contain this string")
    parser.add_argument("--out", type=Path, help="Markdown file for the log")
    options, options.arguments = parser.parse_known_args()
    begin = time.time()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.lanes) as threads:
        lanes = threads.map(lambda n: lane(n, options.lanes, options, Path(folder)), range(options.lanes))
        rows = sorted(row for found in lanes for row in found)
    bad = sum(not good for *_, good in rows)
    summary = f"{len(rows)} runs ended and gone on with, {bad} of them not as they must be, {(time.time() - begin) / 60:.0f} minutes"
    print(summary)
    if options.out:
        command = " ".join(
            [
                "python",
                "tests/faults/campaign.py",
                f"--kills {options.kills}",
                f"--lanes {options.lanes}",
                *options.arguments,
            ]
        )
        head = (
            f"# Runs killed and gone on with\n\n`{command}`, positions every {EVERY} steps; segp_ext {segp_ext.__version__}, torch "
            f"{torch.__version__}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}.\n\n{summary}.\n\n"
            "| what happened to the run | until then, and after it went on | same weights and numbers |\n|---|---|---|\n"
        )
        lines = [f"| {name} | {outcome} | {'yes' if good else '**no**'} |\n" for name, outcome, good in rows]
        options.out.write_text(head + "".join(lines))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
