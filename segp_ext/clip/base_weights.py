"""The pre-trained weights of a model, apart from its adapter: by name, loaded, hashed, and watched for changes."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from segp_ext.clip.adapter import Adapter


class BaseWeights:
    """The weights of a CLIP model that no adapter changes, as they were before the adapter was merged into them.

    Args:
        clip: an open_clip model, which still has the weights that its two names (model and weights) tell.
        projection: the vision tower's projection `[Dr, De]` where it was taken out of the model, else None.
        adapter: the model's adapter.
        name: the model's name, for messages.

    Raises:
        ValueError: naming a tensor with values that are not finite.
    """

    def __init__(self, clip: nn.Module, projection: nn.Parameter | None, adapter: Adapter, name: str) -> None:
        self._clip, self._projection, self._adapter, self._name = clip, projection, adapter, name
        self._hash: tuple[list[int], str] | None = None  # with the checksums of the same weights
        self._check_finite()
        # Checksums of the weights that the names tell; None once other weights were loaded.
        self._told: list[int] | None = self._checksums()

    def tensors(self) -> dict[str, Tensor]:
        """The weights and statistics by name: what `load` takes."""
        projection = {} if self._projection is None else {"projection": self._projection.detach()}
        return projection | dict(self._without_adapter(self._clip.state_dict(keep_vars=True).items()))

    def load(self, weights: dict[str, Tensor], others: bool) -> None:
        """Copies `weights`, the `tensors` of a model of the same architecture, into this model.

        Args:
            weights: tensors by name.
            others: whether they are not the weights that the model's names tell.

        Raises:
            ValueError: naming the first tensor that is missing, is too many, has another shape or dtype, or is not finite.
        """
        own = self.tensors()
        if own.keys() != weights.keys():
            raise ValueError(
                f"the weights do not fit {self._name}; first difference: {sorted(own.keys() ^ weights.keys())[0]}"
            )
        for name, tensor in weights.items():
            expected, got = (f"{x.dtype} {list(x.shape)}" for x in (own[name], tensor))
            if expected != got:
                raise ValueError(f"the weights do not fit {self._name}: {name} must be {expected}; got {got}")
        for name, tensor in weights.items():
            own[name].copy_(tensor)
        self._check_finite()
        self._told = None if others else self._checksums()

    def hash(self) -> str:
        """SHA-256 of the weights' names, shapes and float32 values."""
        present = self._checksums()
        if self._hash is None or self._hash[0] != present:
            digest = hashlib.sha256()
            if self._projection is not None:
                digest.update(self._projection.detach().cpu().float().numpy().tobytes())
            for name, parameter in self._without_adapter(self._clip.named_parameters()):
                digest.update(name.encode())
                digest.update(str(tuple(parameter.shape)).encode())
                digest.update(parameter.cpu().float().contiguous().numpy().tobytes())
            self._hash = present, digest.hexdigest()
        return self._hash[1]

    def are_others(self) -> bool:
        """Tells whether the weights differ from the named ones: they changed, also through `.data`, or were loaded as others."""
        return self._told is None or self._told != self._checksums()

    def _checksums(self) -> list[int]:
        """Returns a checksum of every tensor that `hash` covers: the same on every device, and far cheaper."""
        projection = [] if self._projection is None else [self._projection.detach()]
        weights = [parameter for _, parameter in self._without_adapter(self._clip.named_parameters())]
        return torch.stack([checksum(tensor) for tensor in (*projection, *weights)]).tolist()

    def _check_finite(self) -> None:
        for name, tensor in self.tensors().items():
            if not tensor.isfinite().all():
                raise ValueError(
                    f"the weights of {self._name} are damaged: their {name} has values that are not finite"
                )

    def _without_adapter(self, tensors: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Leaves the adapter's tensors out of the model's; yields the others under their plain names, as they were before merging."""
        originals = {id(layer.weight): original for _, layer, original in self._adapter.merged_layers}
        for name, tensor in tensors:
            if ".lora_" not in name:
                yield name.replace(".base_layer", ""), originals.get(id(tensor), tensor).detach()


def checksum(tensor: Tensor) -> Tensor:
    """Computes an int64 `[]` that depends on a tensor's numbers and their order.

    The bits are read as whole numbers, and each is multiplied by a weight of its place. The sum wraps where it overflows. Numbers of 32
    bits are read in pairs where their count is even.
    """
    flat = tensor.contiguous().view(-1)
    if flat.element_size() < 8 and len(flat) % 2 == 0:
        flat = flat.clone() if flat.storage_offset() % 2 else flat
        flat = flat.view(torch.int64)
    else:
        flat = flat.view(torch.int64 if flat.element_size() == 8 else torch.int32)
    width = max(math.isqrt(len(flat)), 1)
    rows = flat[: len(flat) // width * width].view(-1, width)
    parts = rows.sum(dim=1, dtype=torch.int64), rows.sum(dim=0, dtype=torch.int64), flat[rows.numel() :].to(torch.int64)
    # Steps so large and odd that no two places have the same sum of weights.
    steps = 0x9E3779B97F4A7C15 - 2**64, 0x2545F4914F6CDD1D, 1
    odd = (2 * torch.arange(1, len(part) + 1, device=flat.device) + 1 for part in parts)
    return torch.stack(
        [step * (numbers * part).sum() for step, numbers, part in zip(steps, odd, parts, strict=True)]
    ).sum()
