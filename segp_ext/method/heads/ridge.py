"""A classifier on the raw features of a frozen model, learnt task after task from sums alone: a trained model has to beat it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext.config import MethodConfig
from segp_ext.method.class_places import merged_rows
from segp_ext.method.heads.base import FrozenHead
from segp_ext.runtime.processes import Processes


class Ridge(FrozenHead):
    """Ridge regression onto one-hot targets behind a fixed random projection and ReLU (RanPAC, arXiv 2307.02251).

    It differs from its authors' work in four ways. There is no adaptation on the first task, and features have unit length. There is one
    more penalty to choose from (10⁹), and 2,000 random features by default where the authors have 10,000.

    Args:
        width: Dr, the width of raw features.
        device: device of the features.
        config: `prototypes.random_features` is the number of random features, M; `seed` is the seed of the projection.

    Attributes:
        gram: sum of h hᵀ over all images so far, `[M, M]`, float64; h = relu(z W).
        targets: sum of h yᵀ, `[M, C]`.
    """

    _POWERS = range(-8, 10)  # of ten: the penalties to try

    def __init__(self, width: int, device: torch.device, config: MethodConfig) -> None:
        features, seed = config.prototypes.random_features, config.seed
        own = torch.Generator("cpu").manual_seed(seed)
        draws = torch.randn(width, features, generator=own, dtype=torch.float64, device="cpu")
        self.settings = features, seed
        self._projection = draws.to(device)
        self.gram = torch.zeros(features, features, dtype=torch.float64, device=device)
        self.targets = torch.zeros(features, 0, dtype=torch.float64, device=device)
        self.power = 0
        self._weights = self.targets
        self.begin(0)

    def begin(self, classes: int) -> None:
        """Starts a task of `classes` classes. Empty sums: one of four images in five, one of the fifth, which chooses the penalty."""
        width, device = len(self.gram), self.gram.device
        self._grams = torch.zeros(2, width, width, dtype=torch.float64, device=device)
        self._sums = torch.zeros(2, width, classes, dtype=torch.float64, device=device)

    def _lifted(self, feature: Tensor) -> Tensor:
        return F.relu(F.normalize(feature.double(), dim=-1) @ self._projection)

    def add(self, feature: Tensor, label: Tensor, index: Tensor) -> None:
        """Takes features `[N, Dr]` of images; see `Head.add`."""
        lifted = self._lifted(feature)
        target = F.one_hot(label, self._sums.shape[2]).double()
        for part, chosen in enumerate((index % 5 != 4, index % 5 == 4)):
            rows = chosen.to(lifted.device)
            self._grams[part] += lifted[rows].T @ lifted[rows]
            self._sums[part] += lifted[rows].T @ target[rows]

    def finish(self, processes: Processes) -> None:
        """Ends the task: chooses the penalty on the task's own images, and solves for all classes."""
        grams, sums = processes.sum(self._grams), processes.sum(self._sums)
        gram = self.gram + grams.sum(0)
        targets = torch.cat([self.targets, sums.sum(0)], dim=1)
        self._take(gram, targets, self._chosen(grams, sums))
        self.begin(0)

    def update(self, feature: Tensor, label: Tensor, means: Tensor, counts: Tensor) -> None:
        """Adds more images of known classes to the sums, under the penalty chosen last; see `Head.update`."""
        lifted = self._lifted(feature)
        target = F.one_hot(label, self.targets.shape[1]).double()
        self._take(self.gram + lifted.T @ lifted, self.targets + lifted.T @ target, self.power)

    def keep(self, places: Tensor) -> None:
        """Leaves classes out. Their images stay in the sum of all, so that the scores of other classes stay; see `Head.keep`."""
        self.targets, self._weights = self.targets[:, places], self._weights[:, places]

    def merge(self, places: Tensor, means: Tensor, counts: Tensor) -> None:
        """Makes one class of several; see `Head.merge`. Its score is the sum of theirs, as targets are one-hot."""
        targets = merged_rows(self.targets.T, places, self.targets[:, places].sum(dim=1)).T
        self._take(self.gram, targets, self.power)

    def _chosen(self, grams: Tensor, sums: Tensor) -> int:
        """Finds the power of the penalty with the smallest squared error on the images left out: ‖HW − Y‖² up to a constant, from sums."""
        values, vectors = torch.linalg.eigh(grams[0])
        inner, held = vectors.T @ sums[0], vectors.T @ grams[1] @ vectors
        target = vectors.T @ sums[1]
        errors = []
        for power in self._POWERS:
            weights = inner / (values.clamp(min=0) + 10.0**power).unsqueeze(1)
            errors.append(float((weights * (held @ weights)).sum() - 2 * (weights * target).sum()))
        return self._POWERS[errors.index(min(errors))]

    def _take(self, gram: Tensor, targets: Tensor, power: int) -> None:
        penalty = 10.0**power * torch.eye(len(gram), dtype=torch.float64, device=gram.device)
        self._weights = torch.linalg.solve(gram + penalty, targets)
        self.gram, self.targets, self.power = gram, targets, power

    def scores(self, feature: Tensor, prototypes: Tensor, logit_scale: float) -> Tensor:
        """Scores features `[B, Dr]`; returns `[B, C]`, near 1 for the class and near 0 for others. Prototypes and scale do not matter."""
        return (self._lifted(feature) @ self._weights).float()

    def left_out_scores(
        self, feature: Tensor, label: Tensor, means: Tensor, counts: Tensor, logit_scale: float
    ) -> Tensor:
        """Scores images as if they had not been learnt, from the leverage h of each: (s − h·y) / (1 − h); see `Head.left_out_scores`."""
        lifted = self._lifted(feature)
        penalty = 10.0**self.power * torch.eye(len(self.gram), dtype=torch.float64, device=lifted.device)
        leverage = (lifted * torch.linalg.solve(self.gram + penalty, lifted.T).T).sum(dim=1, keepdim=True)
        leverage = leverage.clamp(max=1 - 1e-6)
        target = F.one_hot(label, self.targets.shape[1])
        return (lifted @ self._weights - leverage * target) / (1 - leverage)

    def state(self) -> dict[str, Tensor]:
        """Returns the tensors that a checkpoint keeps, by name."""
        return {
            "gram": self.gram,
            "targets": self.targets,
            "power": torch.tensor([float(self.power)], dtype=torch.float64, device="cpu"),
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes over the tensors that `state` gave.

        Raises:
            ValueError: naming the tensor whose number of random features differs.
        """
        device, width = self.gram.device, len(self.gram)
        for name, shape in (("gram", [width, width]), ("targets", [width, *state["targets"].shape[1:]])):
            if list(state[name].shape) != shape:
                raise ValueError(
                    f"head.{name} must be {shape} for {width} random features; got {list(state[name].shape)}"
                )
        self._take(state["gram"].to(device), state["targets"].to(device), int(state["power"]))
