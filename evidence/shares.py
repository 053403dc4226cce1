"""Compares rules by which images held back choose the share of the trained model in the path auto.

    python -m evidence.shares COMPARISON --rows auto --seeds ... --out FILE.md

COMPARISON is a folder that segp_ext.compare wrote, with `run.keep_checkpoints` null and rows of method auto. To choose a rule, run it with
`data.evaluate_on validation`.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from evidence.runs import arguments, of_every_run, scenario_of
from evidence.tables import write_table
from evidence.unknown import features_of, path_scores
from segp_ext.data.images import Images
from segp_ext.method.calibration import chosen_share, mixed_scores, share_losses
from segp_ext.method.learner import SeGPCL
from segp_ext.report.table import spread


def least_loss(losses: dict[float, Tensor]) -> float:
    """Takes the share with the least mean loss."""
    return min(losses, key=lambda share: float(losses[share].mean()))


def posterior_mean(losses: dict[float, Tensor]) -> float:
    """Takes the mean share under its posterior, given that all shares are equally likely before."""
    total = torch.stack([-loss.sum() for loss in losses.values()])
    return float((total.softmax(dim=0) * torch.tensor([*losses], dtype=total.dtype)).sum())


RULES = {"as shipped": chosen_share, "least loss": least_loss, "posterior mean": posterior_mean}
"""Rules by name: (losses of the images held back by share, `[N]` each) → share."""


@torch.no_grad()
def accuracies(run: Path) -> list[dict[str, float]]:
    """Computes the accuracy over all classes seen by rule, after each task of a run."""
    config, scenario = scenario_of(run)
    found = []
    for count in range(1, len(scenario.tasks) + 1):
        learner = SeGPCL.load(run / f"checkpoints/task-{count:03d}", config.model.device)
        measured = learner.calibration
        assert measured is not None
        losses = share_losses(learner.held_back_scores(), learner.held.label, measured.paths)
        shares = {name: rule(losses) for name, rule in RULES.items()}
        shares |= {f"always {share:g}": share for share in (0.0, 0.5, 1.0)}
        hits, images = dict.fromkeys(shares, 0), 0
        first = 0
        for task in scenario.tasks[:count]:
            test = Images(task.test, learner.reader)
            scores = path_scores(learner, features_of(learner, test))
            for name, share in shares.items():
                mixed = mixed_scores(scores["dual"], scores["frozen"], replace(measured, trained_share=share))
                hits[name] += int((mixed.argmax(dim=1) == test.labels + first).sum())
            images += len(test)
            first += len(task.class_names)
        found.append({name: of_rule / images for name, of_rule in hits.items()})
    return found


def main() -> None:
    parser = arguments("evidence.shares", __doc__)
    options = parser.parse_args()
    table = [["method", "rule", "Avg", "Last"]]
    for row, runs in of_every_run(parser, options, accuracies).items():
        for name in runs[0][0]:
            average = [statistics.mean(after[name] for after in run) for run in runs]
            table.append([row, name, spread(average), spread([run[-1][name] for run in runs])])
    write_table(options.out, "python -m evidence.shares", table)


if __name__ == "__main__":
    main()
