"""All terms of one task's training loss, weighted: L = L_cls + λ_ACGD·L_ACGD + λ_GR·L_GR (SeGP-CL, arXiv 2603.12055, equation 22)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from segp_ext.config import MethodConfig
from segp_ext.config.named import find
from segp_ext.method.inputs import TaskInputs
from segp_ext.method.losses.base import Loss, Samples
from segp_ext.method.losses.classification import Classification
from segp_ext.method.losses.distillation import Acgd
from segp_ext.method.losses.text_geometry import Tsgr
from segp_ext.method.own_parts import naming

TERMS: Mapping[str, type[Loss]] = {"classification": Classification, "acgd": Acgd, "tsgr": Tsgr}
"""The terms of every method's loss, by the name that reports and messages have for them."""
EXTRA = "extra"
"""The name that they have for a loss of one's own."""
SETTING = "extra_loss.kind"
"""The setting that names it."""
HOOKS = ("of_images", "of_anchors", "of_text")
"""The methods of `Loss` that compute a term; each term overrides one or more."""


def find_loss(kind: str) -> type[Loss]:
    """Finds the loss that `extra_loss.kind` names.

    Raises:
        ValueError: if there is none, or if it overrides no hook, so that it computes nothing.
    """
    found = find(SETTING, kind, {}, Loss)
    if all(getattr(found, hook) is getattr(Loss, hook) for hook in HOOKS):
        own = [name for name in vars(found) if not name.startswith("__")]
        raise ValueError(
            f"{SETTING}: {kind} must override one or more of {', '.join(HOOKS)}; got {', '.join(own) or 'nothing'}"
        )
    return found


class TaskLosses:
    """The terms of one task's loss, each weighted as it enters.

    Args:
        config: the method's settings.
        logit_scale: s.
        task: what the task is trained on.

    Attributes:
        names: names of all terms; sums and means of terms are in this order.
        used: the terms whose weight is not 0, by name.
        draws_anchors: whether a term reads the task's anchors.
    """

    def __init__(self, config: MethodConfig, logit_scale: float, task: TaskInputs) -> None:
        kinds = dict(TERMS)
        if config.extra_loss.kind is not None:
            kinds[EXTRA] = find_loss(config.extra_loss.kind)
        self.names = tuple(kinds)
        made = {}
        for name, kind in kinds.items():
            with naming(SETTING, kind):
                made[name] = kind(config, task, logit_scale)
        self.used = {name: loss for name, loss in made.items() if loss.weight > 0}
        self.draws_anchors = task.anchors is not None and any(loss.reads_anchors() for loss in self.used.values())
        self._count = len(task.tokens)

    def classes_of_step(self, drawn: Tensor) -> Tensor:
        """Begins a step; returns the classes whose text embeddings a term reads, ascending, int64 `[C']` on the CPU.

        Args:
            drawn: numbers of the step's anchors, int64 `[B]`, on the CPU.
        """
        read = torch.zeros(self._count, dtype=torch.bool, device="cpu")
        for loss in self.used.values():
            with naming(SETTING, loss):
                classes = loss.classes_of_step(drawn)
                read[classes if isinstance(classes, Tensor) else slice(classes.start, classes.stop)] = True
        return read.nonzero().flatten()

    def of_samples(self, images: Samples, anchors: Samples, text: Tensor, shares: tuple[float, float]) -> Tensor:
        """Computes the terms of a part of a step's samples.

        Args:
            images: the part's images; there may be none.
            anchors: the part's anchors; there may be none. Where images are their own anchors (LwF), the images again.
            text: text embeddings of all classes `[C, De]`, zero for the ones that no term reads in this step.
            shares: the part's share of the step's images, and of its anchors.

        Returns:
            A value for each of `names`, `[terms]`.
        """
        values = {}
        for name, loss in self.used.items():
            with naming(SETTING, loss):
                means = [
                    (shares[0], loss.of_images(images, text) if len(images) else None),
                    (shares[1], loss.of_anchors(anchors, text) if len(anchors) else None),
                ]
            values[name] = [loss.weight * share * _scalar(name, mean) for share, mean in means if mean is not None]
        return self._stacked(values, text)

    def of_text(self, text: Tensor) -> Tensor | None:
        """Computes the terms of a step's text embeddings `[C, De]`.

        Returns:
            A value for each of `names`, `[terms]`; None if no term has such a part.
        """
        found = {}
        for name, loss in self.used.items():
            with naming(SETTING, loss):
                found[name] = loss.of_text(text)
        values = {
            name: [self.used[name].weight * _scalar(name, value)] for name, value in found.items() if value is not None
        }
        return self._stacked(values, text) if values else None

    def _stacked(self, values: Mapping[str, Sequence[Tensor]], like: Tensor) -> Tensor:
        zero = like.new_zeros(())
        return torch.stack([sum(values.get(name, ()), zero) for name in self.names])


def _scalar(name: str, value: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        raise ValueError(f"loss {name} must be a scalar tensor; got {type(value).__name__}")
    if value.ndim != 0:
        raise ValueError(f"loss {name} must be a scalar, such as a mean; got a tensor {list(value.shape)}")
    return value
