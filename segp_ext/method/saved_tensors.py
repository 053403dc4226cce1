"""The tensors that a learner keeps beside its adapter, by the names that they have in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from segp_ext.method.heads import Head

_PROTOTYPES, _HEAD = "prototypes", "head."


class SavedTensors(NamedTuple):
    """A learner's tensors, taken apart.

    Attributes:
        prototypes: μ `[C, Dr]`.
        head: the head's tensors by name, float64.
        adapter: all others, by name.
    """

    prototypes: Tensor
    head: dict[str, Tensor]
    adapter: dict[str, Tensor]


def named(prototypes: Tensor, head: Head) -> dict[str, Tensor]:
    """Returns a learner's tensors beside its adapter by name."""
    return {_PROTOTYPES: prototypes, **{f"{_HEAD}{name}": tensor for name, tensor in head.state().items()}}


def taken_apart(tensors: Mapping[str, Tensor], head: Head) -> SavedTensors:
    """Takes apart a learner's tensors, the adapter's among them.

    Raises:
        KeyError: if there are no prototypes.
        ValueError: if the head's tensors have other names than the tensors of `head`.
    """
    of_head = {name.removeprefix(_HEAD): tensor for name, tensor in tensors.items() if name.startswith(_HEAD)}
    expects = head.state()
    if of_head.keys() != expects.keys():
        raise ValueError(f"the head's tensors must be {sorted(expects)}; got {sorted(of_head)}")
    others = {name: t for name, t in tensors.items() if name != _PROTOTYPES and not name.startswith(_HEAD)}
    return SavedTensors(tensors[_PROTOTYPES], of_head, others)


def check_prototypes(prototypes: Tensor, class_names: Sequence[str], width: int) -> None:
    """Refuses prototypes that are not a row of `width` numbers for each of the classes learnt.

    Raises:
        ValueError: naming the shape.
    """
    expected = [len(class_names), width]
    if list(prototypes.shape) != expected:
        raise ValueError(f"prototypes must be {expected}, a row for each class learnt; got {list(prototypes.shape)}")
