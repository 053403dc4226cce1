"""A linear classifier on the raw features of a frozen model, to measure a trained model's features against."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext.config import MethodConfig
from segp_ext.method.heads.base import FrozenHead
from segp_ext.runtime.processes import Processes

_PENALTIES = tuple(10.0**power for power in range(0, -7, -1))
"""Penalties to try, the strongest first: each fit starts from the one before."""


class LinearProbe(FrozenHead):
    """Multinomial logistic regression on standardised features, by L-BFGS; the L2 penalty is chosen on every fifth image.

    It knows only the classes of its last task, so each task must hold all images so far (`training.joint`).

    Args:
        width: Dr, the width of raw features.
        device: device of the features.
        config: does not matter here.

    Attributes:
        weight: `[C, Dr + 1]`, float64, on plain features; the last column is the bias.
    """

    @classmethod
    def check(cls, config: MethodConfig) -> None:
        super().check(config)
        if not config.training.joint:
            raise ValueError(
                "prototypes.score probe knows only the last task's classes, so training.joint must be true; got false"
            )

    def __init__(self, width: int, device: torch.device, config: MethodConfig) -> None:
        self.weight = torch.zeros(0, width + 1, dtype=torch.float64, device=device)
        self.begin(0)

    def begin(self, classes: int) -> None:
        """Starts a task of `classes` classes."""
        self._classes = classes
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, feature: Tensor, label: Tensor, index: Tensor) -> None:
        """Takes features `[N, Dr]` of images; see `Head.add`."""
        self._parts.append((feature.double(), label, index.to(feature.device)))

    def finish(self, processes: Processes) -> None:
        """Ends the task: fits the classifier."""
        width, device = self.weight.shape[1] - 1, self.weight.device
        count = int(processes.sum(torch.tensor(sum(len(index) for _, _, index in self._parts), device=device)))
        # Every process fits on all rows, in the task's order: each adds its own to zeros.
        z = torch.zeros(count, width, dtype=torch.float64, device=device)
        y = torch.zeros(count, dtype=torch.int64, device=device)
        for feature, label, index in self._parts:
            z[index], y[index] = feature, label
        z, y = processes.sum(z), processes.sum(y)
        mean, deviation = z.mean(dim=0), z.std(dim=0).clamp(min=1e-12)
        x = (z - mean) / deviation
        held = torch.arange(count, device=device) % 5 == 4
        best = _PENALTIES[-1]
        if held.any():
            losses, weight = [], None
            for penalty in _PENALTIES:
                weight = self._fit(x[~held], y[~held], penalty, weight)
                losses.append(float(F.cross_entropy(x[held] @ weight[:, :-1].T + weight[:, -1], y[held])))
            best = _PENALTIES[losses.index(min(losses))]
        weight = self._fit(x, y, best, None)
        plain = weight[:, :-1] / deviation
        self.weight = torch.cat([plain, (weight[:, -1] - plain @ mean).unsqueeze(1)], dim=1)
        self.begin(0)

    def _fit(self, x: Tensor, y: Tensor, penalty: float, start: Tensor | None) -> Tensor:
        shape = (self._classes, x.shape[1] + 1)
        weight = (x.new_zeros(shape) if start is None else start.clone()).requires_grad_()
        solver = torch.optim.LBFGS([weight], max_iter=200, tolerance_grad=1e-7, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            with torch.enable_grad():
                solver.zero_grad()
                value = F.cross_entropy(x @ weight[:, :-1].T + weight[:, -1], y)
                value = value + penalty * weight[:, :-1].square().sum()
                value.backward()
            return value

        solver.step(loss)
        return weight.detach()

    def keep(self, places: Tensor) -> None:
        """Leaves classes out; see `Head.keep`."""
        self.weight = self.weight[places]

    def scores(self, feature: Tensor, prototypes: Tensor, logit_scale: float) -> Tensor:
        """Scores features `[B, Dr]`; returns logits `[B, C]`. Prototypes and scale do not matter here."""
        return (feature.double() @ self.weight[:, :-1].T + self.weight[:, -1]).float()

    def state(self) -> dict[str, Tensor]:
        """Returns the tensors that a checkpoint keeps, by name."""
        return {"weight": self.weight}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes over the tensors that `state` gave."""
        self.weight = state["weight"].to(self.weight.device)
