"""Names of ImageNet's classes."""

from __future__ import annotations

from functools import cache


@cache
def imagenet_names() -> dict[str, str]:
    """The 1,000 classes of ILSVRC by wnid, in order: synsets from timm, names from open_clip."""
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    return dict(zip(ImageNetInfo().label_names(), IMAGENET_CLASSNAMES, strict=True))
