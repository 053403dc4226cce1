"""Named protocols: what the paper and its peers measured, as settings, and the identity of what a run measures.

A protocol fixes the data set, its class order and tasks, class names, prompt, weights, transform and what is evaluated; everything else
is the method's.
What a comment calls ours is not stated by those whose name the protocol carries.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from segp_ext.backbone import Backbone
    from segp_ext.config import Config
    from segp_ext.data.scenario import Scenario

_WHOLE = {
    "data.max_images_per_class": None,
    "data.evaluate_on": "test",
    "data.class_list": None,
    "data.names_file": None,
    "loading.resize": "exact",
    "model.precision": "fp32",
}
"""What every protocol has in common: all images, CLIP's own preprocessing, full precision."""
_OPENAI = {
    **_WHOLE,
    "model.name": "ViT-B-16-quickgelu",
    "model.pretrained": "openai",
    "model.resize_mode": "shortest",
}
"""CLIP's own weights and preprocessing. That the paper uses this preprocessing is ours."""
_PAPER = {**_OPENAI, "template": "a photo of a {}."}
_PEERS = {**_OPENAI, "template": "a good photo of a {}."}
"""The prompt of MG-CLIP and RAPF."""
_LAION = {
    **_WHOLE,
    "template": "a good photo of a {}.",  # ours, so that the protocols differ only where the peers are known to
    "model.name": "ViT-B-16",
    "model.pretrained": "laion400m_e32",  # LAION-400M is stated; the last of its two epochs in open_clip is ours
    "model.resize_mode": "squash",
}
"""C3Box and LAMDA-PILOT: both sides to the input size, ignoring aspect."""


def _protocol(base: dict[str, Any], data: str, order: int | str, classes_per_task: int, names: str) -> dict[str, Any]:
    # Of a flat tree of ImageNet-R without lists; ours, after the 24,000 to 6,000 images of the published splits.
    share = {"data.test_fraction": 0.2} if data == "imagenet-r" else {}
    return {
        **share,
        "data.name": data,
        "data.order": order,
        "data.classes_per_task": classes_per_task,
        "data.names": names,
        **base,
    }


PROTOCOLS: dict[str, dict[str, Any]] = {
    # The paper: five benchmarks, ten tasks each, OpenAI's weights. It names no class orders; ours are those of MG-CLIP and, where that
    # has none, of RAPF and C3Box, beside whose numbers the paper's stand. Names as words are ours as well.
    "segp-cifar100": _protocol(_PAPER, "cifar100", "cifar100-icarl", 10, "spaces"),
    "segp-imagenet-r": _protocol(_PAPER, "imagenet-r", "imagenet-r-mgclip", 20, "spaces"),
    "segp-imagenet100": _protocol(_PAPER, "imagenet100", 1993, 10, "spaces"),
    "segp-cub200": _protocol(_PAPER, "cub200", "cub200-rapf", 20, "spaces"),
    "segp-ucf101": _protocol(_PAPER, "ucf101", 1993, 10, "spaces"),
    # MG-CLIP and RAPF keep underscores in names (ImageNet's from open_clip have none).
    "mgclip-cifar100": _protocol(_PEERS, "cifar100", "cifar100-icarl", 10, "folders"),
    "mgclip-imagenet-r": _protocol(_PEERS, "imagenet-r", "imagenet-r-mgclip", 20, "folders"),
    "mgclip-imagenet100": _protocol(_PEERS, "imagenet100", 1993, 10, "folders"),
    "rapf-cifar100": _protocol(_PEERS, "cifar100", "cifar100-icarl", 10, "folders"),
    "rapf-imagenet-r": _protocol(_PEERS, "imagenet-r", "imagenet-r-rapf", 20, "folders"),
    "rapf-imagenet100": _protocol(_PEERS, "imagenet100", 1993, 10, "folders"),
    "rapf-cub200": _protocol(_PEERS, "cub200", "cub200-rapf", 20, "folders"),
    # C3Box and LAMDA-PILOT: the seeded order everywhere. Its ImageNet100 order is stated for PILOT, UCF101's for C3Box; names as words
    # are ours.
    "lamda-cifar100": _protocol(_LAION, "cifar100", 1993, 10, "spaces"),
    "lamda-imagenet-r": _protocol(_LAION, "imagenet-r", 1993, 20, "spaces"),
    "lamda-imagenet100": _protocol(_LAION, "imagenet100", 1993, 10, "spaces"),
    "lamda-cub200": _protocol(_LAION, "cub200", 1993, 20, "spaces"),
    "lamda-ucf101": _protocol(_LAION, "ucf101", 1993, 10, "spaces"),
}
"""Settings that each protocol sets, by dotted name."""


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
