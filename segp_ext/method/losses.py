"""The training loss's terms that have no op of their own: classification and the text geometry (TSGR).

ACGD is `segp_ext.ops.geometry_distill`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def classification_loss(embedding: Tensor, text: Tensor, target: Tensor, logit_scale: float) -> Tensor:
    """Cross-entropy of s·v̂·û (SeGP-CL, arXiv 2603.12055, equation 15).

    Args:
        embedding: image embeddings v `[B, De]`, any norm.
        text: text embeddings u `[C, De]`, any norm.
        target: class of each image, int64 `[B]`, an index into `text`.
        logit_scale: s.

    Returns:
        The mean over images, a scalar; gradients flow to `embedding` and `text`.
    """
    logits = logit_scale * F.normalize(embedding, dim=-1) @ F.normalize(text, dim=-1).T
    return F.cross_entropy(logits, target)


def text_neighbours(reference: Tensor, new: range, count: int) -> Tensor:
    """Nearest neighbours of the new classes among all seen ones in the reference text encoder (TSGR, equation 19).

    Args:
        reference: text embeddings of all seen classes with the adapter off, `[C, De]`, any norm.
        new: indices of the new classes.
        count: k; fewer are returned where fewer other classes exist.

    Returns:
        Class indices int64 `[len(new), min(k, C - 1)]`, nearest first; a class is no neighbour of its own.
    """
    unit = F.normalize(reference, dim=-1)
    similarity = unit[new.start : new.stop] @ unit.T
    rows = torch.arange(len(new), device=similarity.device)
    similarity[rows, rows + new.start] = -torch.inf
    return similarity.topk(min(count, len(unit) - 1), dim=1).indices


def text_geometry_loss(text: Tensor, reference: Tensor, new: range, neighbours: Tensor, temperature: float) -> Tensor:
    """TSGR: keeps each new class's similarities to its neighbours as the reference text encoder has them.

    mean over new classes of KL( softmax(û⁰·û⁰_nbr / τ_T) ‖ softmax(û·û_nbr / τ_T) ), SeGP-CL (arXiv 2603.12055),
    equations 19 to 21. Zero where there is at most one neighbour.

    Args:
        text: text embeddings of all seen classes from the model in training, `[C, De]`, any norm.
        reference: the same with the adapter off.
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
