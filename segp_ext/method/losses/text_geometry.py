"""TSGR: new classes keep their places among their nearest classes in text space (SeGP-CL, arXiv 2603.12055, equations 19 to 21)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext.config import MethodConfig
from segp_ext.method.inputs import TaskInputs
from segp_ext.method.losses.base import Loss


def text_neighbours(reference: Tensor, new: range, count: int) -> Tensor:
    """Finds the new classes' nearest neighbours among all seen classes in the reference text encoder (TSGR, equation 19).

    Args:
        reference: text embeddings of all seen classes with the adapter off, `[C, De]`, any norm.
        new: indices of the new classes.
        count: k, the number of neighbours; with fewer other classes, all of them are returned.

    Returns:
        Class indices int64 `[len(new), min(k, C - 1)]`, nearest first; a class is not its own neighbour.
    """
    unit = F.normalize(reference, dim=-1)
    similarity = unit[new.start : new.stop] @ unit.T
    rows = torch.arange(len(new), device=similarity.device)
    similarity[rows, rows + new.start] = -torch.inf
    return similarity.topk(min(count, len(unit) - 1), dim=1).indices


def text_geometry_loss(text: Tensor, reference: Tensor, new: range, neighbours: Tensor, temperature: float) -> Tensor:
    """Computes TSGR, which holds each new class's similarities to its neighbours as the reference text encoder has them.

    mean over new classes of KL( softmax(û⁰·û⁰_nbr / τ_T) ‖ softmax(û·û_nbr / τ_T) ), SeGP-CL (arXiv 2603.12055),
    equations 19 to 21. Zero where there is at most one neighbour.

    Args:
        text: text embeddings of all seen classes from the model in training, `[C, De]`, any norm.
        reference: text embeddings of the same classes with the adapter off, `[C, De]`, any norm.
        new: indices of the new classes.
        neighbours: from `text_neighbours`, `[len(new), k]`.
        temperature: τ_T.

    Returns:
        A scalar; gradients flow to `text`.
    """
    if neighbours.shape[1] == 0:
        return text.new_zeros(())

    def log_similarities(embeddings: Tensor) -> Tensor:
        unit = F.normalize(embeddings, dim=-1)
        cosine = torch.einsum("nd,nkd->nk", unit[new.start : new.stop], unit[neighbours])
        return F.log_softmax(cosine / temperature, dim=1)

    return F.kl_div(log_similarities(text), log_similarities(reference), log_target=True, reduction="batchmean")


class Tsgr(Loss):
    """Text geometry regularisation of the task's new classes; their neighbours stay fixed for the task."""

    def __init__(self, config: MethodConfig, task: TaskInputs, logit_scale: float) -> None:
        super().__init__(config, task, logit_scale)
        self._neighbours: Tensor | None = None
        if config.text_geometry.weight > 0 and task.reference is not None and len(task.new):
            self._neighbours = text_neighbours(task.reference, task.new, config.text_geometry.neighbours)

    @property
    def weight(self) -> float:
        """`text_geometry.weight`; 0 with at most one neighbour, where the loss is 0."""
        some = self._neighbours is not None and self._neighbours.shape[1] > 1
        return self.config.text_geometry.weight if some else 0.0

    def classes_of_step(self, drawn: Tensor) -> Tensor:
        assert self._neighbours is not None
        return torch.cat([self._neighbours.flatten().cpu(), torch.tensor([*self.task.new], device="cpu")])

    def of_text(self, text: Tensor) -> Tensor:
        assert self.task.reference is not None and self._neighbours is not None
        temperature = self.config.text_geometry.temperature
        return text_geometry_loss(text, self.task.reference, self.task.new, self._neighbours, temperature)
