"""The tensors that a learner keeps beside its adapter, by the names that they have in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

_OF_CLASSES = ("prototypes", "lengths", "counts")
_HEAD, _FROZEN, _HELD = "head.", "frozen.", "held."
WHOLE = ("prototypes", f"{_FROZEN}prototypes", f"{_HELD}feature", f"{_HELD}frozen")
"""The tensors among them that have the dtype of the model's features; the others are float64."""


class SavedTensors(NamedTuple):
    """A learner's tensors, taken apart. All names are without prefix.

    Attributes:
        statistics: tensors of the statistics in the trained model, as `ClassStatistics.restore` takes them.
        frozen: the same in the pre-trained model; empty without such statistics.
        held: tensors of the images held back, as `HeldBack.of` takes them; empty in older checkpoints.
        adapter: all others.
    """

    statistics: dict[str, Tensor]
    frozen: dict[str, Tensor]
    held: dict[str, Tensor]
    adapter: dict[str, Tensor]


def named(
    statistics: Mapping[str, Tensor], frozen: Mapping[str, Tensor], held: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Returns a learner's tensors beside its adapter by name, the inverse of `taken_apart`."""
    return {
        **statistics,
        **{f"{_FROZEN}{name}": tensor for name, tensor in frozen.items()},
        **{f"{_HELD}{name}": tensor for name, tensor in held.items()},
    }


def taken_apart(tensors: Mapping[str, Tensor]) -> SavedTensors:
    """Takes apart a learner's tensors, the adapter's among them."""
    parts = SavedTensors({}, {}, {}, {})
    for name, tensor in tensors.items():
        if name.startswith(_FROZEN):
            parts.frozen[name.removeprefix(_FROZEN)] = tensor
        elif name.startswith(_HELD):
            parts.held[name.removeprefix(_HELD)] = tensor
        elif name in _OF_CLASSES or name.startswith(_HEAD):
            parts.statistics[name] = tensor
        else:
            parts.adapter[name] = tensor
    return parts


def check_prototypes(prototypes: Tensor, class_names: Sequence[str], width: int) -> None:
    """Refuses prototypes that are not a row of `width` numbers for each of the classes learnt.

    Raises:
        ValueError: naming the shape.
    """
    expected = [len(class_names), width]
    if list(prototypes.shape) != expected:
        raise ValueError(f"prototypes must be {expected}, a row for each class learnt; got {list(prototypes.shape)}")
