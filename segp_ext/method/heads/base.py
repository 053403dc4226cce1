"""What a head is: how the visual path scores raw features, and what it learns for that beside prototypes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext.config import MethodConfig
from segp_ext.runtime.processes import Processes


class Head:
    """Scores raw features by prototypes, and by what it has learnt of the images of each task.

    This class learns nothing and scores by cosine: s·cos(r, μ) (equation 30). Subclass it, and name the class as
    `prototypes.score: my_package.my_module:Mine`.

    Args:
        width: Dr.
        device: of the features.
        config: the method's settings.

    Attributes:
        settings: what it was made with; a learner whose configuration makes another one is not saved.
    """

    settings: Any = None

    @classmethod
    def check(cls, config: MethodConfig) -> None:
        """Refuses settings that do not go with this head.

        Raises:
            ValueError: naming the setting.
        """

    def __init__(self, width: int, device: torch.device, config: MethodConfig) -> None:
        pass

    def begin(self, classes: int) -> None:
        """Starts a task of so many classes; what an earlier one left unfinished is forgotten."""

    def add(self, feature: Tensor, label: Tensor, index: Tensor) -> None:
        """Takes features `[N, Dr]` of images with labels int64 `[N]` within the task and numbers `index` int64 `[N]` in it."""

    def finish(self, processes: Processes) -> None:
        """Ends the task, over all processes."""

    def scores(self, feature: Tensor, prototypes: Tensor, logit_scale: float) -> Tensor:
        """Features `[B, Dr]` and prototypes `[C, Dr]` → scores `[B, C]`; `logit_scale` is the model's s."""
        return logit_scale * F.normalize(feature, dim=-1) @ F.normalize(prototypes, dim=-1).T

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes over what `state` gave.

        Raises:
            ValueError: naming a tensor that does not fit.
        """


class FrozenHead(Head):
    """A head that learns features once, so that the model must stay as it is."""

    @classmethod
    def check(cls, config: MethodConfig) -> None:
        if config.training.epochs > 0:
            raise ValueError(
                f"prototypes.score {config.prototypes.score} is for a model that stays as it is, training.epochs must be 0; got "
                f"{config.training.epochs}"
            )
