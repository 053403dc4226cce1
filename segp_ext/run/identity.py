"""The identity of what a run measures: data, split, tasks, names, prompt, transform, arithmetic and weights, under one hash."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from segp_ext.clip.backbone import Backbone
from segp_ext.config import Config
from segp_ext.config.protocols import PROTOCOLS
from segp_ext.data.scenario import Scenario


def changed_settings(config: Config) -> list[str]:
    """Dotted names of the settings that differ from those of the configuration's protocol; none without a protocol."""
    fixed = {} if config.protocol is None else PROTOCOLS[config.protocol]
    changed = []
    for dotted, value in fixed.items():
        section, _, name = dotted.rpartition(".")
        if getattr(getattr(config, section) if section else config, name) != value:
            changed.append(dotted)
    return changed


def identify(config: Config, scenario: Scenario, backbone: Backbone) -> dict[str, Any]:
    """What is measured, under one id: two results compare only if their hashes are equal.

    The hash covers the data set and its split, what is evaluated, every task's class names in order, naming, template, transform, the
    encoders' arithmetic and the weights. The id starts with the protocol's name while all its settings hold, and with that and "+changed"
    when some do not.
    """
    covered: dict[str, Any] = {
        "data": scenario.name,
        "split_hash": scenario.split_hash,
        "evaluated_on": config.data.evaluate_on,
        "tasks": [task.class_names for task in scenario.tasks],
        "names": config.data.names,
        "template": config.template,
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
        what = f"{scenario.name}-{len(scenario.tasks)}x{config.data.classes_per_task}-{_bare(backbone.name)}"
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


def _rounded(statistic: Tensor) -> list[float]:
    return [round(value, 6) for value in statistic.flatten().tolist()]


def _bare(name: str) -> str:
    """A model's name without the place of a local folder."""
    return Path(name.removeprefix("local-dir:")).name if name.startswith("local-dir:") else name


def _tag(pretrained: str | None) -> str | None:
    """The weights' tag, or a local file's name: where it lies is not part of what was measured."""
    return Path(pretrained).name if pretrained is not None and Path(pretrained).is_file() else pretrained
