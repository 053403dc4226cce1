"""Terms of the training loss."""

from __future__ import annotations

from segp_ext.method.losses.base import Loss, Samples, clip_scores
from segp_ext.method.losses.classification import Classification, classification_loss
from segp_ext.method.losses.distillation import Acgd
from segp_ext.method.losses.terms import EXTRA, TERMS, TaskLosses, find_loss
from segp_ext.method.losses.text_geometry import Tsgr, text_geometry_loss, text_neighbours

__all__ = [
    "EXTRA",
    "TERMS",
    "Acgd",
    "Classification",
    "Loss",
    "Samples",
    "TaskLosses",
    "Tsgr",
    "classification_loss",
    "clip_scores",
    "find_loss",
    "text_geometry_loss",
    "text_neighbours",
]
