"""Baselines of a run: zero-shot CLIP and heads on the frozen model, from the same learner without training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from segp_ext.clip.backbone import Backbone
from segp_ext.config import Config, ScorePath, with_method
from segp_ext.data.images import Images
from segp_ext.method.learner import SeGPCL
from segp_ext.report.result import PathResult, Row
from segp_ext.run.evaluation import EvaluationSet, Evaluator
from segp_ext.runtime.processes import Processes
from segp_ext.runtime.timing import Phase, Timer


@dataclass
class Baselines:
    """Results of the frozen model.

    Attributes:
        rows: One row for each baseline: "zero-shot" on the text path, "frozen prototypes" and the like on the visual path.
        spent: Time that they took.
    """

    rows: list[Row]
    spent: Phase


def measure_baselines(
    config: Config,
    backbone: Backbone,
    processes: Processes,
    train_images: Sequence[Images],
    tests: Sequence[EvaluationSet],
) -> Baselines:
    """Shows every task to a frozen model and evaluates it after each.

    Beside prototypes the model gets a statistical head: the head of the run's method, if that method trains and its head is
    "mahalanobis", else the head of method rda.

    Args:
        config: Settings of the run.
        backbone: Pre-trained model of the run.
        processes: Processes that share the run.
        train_images: Training images of every task, in order.
        tests: Test images of every task, in order.
    """
    timer = Timer(backbone.stopwatch, backbone.device)
    heads = {"frozen-prototypes": "frozen prototypes"}
    own = with_method(config)
    if own.training.epochs > 0:
        head = "lda" if own.prototypes.score == "mahalanobis" and own.prototypes.own_covariance == 0 else "rda"
        heads[head] = f"frozen {head}"
    rows: list[Row] = []
    inference = dataclasses.replace(config.inference, gate=None)  # which is the run's own
    with timer.phase("baselines"):
        for method, name in heads.items():
            frozen_config = with_method(dataclasses.replace(config, method=method, inference=inference))
            training = dataclasses.replace(frozen_config.training, joint=False)
            frozen = SeGPCL(backbone, dataclasses.replace(frozen_config, training=training), processes)
            first = not rows  # the text path of a frozen model is the same under every head
            evaluator = Evaluator(frozen, tests, evaluate_global=config.data.evaluate_global)
            for test, images in zip(tests, train_images, strict=True):
                frozen.learn_task(images, test.class_names, wording=test.wording)
                evaluator.after_task()
            found: list[tuple[str, ScorePath, PathResult]] = [(name, "visual", evaluator.paths["visual"])]
            if first:
                found.insert(0, ("zero-shot", "text", evaluator.paths["text"]))
            rows += [Row(row, path, True, scores) for row, path, scores in found]
    return Baselines(rows, timer.phases["baselines"])
