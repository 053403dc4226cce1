"""An adapter's tensors as our model has them, and as PEFT has them on the plain open_clip model.

We adapt queries, and keys with values, in layers of their own. In the plain model one packed projection holds both, and PEFT puts one
adapter on it: the same A, and B with rows of zero for what is not adapted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from segp_ext.clip.towers import LinearAttention, NormedLinearAttention, SplitLinear

_PREFIX = "base_model.model."
NEEDS_ADAPTABLE = "segp_ext.clip.towers.make_adaptable"
"""An entry of adapter_config.json where the plain model cannot carry the adapter: PEFT would leave layers out, and warns of the entry."""


@dataclass(frozen=True)
class Packed:
    """A packed projection of the plain model.

    Attributes:
        name: the module that PEFT adapts: an `nn.MultiheadAttention`, or timm's linear layer `qkv`. Ours are `q_proj` and `kv_proj` in it.
        width: E, a third of the projection's rows.
        inputs: D, its columns.
        output: whether PEFT adapts an output projection `[D, D]` along with it, as it does in an `nn.MultiheadAttention`; ours stays zero.
    """

    name: str
    width: int
    inputs: int
    output: bool

    @property
    def parts(self) -> tuple[str, str]:
        """Our layers, by name: queries, and keys with values."""
        return f"{self.name}.q_proj", f"{self.name}.kv_proj"


def packed_projections(clip: nn.Module, adapted: Collection[str]) -> list[Packed] | None:
    """The packed projections that hold layers of ours which are adapted.

    None where PEFT cannot adapt one of the layers in the plain model as we do. open_clip's custom attention and EVA's packed projection
    read their weights past any adapter. PEFT (0.21 and before) adds the change of an `nn.MultiheadAttention`'s output projection twice.
    Such an adapter keeps our layout; PEFT opens it on an open_clip model after `segp_ext.clip.towers.make_adaptable(model)`.

    Args:
        clip: an open_clip model after `make_adaptable`, with an adapter or without.
        adapted: names of the adapted layers.
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
    """The modules of the plain model that PEFT adapts, by the name of the layer of ours that they stand for."""
    owner = {part: projection.name for projection in packed for part in projection.parts}
    return {name: owner.get(name, name) for name in adapted}


def to_plain(state: Mapping[str, Tensor], packed: Iterable[Packed]) -> dict[str, Tensor]:
    """The tensors of an adapter, from our layout to the plain model's.

    Args:
        state: A `[r, D]` and B `[rows, r]` of every adapted layer, named as PEFT saves them.
        packed: the projections that hold adapted layers.

    Raises:
        ValueError: if queries, and keys with values, of one projection have different A.
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
    """The inverse of `to_plain`, to the bit.

    Args:
        state: tensors of the names and shapes that `to_plain` gives.
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
    return f"{_PREFIX}{module}.lora_{matrix}.weight"


def _output(projection: Packed, matrix: str) -> str:
    return _key(f"{projection.name}.base_layer.out_proj", matrix)
