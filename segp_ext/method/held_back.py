"""Images held back from training: which ones, and what a learner keeps of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext.config import CalibrationConfig
from segp_ext.method.class_places import GONE

_FEWEST = 2
"""Images of a class that are left for training."""


def choose_held_back(classes: Tensor, settings: CalibrationConfig, generator: torch.Generator) -> Tensor:
    """Chooses the images that are held back: a share of each class, drawn at random.

    Args:
        classes: Class of every image, int64 `[N]`; a negative one for an image that may not be held back.
        settings: The share, and the largest number per class. A class keeps at least two images for training.
        generator: CPU generator of the draw.

    Returns:
        Whether each image is held back, bool `[N]`.
    """
    held = torch.zeros(len(classes), dtype=torch.bool, device="cpu")
    for place in classes.unique().tolist() if settings.fraction > 0 else ():
        if place < 0:
            continue
        own = (classes == place).nonzero().flatten()
        count = min(round(settings.fraction * len(own)), settings.max_per_class, len(own) - _FEWEST)
        order = torch.randperm(len(own), generator=generator, device="cpu")
        held[own[order[: max(count, 0)]]] = True
    return held


@dataclass(frozen=True)
class HeldBack:
    """Features of the images that were held back, in the order in which they were learnt. The images themselves are not kept.

    Attributes:
        label: Class of each, int64 `[N]`, a place among all classes.
        feature: Raw features in the trained model, `[N, Dr]`. After each task they move along with the prototype of their class.
        frozen: Raw features in the pre-trained model, `[N, Dr]`; without rows where no head is learnt on that model.
    """

    label: Tensor
    feature: Tensor
    frozen: Tensor

    @classmethod
    def none(cls, like: Tensor) -> HeldBack:
        """Returns the features of no image; `like` are prototypes `[*, Dr]`."""
        label = torch.zeros(0, dtype=torch.int64, device=like.device)
        return cls(label, like[:0], like[:0])

    def __len__(self) -> int:
        return len(self.label)

    def moved(self, before: Tensor, after: Tensor, unit: bool) -> HeldBack:
        """Returns the features moved along with their classes' prototypes.

        Args:
            before: Prototypes of all classes before the transfer `[C, Dr]`.
            after: The same after it.
            unit: Whether prototypes are directions of unit features.
        """
        step = (after - before)[self.label]
        if not unit:
            return HeldBack(self.label, self.feature + step, self.frozen)
        length = self.feature.norm(dim=1, keepdim=True)
        return HeldBack(self.label, F.normalize(F.normalize(self.feature, dim=1) + step, dim=1) * length, self.frozen)

    def with_more(self, more: HeldBack) -> HeldBack:
        """Returns these and `more`."""
        return HeldBack(*(torch.cat([getattr(self, name), getattr(more, name)]) for name in _NAMES))

    def replaced(self, where: Tensor) -> HeldBack:
        """Returns the features of the classes that stay, at their new places.

        Args:
            where: New place of every class, int64 `[C]`, as `segp_ext.method.class_places` gives it.
        """
        label = where[self.label]
        stays = label != GONE
        frozen = self.frozen[stays] if len(self.frozen) else self.frozen
        return HeldBack(label[stays], self.feature[stays], frozen)

    def tensors(self) -> dict[str, Tensor]:
        """Returns the tensors that a checkpoint keeps, by name; labels as float64."""
        return {
            "label": self.label.double(),
            "feature": self.feature,
            "frozen": self.frozen,
        }

    @classmethod
    def of(cls, tensors: dict[str, Tensor], classes: int, like: Tensor) -> HeldBack:
        """Makes it of the tensors that `tensors` gave.

        Args:
            tensors: The tensors by name.
            classes: Number of all classes.
            like: Prototypes `[*, Dr]`, which tell width, dtype and device.

        Raises:
            ValueError: Naming a tensor that is missing or does not fit.
        """
        if not tensors:
            return cls.none(like)
        if tensors.keys() != {*_NAMES}:
            raise ValueError(f"the tensors of images held back must be {', '.join(_NAMES)}; got {', '.join(tensors)}")
        count, width = len(tensors["label"]), like.shape[1]
        shapes = {"label": [count], "feature": [count, width]}
        for name, shape in shapes.items():
            if list(tensors[name].shape) != shape:
                raise ValueError(f"held.{name} must be {shape}; got {list(tensors[name].shape)}")
        if list(tensors["frozen"].shape) not in ([count, width], [0, width]):
            raise ValueError(
                f"held.frozen must be {[count, width]} or {[0, width]}; got {list(tensors['frozen'].shape)}"
            )
        label = tensors["label"].long()
        if count and not (int(label.min()) >= 0 and int(label.max()) < classes):
            raise ValueError(
                f"held.label must be from 0 to {classes - 1}; got {int(label.min())} to {int(label.max())}"
            )
        device = like.device
        feature, frozen = (tensors[name].to(device, like.dtype) for name in ("feature", "frozen"))
        return cls(label.to(device), feature, frozen)


_NAMES = tuple(HeldBack.__dataclass_fields__)
