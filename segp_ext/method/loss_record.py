"""The losses of an epoch's steps: their means, and an error once they stop being finite."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class LossRecord:
    """The losses of an epoch's steps: their means, and an error once they or the gradients stop being finite.

    The values of a step are read when the next step has been asked for. A GPU therefore never waits for the check.

    Args:
        names: names of the terms.

    Attributes:
        where: the epoch, as messages name it.
        total: sum of each term over the steps read, float64 `[terms]`.
        steps: number of steps read.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names, self.where = tuple(names), ""
        self._waiting: list[tuple[int, Tensor, torch.cuda.Event | None, Tensor]] = []
        self.clear()

    def clear(self) -> None:
        """Begins anew."""
        self.total = torch.zeros(len(self.names), dtype=torch.float64, device="cpu")
        self.steps = 0

    def means(self) -> dict[str, float]:
        """Returns the mean of every term over the steps read."""
        return dict(zip(self.names, (self.total / max(self.steps, 1)).tolist(), strict=True))

    def add(self, step: int, terms: Tensor, gradients: Tensor, indices: Tensor) -> None:
        """Notes one step.

        Args:
            step: its number within the epoch, from 1.
            terms: its losses `[terms]`.
            gradients: its gradients, checked to be finite.
            indices: numbers of its images, for messages.

        Raises:
            FloatingPointError: for the step before on CUDA, for this step on the CPU; see `look`.
        """
        self.look()
        values = torch.cat([terms, gradients.isfinite().all().to(terms.dtype)[None]])
        ready = None
        if values.is_cuda:
            pinned = torch.empty(values.shape, dtype=values.dtype, device="cpu", pin_memory=True)
            values = pinned.copy_(values, non_blocking=True)
            ready = torch.cuda.Event()
            ready.record()
        self._waiting.append((step, values, ready, indices))
        if ready is None:
            self.look()

    def look(self) -> None:
        """Reads the steps that were noted.

        Raises:
            FloatingPointError: naming the step whose loss or gradient is not finite.
        """
        while self._waiting:
            step, values, ready, indices = self._waiting.pop(0)
            if ready is not None:
                ready.synchronize()
            terms, sound = values[:-1].double(), bool(values[-1])
            if not terms.isfinite().all() or not sound:
                named = zip(self.names, terms.tolist(), strict=True)
                shown = ", ".join(f"{name} {value}" for name, value in named if value)
                what = "gradient" if terms.isfinite().all() else "loss"
                raise FloatingPointError(
                    f"the {what} is not finite in {self.where}, step {step}: {shown}; images {indices.tolist()}. "
                    "A lower training.learning_rate may help."
                )
            self.total += terms
            self.steps += 1
