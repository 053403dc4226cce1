"""Opens every image of a data set: finds unreadable ones, duplicates, and photographs that EXIF turns."""

from __future__ import annotations

import hashlib
import io
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from segp_ext.data import Collection
from segp_ext.data.decoding import as_rgb, possible_formats, reason
from segp_ext.runtime import git_lfs
from segp_ext.runtime.progress import progress


@dataclass
class Contents:
    """Describes the images of a data set after all of them were opened.

    Attributes:
        opened: Number of images.
        unreadable: Name and reason of each image that cannot be decoded, by its source.
        across: Pairs (training image, test image) of the same content.
        within: Groups of images of the same content, by part of the data set.
        contradicting: Number of groups of the same content that stand under several classes.
        turned: Images that their EXIF orientation turns.
        upright: Whether a run turns them (`loading.orientation`).
    """

    opened: int = 0
    unreadable: dict[Any, tuple[str, str]] = field(default_factory=dict)
    across: list[tuple[str, str]] = field(default_factory=list)
    within: dict[str, list[list[str]]] = field(default_factory=dict)
    contradicting: int = 0
    turned: list[str] = field(default_factory=list)
    upright: bool = False


@dataclass(frozen=True)
class _Look:
    """Result of opening one image: the digest of its content, or else the trouble with it; and whether EXIF turns it."""

    digest: str | None
    trouble: str = ""
    turned: bool = False


def open_all(collection: Collection, root: str | None) -> Contents:
    """Opens every image once.

    Two images are the same if their files have one SHA-256, or if their pixels do where the data set is an array.

    Args:
        collection: The data set.
        root: Folder from which file names are given; the present folder if None.
    """

    def name(source: Any) -> str:
        if not isinstance(source, Path):
            return f"image {source}"
        return os.path.relpath(source, os.path.expanduser(root or "."))

    sources = [
        (part, label, source)
        for part, images in collection.parts().items()
        for label, of_class in enumerate(images)
        for source in of_class
    ]
    result = Contents(opened=len(sources), within={part: [] for part in collection.parts()})
    same: dict[str, list[tuple[str, int, Any]]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        looks = pool.map(lambda member: _look(collection, member[2]), sources)
        for member, look in zip(sources, progress(looks, "opening", len(sources)), strict=True):
            if look.digest is None:
                result.unreadable[member[2]] = (name(member[2]), look.trouble)
            else:
                same.setdefault(look.digest, []).append(member)
            if look.turned:
                result.turned.append(name(member[2]))
    result.turned.sort()
    for members in same.values():
        by_part = {part: [name(source) for p, _, source in members if p == part] for part in result.within}
        for part, group in by_part.items():
            if len(group) > 1:
                result.within[part].append(group)
        if by_part["train"]:
            result.across += [(by_part["train"][0], image) for image in by_part["test"]]
        result.contradicting += len({label for _, label, _ in members}) > 1
    return result


def _look(collection: Collection, source: Any) -> _Look:
    if not isinstance(source, Path):
        return _Look(collection.fingerprint(source))
    data, turned = b"", False
    try:
        data = source.read_bytes()
        with Image.open(io.BytesIO(data), formats=possible_formats(source.name)) as image:
            as_rgb(image)
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) > 1
    except Exception as error:  # decoders fail in more ways than can be listed
        return _Look(None, reason(error).replace(str(source), source.name) + git_lfs.hint(data))
    return _Look(hashlib.sha256(data).hexdigest(), turned=turned)
