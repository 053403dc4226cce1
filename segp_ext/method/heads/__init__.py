"""Heads of the visual path, which `prototypes.score` names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from segp_ext.config.named import find
from segp_ext.method.heads.base import FrozenHead, Head
from segp_ext.method.heads.gaussians import Gaussians
from segp_ext.method.heads.probe import LinearProbe
from segp_ext.method.heads.ridge import Ridge

HEADS: Mapping[str, type[Head]] = MappingProxyType(
    {"cosine": Head, "mahalanobis": Gaussians, "ridge": Ridge, "probe": LinearProbe}
)
"""This package's heads by name."""

__all__ = ["HEADS", "FrozenHead", "Gaussians", "Head", "LinearProbe", "Ridge", "find_head"]


def find_head(score: str) -> type[Head]:
    """Finds the head that `prototypes.score` names.

    Raises:
        ValueError: if there is no such head.
    """
    return find("prototypes.score", score, HEADS, Head)
