"""Checks whether a scene can tell methods apart: `python -m evidence.gates COMPARISON`.

COMPARISON is a folder that segp_ext.compare wrote, with the methods linear-probe, joint and lora, and the scene's clean images held out:

    python -m segp_ext.compare --out COMPARISON --methods lora joint linear-probe --seeds 1 2 3 --held_out '[SCENES/{seed}/clean]' ...

Three gates test means over seeds: the model knows the clean classes; training improves its features; plain fine-tuning forgets. On a scene
that fails a gate, no method can show that it learns without forgetting, and ablations say nothing.

The exit status is 0 if all gates pass, and 1 if one fails.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from segp_ext.config import ScorePath
from segp_ext.report.result import RunResult

METHODS = ("linear-probe", "joint", "lora")


def results(folder: Path) -> dict[str, list[RunResult]]:
    """Reads the results of the finished runs of `METHODS`, sorted by seed, by method.

    Where a comparison has several rows of a method, the row without settings of its own counts.

    Raises:
        ValueError: if a method has several rows and each has settings of its own, or if the methods' seeds differ.
    """
    rows: dict[str, dict[str, list[RunResult]]] = {}
    for path in sorted(folder.glob("runs/*/result.json")):
        result = RunResult.read(path)
        if result.status == "finished" and result.method in METHODS:
            own = rows.setdefault(result.method, {})
            own.setdefault(path.parent.name.rpartition("-")[0], []).append(result)
    found = {}
    for method, own in rows.items():
        name = method if method in own else next(iter(own))
        if len(own) > 1 and name != method:
            raise ValueError(
                f"{folder} has several rows of {method} ({', '.join(own)}), and none of them is {method} alone"
            )
        found[method] = sorted(own[name], key=lambda result: result.seed)
    seeds = {method: [result.seed for result in runs] for method, runs in found.items()}
    if len({*map(tuple, seeds.values())}) > 1:
        raise ValueError(f"{folder} has not the same seeds of each method: {seeds}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path, help="folder that segp_ext.compare wrote")
    options = parser.parse_args()
    try:
        found = results(options.comparison)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    missing = set(METHODS) - found.keys()
    if missing:
        parser.error(f"{options.comparison} has no finished run of {', '.join(sorted(missing))}")

    def scores(method: str, metric: str, path: ScorePath) -> list[float]:
        return [100 * (run.row(path).scores.metrics()[metric] or 0.0) for run in found[method]]

    clean = [
        100 * values[0] for run in found["lora"] for name, values in run.retention.items() if Path(name).name == "clean"
    ]
    if len(clean) < len(found["lora"]):
        parser.error(
            f"only {len(clean)} of the {len(found['lora'])} runs of lora hold a data set named clean; give "
            "--held_out '[SCENES/{seed}/clean]' to segp_ext.compare"
        )
    probe = scores("linear-probe", "last", "visual")
    gates = [
        ("zero-shot on the clean classes, at least 55", clean, 55.0),
        ("joint training above a linear probe on frozen features, at least 8",
         [a - b for a, b in zip(scores("joint", "last", "dual"), probe, strict=True)], 8.0),
        ("forgetting of lora on the text path, at least 15", scores("lora", "forgetting", "text"), 15.0),
    ]  # fmt: skip
    passed = True
    for name, values, least in gates:
        mean = statistics.fmean(values)
        passed &= mean >= least
        print(
            f"{'passed' if mean >= least else 'FAILED'}  {name}: {mean:.1f} ({', '.join(f'{value:.1f}' for value in values)})"
        )
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
