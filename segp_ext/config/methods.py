"""Methods: named groups of settings that one and the same learner runs with, and the methods that users add."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FROZEN: dict[str, Any] = {
    "training.epochs": 0,
    "anchors.kind": "none",
    "prototypes.transfer": "none",
    "prototypes.score": "cosine",
}
_LORA: dict[str, Any] = {"text_geometry.weight": 0.0}
METHODS: dict[str, dict[str, Any]] = {
    "segp": {},
    "zero-shot": {**_FROZEN, "inference.path": "text"},
    "frozen-prototypes": {**_FROZEN, "inference.path": "visual"},
    "ranpac": {**_FROZEN, "inference.path": "visual", "prototypes.score": "ridge"},
    "lda": {**_FROZEN, "inference.path": "visual", "prototypes.score": "mahalanobis", "prototypes.own_covariance": 0.0},
    "rda": {**_FROZEN, "inference.path": "visual", "prototypes.score": "mahalanobis", "prototypes.own_covariance": 0.5},
    "linear-probe": {**_FROZEN, "inference.path": "visual", "prototypes.score": "probe", "training.joint": True},
    "joint": {**_LORA, "anchors.kind": "none", "prototypes.transfer": "none", "training.joint": True},
    "lora": {**_LORA, "anchors.kind": "none", "prototypes.transfer": "none"},
    "sdc": {
        **_LORA, "anchors.kind": "new-images", "distillation.weight": 0.0, "prototypes.transfer": "sdc",
        "prototypes.temperature": 0.09,
    },
    "adc": {
        **_LORA, "anchors.kind": "adc", "anchors.seeds_per_class": 100, "anchors.steps": 3, "distillation.weight": 0.0,
        "prototypes.transfer": "adc", "prototypes.features": "raw",
    },
    "lwf": {**_LORA, "anchors.kind": "new-images", "prototypes.transfer": "all-anchors"},
    "zscl": {
        **_LORA, "anchors.kind": "reference", "distillation.both_directions": True, "distillation.temperature": 2.0,
        "prototypes.transfer": "all-anchors",
    },
    "seeds": {"anchors.kind": "seeds"},
    "noise": {"anchors.kind": "noise"},
    "text-pgd": {"anchors.kind": "text"},
    "visual-pgd": {"anchors.kind": "visual"},
    "auto": {"prototypes.frozen_head": True, "calibration.fraction": 0.2, "inference.path": "auto"},
}  # fmt: skip
"""Settings that each method fixes, by dotted name."""
FILES: dict[str, Path] = {}
"""Files that added methods, by the name of the method."""


def add_method(name: str, settings: Mapping[str, Any]) -> None:
    """Adds a method. `--method NAME` then fixes these settings, in runs and comparisons.

    Call it in a file that `--import` names, so that resumed runs and the processes of a comparison know the method too.

    Args:
        name: letters, digits, dots, dashes and underscores.
        settings: values by dotted name, `{"anchors.kind": "mine:Mine", "training.epochs": 5}`.

    Raises:
        ValueError: for a name with other characters, or the name of another method.
    """
    file = Path(inspect.stack()[1].filename)
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(
            f"the name of a method must consist of letters, digits, dots, dashes and underscores; got {name!r}"
        )
    if name in METHODS and (FILES.get(name), METHODS[name]) != (file, dict(settings)):
        raise ValueError(f"there is a method {name!r} already, with {METHODS[name]}; choose another name")
    METHODS[name], FILES[name] = dict(settings), file
