"""Sources of anchors, which `anchors.kind` names."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from segp_ext.config.named import find
from segp_ext.method.sources.base import Candidates, Source, Teacher, select_seeds
from segp_ext.method.sources.gradient import Adc, Dpgd, TextPgd, VisualPgd
from segp_ext.method.sources.unmoved import NewImages, Noise, Reference, Seeds

SOURCES: Mapping[str, type[Source]] = MappingProxyType(
    {
        "dpgd": Dpgd,
        "text": TextPgd,
        "visual": VisualPgd,
        "seeds": Seeds,
        "noise": Noise,
        "new-images": NewImages,
        "reference": Reference,
        "adc": Adc,
    }
)
"""This package's sources by name. The kind "none" stands for no source."""

__all__ = [
    "SOURCES",
    "Adc",
    "Candidates",
    "Dpgd",
    "NewImages",
    "Noise",
    "Reference",
    "Seeds",
    "Source",
    "Teacher",
    "TextPgd",
    "VisualPgd",
    "find_source",
    "select_seeds",
]


def find_source(kind: str) -> type[Source]:
    """Finds the source that `anchors.kind` names.

    Raises:
        ValueError: if there is no such source.
    """
    return find("anchors.kind", kind, SOURCES, Source)
