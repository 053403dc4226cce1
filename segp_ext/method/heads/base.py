"""Heads: the base class, which scores raw features by their cosine to prototypes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext.config import MethodConfig
from segp_ext.runtime.processes import Processes


class Head:
    """Scores the visual path. A subclass may learn from the features of each task's images.

    This class learns nothing and scores by cosine: s·cos(r, μ) (equation 30). Name a subclass as
    `prototypes.score: my_package.my_module:Mine`.

    Args:
        width: Dr, the width of raw features.
        device: device of the features.
        config: the method's settings.

    Attributes:
        unit: whether means are means of unit features (`prototypes.features`).
        settings: the values that the head was made with. A learner whose configuration would make a head of other values is not saved.
    """

    settings: Any = None
    unit = True

    @classmethod
    def check(cls, config: MethodConfig) -> None:
        """Refuses settings that do not go with this head.

        Raises:
            ValueError: naming the setting.
        """

    def __init__(self, width: int, device: torch.device, config: MethodConfig) -> None:
        self.unit = config.prototypes.features == "unit"

    def begin(self, classes: int) -> None:
        """Starts a task of `classes` classes, and forgets an earlier task that was not finished."""

    def add(self, feature: Tensor, label: Tensor, index: Tensor) -> None:
        """Takes raw features of some of the task's images.

        Args:
            feature: raw features `[N, Dr]`.
            label: the images' labels within the task, int64 `[N]`.
            index: the images' numbers within the task, int64 `[N]`.
        """

    def finish(self, processes: Processes) -> None:
        """Ends the task, over all processes. If it fails, the head stays as it was before the task."""

    def update(self, feature: Tensor, label: Tensor, means: Tensor, counts: Tensor) -> None:
        """Lets known classes take more images. If it fails, the head stays as it was.

        A subclass that learns from features overrides this method, or takes no more images of known classes.

        Args:
            feature: raw features of the images `[N, Dr]`.
            label: their classes, int64 `[N]`, places among all classes.
            means: mean features of all classes before, float64 `[C, Dr]`; of unit features where `prototypes.features` is unit.
            counts: number of images of all classes before, float64 `[C]`.

        Raises:
            ValueError: if the head takes no more images.
        """
        if not self.takes_updates():
            raise ValueError(
                f"the head {type(self).__name__} takes no more images of known classes: it has no method update"
            )

    def takes_updates(self) -> bool:
        """Tells whether known classes may take more images: the head learns nothing from features, or has a method `update`."""
        return self._follows("update")

    def keep(self, places: Tensor) -> None:
        """Leaves classes out: scores of the others stay as they are. If it fails, the head stays as it was.

        A subclass that learns from features overrides this method, or no class can be removed.

        Args:
            places: places of the classes that stay, int64 `[K]`, ascending.

        Raises:
            ValueError: if the head cannot leave a class out.
        """
        if not self._follows("keep"):
            raise ValueError(f"the head {type(self).__name__} cannot leave a class out: it has no method keep")

    def merge(self, places: Tensor, means: Tensor, counts: Tensor) -> None:
        """Makes one class of several, as if it had been learnt from all their images. If it fails, the head stays as it was.

        A subclass that learns from features overrides this method, or no classes can be merged.

        Args:
            places: places of the classes that become one, int64 `[M]`, ascending. The merged class stands at the first of them.
            means: mean features of all classes before, float64 `[C, Dr]`; of unit features where `prototypes.features` is unit.
            counts: number of images of all classes before, float64 `[C]`.

        Raises:
            ValueError: if the head cannot merge classes.
        """
        if not self._follows("merge"):
            raise ValueError(f"the head {type(self).__name__} cannot merge classes: it has no method merge")

    def _follows(self, method: str) -> bool:
        """Tells whether a change of classes leaves the head right: it learns nothing from features, or has the method for that change."""
        return getattr(type(self), method) is not getattr(Head, method) or type(self).add is Head.add

    def left_out_scores(
        self, feature: Tensor, label: Tensor, means: Tensor, counts: Tensor, logit_scale: float
    ) -> Tensor:
        """Scores images that their classes have learnt as if each class had learnt its others alone (leave-one-out).

        Learners measure themselves by these scores on images held back. A head that learns from features and has no such method does not
        learn the images held back. A head that learns nothing from features needs none.

        Args:
            feature: raw features of the images `[N, Dr]`.
            label: their classes, int64 `[N]`, places among all classes.
            means: mean features of all classes, float64 `[C, Dr]`, as for `update`.
            counts: number of images of all classes, float64 `[C]`; at least 2 for a class in `label`.
            logit_scale: s of the model.

        Returns:
            Scores, float64 `[N, C]`.
        """
        raise NotImplementedError

    def scores(self, feature: Tensor, prototypes: Tensor, logit_scale: float) -> Tensor:
        """Scores images.

        Args:
            feature: raw features `[B, Dr]`, any norm.
            prototypes: prototypes of all classes `[C, Dr]`.
            logit_scale: s of the model.

        Returns:
            Scores `[B, C]`.
        """
        return logit_scale * F.normalize(feature, dim=-1) @ F.normalize(prototypes, dim=-1).T

    def state(self) -> dict[str, Tensor]:
        """Returns the tensors that a checkpoint keeps, by name, in float64."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes over the tensors that `state` gave.

        Raises:
            ValueError: naming a tensor that does not fit.
        """


class FrozenHead(Head):
    """A head that learns features once, so that the model must stay frozen."""

    @classmethod
    def check(cls, config: MethodConfig) -> None:
        if config.training.epochs > 0:
            raise ValueError(
                f"prototypes.score {config.prototypes.score} needs a frozen model: training.epochs must be 0; got "
                f"{config.training.epochs}"
            )
