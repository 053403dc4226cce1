"""Converts an adapter's tensors between our model's layout and the layout that PEFT has on the plain open_clip model.

In our model, queries have a layer of their own, and keys and values share another one. In the plain model one packed projection holds
both, and PEFT puts one adapter on it. That adapter has the same A, and its B has rows of zero for the part that is not adapted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segp_ext.clip.towers import LinearAttention, NormedLinearAttention, SplitLinear

_PREFIX = "base_model.model."
NEEDS_ADAPTABLE = "segp_ext.clip.towers.make_adaptable"
"""Entry of `adapter_config.json` for an adapter that the plain model cannot carry. PEFT would leave layers out; it warns of the entry."""


@dataclass(frozen=True)
class Packed:
    """A packed projection of the plain model.

    Attributes:
        name: the module that PEFT adapts: an `nn.MultiheadAttention`, or timm's linear layer `qkv`. In our model it holds the layers
            `q_proj` and `kv_proj`.
        width: E, a third of the projection's rows.
        inputs: D, the projection's columns.
        output: whether PEFT also adapts an output projection `[D, D]`, as it does in an `nn.MultiheadAttention`. Our change of it is zero.
    """

    name: str
    width: int
    inputs: int
    output: bool

    @property
    def parts(self) -> tuple[str, str]:
        """Names of our two layers: the one of queries, and the one of keys and values."""
        return f"{self.name}.q_proj", f"{self.name}.kv_proj"


def packed_projections(clip: nn.Module, adapted: Collection[str]) -> list[Packed] | None:
    """Finds the packed projections that hold adapted layers.

    PEFT cannot adapt every layer of the plain model as we do. open_clip's custom attention and EVA's packed projection read their weights
    past any adapter. PEFT (0.21 and before) adds the change of an `nn.MultiheadAttention`'s output projection twice. An adapter of such
    layers keeps our layout; PEFT opens it on an open_clip model after `segp_ext.clip.towers.make_adaptable(model)`.

    Args:
        clip: an open_clip model after `make_adaptable`, with an adapter or without.
        adapted: names of the adapted layers.

    Returns:
        The projections; None if PEFT cannot adapt one of the layers in the plain model.
    """
    found = []
    for name, module in clip.named_modules():
        if not isinstance(module, (LinearAttention, SplitLinear)):
            continue
        query = getattr(module.q_proj, "base_layer", module.q_proj)
        multihead = isinstance(module, LinearAttention) and not isinstance(module, NormedLinearAttention)
        packed = Packed(name, query.out_features, query.in_features, output=multihead)
        if multihead and f"{name}.out_proj" in adapted:
            return None
        if any(part in adapted for part in packed.parts):
            if not (multihead or getattr(module, "plain_carries", False)):
                return None
            found.append(packed)
    return found


def plain_names(adapted: Iterable[str], packed: Iterable[Packed]) -> dict[str, str]:
    """Maps the names of our adapted layers to the modules that PEFT adapts in the plain model.

    Args:
        adapted: names of our adapted layers.
        packed: the projections that hold adapted layers.
    """
    owner = {part: projection.name for projection in packed for part in projection.parts}
    return {name: owner.get(name, name) for name in adapted}


def to_plain(state: Mapping[str, Tensor], packed: Iterable[Packed]) -> dict[str, Tensor]:
    """Converts an adapter's tensors from our layout to the plain model's.

    Args:
        state: A `[r, D]` and B `[rows, r]` of every adapted layer, by the names that PEFT saves.
        packed: the projections that hold adapted layers.

    Raises:
        ValueError: if the two layers of one projection have different A.
    """
    plain = dict(state)
    for projection in packed:
        query, key_value = projection.parts
        starts = [plain.pop(_key(part, "A")) for part in projection.parts if _key(part, "A") in plain]
        if not torch.equal(starts[0], starts[-1]):
            raise ValueError(
                f"the adapters of {query} and {key_value} must have the same A to be one adapter of {projection.name}"
            )
        rank, width = len(starts[0]), projection.width
        rows = [
            plain.pop(_key(query, "B"), starts[0].new_zeros(width, rank)),
            plain.pop(_key(key_value, "B"), starts[0].new_zeros(2 * width, rank)),
        ]
        plain[_key(projection.name, "A")], plain[_key(projection.name, "B")] = starts[0], torch.cat(rows)
        if projection.output:
            plain[_output(projection, "A")] = torch.zeros_like(starts[0])
            plain[_output(projection, "B")] = starts[0].new_zeros(projection.inputs, rank)
    return plain


def from_plain(state: Mapping[str, Tensor], packed: Iterable[Packed], adapted: Collection[str]) -> dict[str, Tensor]:
    """Converts an adapter's tensors from the plain model's layout to ours: the exact inverse of `to_plain`.

    Args:
        state: tensors with the names and shapes that `to_plain` gives.
        packed: the projections that hold adapted layers.
        adapted: names of our adapted layers.

    Raises:
        ValueError: if the adapter changes a layer that is not adapted here.
    """
    ours = dict(state)
    for projection in packed:
        start, rows = ours.pop(_key(projection.name, "A")), ours.pop(_key(projection.name, "B"))
        query, key_value = projection.parts
        for part, learnt in ((query, rows[: projection.width]), (key_value, rows[projection.width :])):
            if part in adapted:
                ours[_key(part, "A")], ours[_key(part, "B")] = start, learnt
            elif learnt.any():
                raise ValueError(f"the adapter changes {part}, which lora.targets does not name")
        if projection.output:
            del ours[_output(projection, "A")]
            if ours.pop(_output(projection, "B")).any():
                raise ValueError(f"the adapter changes {projection.name}.out_proj, which lora.targets does not name")
    return ours


def _key(module: str, matrix: str) -> str:
    """The name of a module's matrix "A" or "B" as PEFT saves it."""
    return f"{_PREFIX}{module}.lora_{matrix}.weight"


def _output(projection: Packed, matrix: str) -> str:
    """The name of the matrix of the output projection that PEFT adapts along with a packed one."""
    return _key(f"{projection.name}.base_layer.out_proj", matrix)
