"""Hints for settings and options that do not exist: the names that the user may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection

_USUAL_NAMES = {
    "lr": "training.learning_rate", "wd": "training.weight_decay", "bs": "training.batch_size", "optim": "training.optimizer",
    "data_path": "data.root", "data_dir": "data.root", "dataset": "data.name", "model": "model.name", "weights": "model.pretrained",
    "output": "run.directory", "output_dir": "run.directory", "out": "run.directory", "num_workers": "loading.workers",
    "fp16": "model.precision", "bf16": "model.precision", "amp": "model.precision", "init_cls": "data.classes_per_task",
    "increment": "data.classes_per_task",
}  # fmt: skip
"""Settings by the names that other programs give them."""


def close_names(name: str, known: Collection[str]) -> list[str]:
    """Finds the names that a user may have meant by an unknown name.

    The first rule that finds a name decides:

    - the same last part, preferably in a group of similar spelling;
    - the usual name of a setting in other programs;
    - similar spelling.

    Args:
        name: the unknown name.
        known: dotted names to choose from.

    Returns:
        Names out of `known`, the best first; empty if none is similar.
    """
    name = name.replace("-", "_").lower()
    last = name.rpartition(".")[2]
    of_last = [other for other in known if other.rpartition(".")[2] == last]
    if of_last:
        return difflib.get_close_matches(name, of_last, n=1, cutoff=0.8) or of_last
    if _USUAL_NAMES.get(last) in known:
        return [_USUAL_NAMES[last]]
    lasts = {other.rpartition(".")[2]: other for other in reversed([*known])}
    whole, part = difflib.get_close_matches(name, known, n=1), difflib.get_close_matches(last, lasts, n=1, cutoff=0.7)
    if whole and (not part or difflib.get_close_matches(name, whole, cutoff=0.8)):
        return whole
    return [lasts[part[0]]] if part else []
