"""The prompts of one training step, shared out over processes and over passes of the text encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from segp_ext.clip.backbone import Backbone
from segp_ext.runtime.processes import Processes


class Prompts:
    """The text embeddings of one step. Each process encodes its share of the prompts, and all get all embeddings.

    Args:
        backbone: the model in training.
        limit: prompts whose activations are kept at a time. A process with more of them encodes them again for the gradient.
        processes: the processes that share the prompts.
    """

    def __init__(self, backbone: Backbone, limit: int, processes: Processes) -> None:
        self.backbone, self.limit, self.processes = backbone, limit, processes
        self.parts: list[Tensor] = []
        self._start = 0  # place of this process's first prompt
        self._kept: Tensor | None = None

    def encode(self, tokens: Tensor) -> Tensor:
        """Encodes the step's prompts `[C, L]`; returns the embeddings `[C, De]` as a leaf that takes gradients."""
        rank, shares = self.processes.rank, tokens.tensor_split(self.processes.count)
        self.parts = [part for part in shares[rank].split(self.limit) if len(part)]
        self._start = sum(len(share) for share in shares[:rank])
        if len(self.parts) == 1:
            own = self._kept = self.backbone.encode_text(self.parts[0])
        else:
            with torch.no_grad():
                empty = torch.empty(0, self.backbone.embed_dim, device=self.backbone.device, dtype=self.backbone.dtype)
                own = torch.cat([empty, *(self.backbone.encode_text(part) for part in self.parts)])
        if self.processes.count == 1:
            return own.detach().requires_grad_()
        everyone = own.new_zeros(len(tokens), own.shape[1])
        everyone[self._start : self._start + len(own)] = own.detach()
        return self.processes.sum(everyone).requires_grad_()

    def backward(self, gradient: Tensor) -> None:
        """Adds to the adapter's gradients, given this process's gradient of all embeddings `[C, De]`; it is summed over processes here."""
        place = self._start
        self.processes.sum(gradient)
        for part in self.parts:
            output = self.backbone.encode_text(part) if self._kept is None else self._kept
            if output.requires_grad:
                self.backbone.backward(output, gradient[place : place + len(part)])
            place += len(part)
        self._kept = None
