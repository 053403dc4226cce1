"""Identity of a measurement: data, split, tasks, names, prompt, transform, arithmetic and weights, under one hash."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from segp_ext.clip.backbone import Backbone
from segp_ext.config import Config, DataConfig
from segp_ext.config.protocols import PROTOCOLS
from segp_ext.data.scenario import Scenario


def changed_settings(config: Config) -> list[str]:
    """Returns the dotted names of settings that differ from the configuration's protocol; none if it has no protocol."""
    fixed = {} if config.protocol is None else PROTOCOLS[config.protocol]
    changed = []
    for dotted, value in fixed.items():
        section, _, name = dotted.rpartition(".")
        if getattr(getattr(config, section) if section else config, name) != value:
            changed.append(dotted)
    return changed


def identify(config: Config, scenario: Scenario, backbone: Backbone) -> dict[str, Any]:
    """Describes what a run measures. Two results may be compared only if their hashes are equal.

    The hash covers:

    - the data set, its split and the part that is evaluated;
    - the class names of every task, in order;
    - naming, template, the prompts of classes that have their own, and transform;
    - the setting of evaluation, and the data set of every task of a stream;
    - the encoders' arithmetic and weights.

    Args:
        config: Settings of the run.
        scenario: Tasks of the run.
        backbone: Model of the run.

    Returns:
        Facts by name, with "hash" (64 hexadecimal digits) and "id". The id begins with the name of the protocol, followed by "+changed"
        if a setting differs from it. Without a protocol it begins with data set, number of tasks, classes in each, and model. Tasks of
        several sizes stand there one after the other, as 1x50+5x10.
    """
    covered: dict[str, Any] = {
        "data": scenario.name,
        "split_hash": scenario.split_hash,
        "evaluated_on": config.data.evaluate_on,
        "tasks": [task.class_names for task in scenario.tasks],
        "names": config.data.names,
        "template": config.template,
        **_of_streams(config, scenario),
        "transform": {
            "resize_mode": backbone.resize_mode,
            "interpolation": backbone.interpolation,
            "resized_by": config.loading.resize,
            "image_size": backbone.image_size,
            "mean": _rounded(backbone.mean),
            "std": _rounded(backbone.std),
        },
        "precision": backbone.precision,
        "weights": {
            "name": _bare(backbone.name),
            "tag": _tag(backbone.pretrained),
            "hash": backbone.weights_hash(),
        },
    }
    digest = hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()
    changed = changed_settings(config)
    if config.protocol is None:
        what = f"{scenario.name}-{_cut(config.data, scenario)}-{_bare(backbone.name)}"
    else:
        what = config.protocol + ("+changed" if changed else "")
    return {
        "id": f"{what}-{digest[:8]}",
        "hash": digest,
        "protocol": config.protocol,
        "changed": changed,
        **covered,
        "order": config.data.order,
        "layout": scenario.layout,
    }


def _of_streams(config: Config, scenario: Scenario) -> dict[str, Any]:
    """Facts that a run of one data set, one template and class-incremental evaluation lacks, as it did before there were others."""
    found: dict[str, Any] = {}
    if config.data.sources is not None:
        found["sources"] = [task.source for task in scenario.tasks]
    if scenario.wording:
        found["prompts"] = {
            name: own.sentences(name, config.template) for name, own in sorted(scenario.wording.items())
        }
    if config.data.setting != "class-incremental":
        found["setting"] = config.data.setting
    if config.training.prompts != "first":
        found["training_prompts"] = config.training.prompts
    return found


def _rounded(statistic: Tensor) -> list[float]:
    return [round(value, 6) for value in statistic.flatten().tolist()]


def _cut(data: DataConfig, scenario: Scenario) -> str:
    """Describes the tasks: how many, and of how many classes."""
    if data.tasks is None and data.sources is None:  # whose last task may be smaller
        return f"{len(scenario.tasks)}x{data.classes_per_task}"
    sizes = itertools.groupby(len(task.class_names) for task in scenario.tasks)
    return "+".join(f"{len([*alike])}x{size}" for size, alike in sizes)


def _bare(name: str) -> str:
    """Returns the name of a model, without the place of a local folder."""
    return Path(name.removeprefix("local-dir:")).name if name.startswith("local-dir:") else name


def _tag(pretrained: str | None) -> str | None:
    """Returns the tag of weights, or the name of a local file; the file's folder does not change the measurement."""
    return Path(pretrained).name if pretrained is not None and Path(pretrained).is_file() else pretrained
