"""Compares heads of the visual path on the features of one and the same training, on validation images.

    python -m evidence.heads --root FOLDER --seeds ... --out FILE.md

The settings are those of `folder`. The model learns the classes of FOLDER task after task, in an order of its own per seed. Heads see the
same features: no head changes what the model learns. Each head scores the validation images of all classes seen, alone and with the text
scores at each beta. The last rows are of the same heads on the frozen model.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from evidence.tables import write_table
from segp_ext import SeGPCL, load_clip, load_config
from segp_ext.config import Config
from segp_ext.data import load_scenario
from segp_ext.data.images import Images
from segp_ext.method.class_statistics import ClassStatistics
from segp_ext.report.table import spread
from segp_ext.runtime.processes import Processes

HEADS = {
    "cosine": {"score": "cosine"},
    "mahalanobis 0": {"score": "mahalanobis", "own_covariance": 0.0},
    "mahalanobis 0.25": {"score": "mahalanobis", "own_covariance": 0.25},
    "mahalanobis 0.5": {"score": "mahalanobis", "own_covariance": 0.5},
    "mahalanobis 0.5, shrinkage 0.01": {"score": "mahalanobis", "own_covariance": 0.5, "shrinkage": 0.01},
    "mahalanobis 0.5, shrinkage 0.1": {"score": "mahalanobis", "own_covariance": 0.5, "shrinkage": 0.1},
}
"""Settings of `prototypes` by the head's name in the table."""
VISUAL = "visual alone"
_Encoded = tuple[Tensor, Tensor, Tensor]


def encoded(learner: SeGPCL, images: Images) -> _Encoded:
    """Returns embeddings, raw features and labels of all images."""
    parts = [(v, z, images.labels[i]) for i, v, z in learner.encode(images)]
    embedding, feature, label = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return embedding, feature, label


def accuracies(config: Config, betas: list[float]) -> dict[tuple[str, str], list[float]]:
    """Learns all tasks; returns by (head, way of scoring) the accuracy over all classes seen after each task."""
    scenario, learner = load_scenario(config.data), SeGPCL(load_clip(config.model.name), config)
    backbone = learner.backbone
    heads = {}
    for name, changes in HEADS.items():
        settings = dataclasses.replace(config, prototypes=dataclasses.replace(config.prototypes, **changes))
        heads[name] = ClassStatistics(backbone.raw_dim, backbone.device, backbone.dtype, settings)
    found: dict[tuple[str, str], list[float]] = {}
    tested: list[Images] = []
    for task in scenario.tasks:
        images = Images(task.train, learner.reader)
        learner.learn_task(images, task.class_names)
        old = learner.prototypes[: -len(task.class_names)]
        _, feature, label = encoded(learner, images)
        for head in heads.values():
            head.begin(len(task.class_names))
            head.add(feature, label, torch.arange(len(label)))
            head.finish(old, head.means(Processes()), Processes())
        tested.append(Images(task.test, learner.reader))
        parts = [encoded(learner, images) for images in tested]
        first, labels = 0, []
        for (_, _, label), seen in zip(parts, scenario.tasks, strict=False):
            labels.append(label + first)
            first += len(seen.class_names)
        target = torch.cat(labels)
        embedding, feature = (torch.cat([part[k] for part in parts]) for k in (0, 1))
        text = learner.scores(embedding, feature, "text")
        for name, head in heads.items():
            visual = head.scores(feature, backbone.logit_scale)
            ways = {VISUAL: visual, **{f"{beta:g}": text + beta * visual for beta in betas}}
            for way, scores in ways.items():
                right = float((scores.argmax(dim=1) == target).double().mean())
                found.setdefault((name, way), []).append(right)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m evidence.heads", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True, help="folder of images, as data.root")
    parser.add_argument("--class_list", help="file of the classes to take, as data.class_list")
    parser.add_argument("--max_images_per_class", type=int, default=100, help="as the setting of data")
    parser.add_argument("--seeds", nargs="+", type=int, required=True, help="class orders, and seeds of all else")
    parser.add_argument(
        "--betas", nargs="+", type=float, default=[0.5, 1, 3, 10, 30, 100], help="weights of the visual path"
    )
    parser.add_argument("--out", type=Path, required=True, help="file for the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    by_row: dict[tuple[str, str, str], list[list[float]]] = {}
    for model, epochs in (
        ("trained", {}),
        ("frozen", {"training.epochs": 0, "anchors.kind": "none", "prototypes.transfer": "none"}),
    ):
        for seed in options.seeds:
            changes = {
                "data.root": options.root,
                "data.max_images_per_class": options.max_images_per_class,
                "data.evaluate_on": "validation",
                "data.order": seed,
                "seed": seed,
                **({} if options.class_list is None else {"data.class_list": options.class_list}),
                **epochs,
            }
            for (head, way), curve in accuracies(load_config("folder", changes=changes), options.betas).items():
                by_row.setdefault((model, head, way), []).append(curve)
    table = [["model", "head", "beta", "Avg", "Last"]]
    for (model, head, way), curves in by_row.items():
        avg, last = [sum(curve) / len(curve) for curve in curves], [curve[-1] for curve in curves]
        table.append([model, head, way, spread(avg), spread(last)])
    write_table(options.out, parser.prog, table)


if __name__ == "__main__":
    main()
