"""The facts about an export: where it comes from, what its input must be, and its classes. They are files beside the model."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segp_ext.clip.backbone import Backbone
from segp_ext.clip.model_names import LOCAL, names_file
from segp_ext.method.learner import SeGPCL
from segp_ext.run.installation import versions
from segp_ext.serving.subject import Subject

FORMAT = 2
"""Format of the two files of facts."""
FACTS, CLASSES = "segp_export.json", "classes.json"
"""Names of the files. `FACTS` also marks a folder as an export, which another export may replace."""
_WAYS = {
    "shortest": "resize the short side to {side} pixels ({filter}), then cut out the middle {side} × {side}",
    "squash": "resize both sides to {side} pixels ({filter}), whatever the aspect",
    "longest": "resize the long side to {side} pixels ({filter}), then pad to {side} × {side}",
}
"""How images become square, by `resize_mode`."""


def facts_of(subject: Subject, kind: str, packages: Mapping[str, str]) -> dict[str, Any]:
    """Describes an export.

    Args:
        subject: the learner that is exported.
        kind: format of the export.
        packages: further packages that write the export: names and versions.
    """
    learner, source = subject.learner, subject.source
    backbone, config = learner.backbone, learner.config
    return {
        "format": FORMAT,
        "kind": kind,
        "scores": subject.path,
        # Probabilities are softmax(scores / temperature).
        "temperature": learner.classifier().temperature(subject.path),
        "method": config.method,
        "head": None if subject.path == "text" else config.prototypes.score,
        "model": model_facts(backbone),
        "learner_sha256": None if source is None else source.sha256,
        "preprocessing": preprocessing_of(learner),
        "versions": {**versions(), **packages},
    }


def model_facts(backbone: Backbone) -> dict[str, str | None]:
    """Names a model and its weights before learning, without the folders that local ones lie in."""
    name, pretrained = backbone.name, backbone.pretrained
    return {
        "name": Path(name.removeprefix(LOCAL)).name if name.startswith(LOCAL) else name,
        "pretrained": Path(pretrained).name if pretrained is not None and names_file(pretrained) else pretrained,
        "weights_sha256": backbone.weights_hash(),
    }


def preprocessing_of(learner: SeGPCL) -> dict[str, Any]:
    """Describes how an image becomes the model's input, in words and in numbers."""
    backbone = learner.backbone
    side, way = backbone.image_size, _WAYS[backbone.resize_mode]
    turned = "turn the image upright by its EXIF orientation, " if learner.config.loading.orientation == "exif" else ""
    return {
        "steps": f"{turned}{way.format(side=side, filter=backbone.interpolation)}, take RGB, divide by 255",
        "size": side,
        "resize_mode": backbone.resize_mode,
        "interpolation": backbone.interpolation,
        "orientation": learner.config.loading.orientation,
        "mean": [round(value, 6) for value in backbone.mean.flatten().tolist()],
        "std": [round(value, 6) for value in backbone.std.flatten().tolist()],
    }


def classes_of(learner: SeGPCL) -> list[dict[str, Any]]:
    """Lists the classes in the order of scores: name, prompts, and the task that they were learnt in, from 1.

    The mean of the unit embeddings of a class's prompts is its text embedding.
    """
    template = learner.config.template
    return [
        {"name": record.name, "prompts": record.sentences(template), "task": record.task} for record in learner.records
    ]


def fact_files(facts: Mapping[str, Any], classes: list[dict[str, Any]]) -> dict[str, bytes]:
    """Writes facts and classes as files; returns their contents by name."""
    listed = {"format": FORMAT, "classes": classes}
    return {
        name: json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"
        for name, content in ((FACTS, facts), (CLASSES, listed))
    }


def metadata_of(facts: Mapping[str, Any], classes: list[dict[str, Any]]) -> dict[str, str]:
    """Writes facts and class names as strings by name, for a model file that holds such pairs; what is no string becomes JSON."""
    whole = {**facts, "class_names": [entry["name"] for entry in classes]}
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in whole.items()
    }


def versions_of(packages: tuple[str, ...]) -> dict[str, str]:
    """Returns the versions of installed packages, by name."""
    return {package: importlib.metadata.version(package) for package in packages}
