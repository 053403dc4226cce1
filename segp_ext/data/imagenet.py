"""Names the classes of ImageNet, whose folders are WordNet numbers (wnids) such as n01440764."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from segp_ext.data.files import read_lines


@cache
def imagenet_names() -> dict[str, str]:
    """Returns the names of ILSVRC's 1,000 classes by wnid, in order: wnids from timm, names from open_clip."""
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    return dict(zip(ImageNetInfo().label_names(), IMAGENET_CLASSNAMES, strict=True))


def is_wnid(folder: str) -> bool:
    """Tells whether a folder is named like a class of ImageNet: n and eight digits."""
    return re.fullmatch(r"n\d{8}", folder) is not None


def wnid_names(base: Path) -> Callable[[str], str]:
    """Returns a function that names a wnid.

    It knows ILSVRC's classes by CLIP's names, and others by `words.txt` in the data set's folder `base`. A wnid unknown to both is its
    own name.

    Raises:
        ValueError: if `words.txt` is not a text file.
    """
    words: dict[str, str] = {}
    if (base / "words.txt").is_file():
        for line in read_lines(base / "words.txt"):
            wnid, _, names = line.partition("\t")
            words[wnid] = names.split(",")[0]
    return lambda wnid: imagenet_names().get(wnid) or words.get(wnid) or wnid
