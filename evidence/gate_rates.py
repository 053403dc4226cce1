"""Measures the gate (`inference.gate`) at several rates on one learner.

    python -m evidence.gate_rates --data MADE --seeds ... --out FILE.md

MADE is the folder that evidence/made_sets.py wrote. The stream and the settings are those of stream_gate.yaml, method segp with a fifth of
the images held back. The learner learns all data sets but the last, whose names compete from the beginning. "unlearnt" is the accuracy on
the last data set, "learnt" the mean accuracy on the others, on the dual path, where the names of all data sets compete.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import segp_ext
from evidence.tables import write_table
from segp_ext.data import load_scenario
from segp_ext.data.images import Images
from segp_ext.method.learner import SeGPCL
from segp_ext.report.table import spread
from segp_ext.run.evaluation import EvaluationSet, Evaluator

RATES = (None, 0.05, 0.02, 0.01, 0.005, 1e-6)
"""Rates of the gate; the last one sends no image of a learnt class away, as long as it looks like the images held back."""
SETTINGS = Path(__file__).parent / "stream_gate.yaml"


def accuracies(data: Path, seed: int) -> list[tuple[float, float]]:
    """Returns the accuracies on what is not learnt and on what is, for zero-shot and then at each rate."""
    changes = {"data.root": str(data), "seed": seed, "calibration.fraction": 0.2}
    config = segp_ext.load_config(SETTINGS, changes=changes)
    tasks = load_scenario(config.data).tasks
    learner = SeGPCL(segp_ext.load_clip(config.model.name, config.model.pretrained), config)
    tests = [EvaluationSet(task.class_names, Images(task.test, learner.reader), task.wording) for task in tasks]
    evaluator = Evaluator(learner, tests, evaluate_global=True)
    for task in tasks[:-1]:
        learner.learn_task(task.train, task.class_names, wording=task.wording)
    for rate in RATES:
        learner.config.inference.gate = rate
        evaluator.after_task()
    return [(row[-1], statistics.fmean(row[:-1])) for row in evaluator.paths["dual"].whole["global"]]


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser("python -m evidence.gate_rates", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that evidence/made_sets.py wrote")
    parser.add_argument("--seeds", nargs="+", type=int, required=True, help="seeds of the learners")
    parser.add_argument("--out", type=Path, required=True, help="file for the table")
    options = parser.parse_args()
    found = [accuracies(options.data, seed) for seed in options.seeds]
    rows = [["gate", "seeds", "unlearnt", "learnt"]]
    for place, name in enumerate(("zero-shot", "no gate", *(f"{rate:g}" for rate in RATES if rate is not None))):
        columns = [[one[place][column] for one in found] for column in (0, 1)]
        rows.append([name, str(len(found)), *map(spread, columns)])
    write_table(options.out, "python -m evidence.gate_rates", rows)


if __name__ == "__main__":
    main()
