"""The whole of it, for a release: the built-in run killed at random instants, at every write point, and with a full disk at every write.

    python tests/faults/campaign.py [--kills 50] [--lanes 2] [--only TEXT] [--out benchmarks/results/faults.md] [ARGUMENT...]

Every run goes on to its end and must give the uninterrupted run's weights and numbers, bit for bit, with no more steps done again than
lie between two positions. Further ARGUMENTs go to `segp_ext.train`.
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
    """What is done, by a name for the log; in an order of its own, so that every lane has some of each kind."""
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
    """One process of victims and its share of the cases: name, outcome, and whether it is as it must be."""
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
    parser.add_argument("--lanes", type=int, default=2, help="runs at a time, of one thread each")
    parser.add_argument("--only", default="", help="the cases alone whose names in the log hold this")
    parser.add_argument("--out", type=Path, help="file for the log, Markdown")
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
