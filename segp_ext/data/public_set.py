"""Describes a public data set: where it lies below `data.root`, how it is recognised, and where it comes from.

`read_public` reads one: by CoOp's split file where it is there, else by the data set's own files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from segp_ext.config import DataConfig
from segp_ext.data.class_folders import data_root
from segp_ext.data.class_names import class_name
from segp_ext.data.image_lists import listed_tree
from segp_ext.data.messages import contents, several
from segp_ext.data.scenario import Collection
from segp_ext.data.split_zhou import read_split_zhou
from segp_ext.data.tree import Tree, tree_collection

SPLITS_PAGE = "https://github.com/KaiyangZhou/CoOp/blob/main/DATASETS.md"
"""Where CoOp's split files are published."""


@dataclass(frozen=True)
class PublicSet:
    """What is known of a public data set before its files are read.

    Attributes:
        name: its name in `data.name`.
        label: its name at the start of `Collection.layout`.
        folders: folders below `data.root` that it may lie in, the preferred one first; it may also be `data.root` itself.
        marks: files and folders by which its folder is known: one of them is enough.
        layouts: the layouts that are taken, for messages.
        page: where its files are published.
        split: CoOp's split file; empty if there is none.
        images: the folder in it from which CoOp's split file names images; "." is its own folder.
    """

    name: str
    label: str
    folders: tuple[str, ...]
    marks: tuple[str, ...]
    layouts: str
    page: str
    split: str = ""
    images: str = "."

    @property
    def accepted(self) -> str:
        """The layouts that are taken and where the files come from, for messages."""
        splits = f"; {self.split} from {SPLITS_PAGE}" if self.split else ""
        return f"{self.layouts}. Download: images and their lists from {self.page}{splits}"

    def find(self, config: DataConfig) -> Path:
        """Returns the data set's folder. A folder with CoOp's split file goes first; `data.root` itself stands in where none is known.

        Raises:
            OSError: if `data.root` is not set, not there, or a file.
        """
        root = data_root(config, self.accepted)
        split = (self.split,) if self.split else ()
        places = [*(root / folder for folder in self.folders), root]
        for marks in (split, self.marks):
            for place in places:
                if any((place / mark).exists() for mark in marks):
                    return place
        return next(place for place in places if place.is_dir())

    def require(self, base: Path, *names: str) -> None:
        """Refuses a folder that lacks one of its files or folders.

        Args:
            base: the data set's folder.
            names: what must lie in it; folders end with "/".

        Raises:
            FileNotFoundError: naming what is missing, what is there, the layouts, and where to download.
        """
        absent = [n for n in names if not ((base / n).is_dir() if n.endswith("/") else (base / n).is_file())]
        if absent:
            raise self.incomplete(base, absent)

    def incomplete(self, base: Path, absent: Iterable[str]) -> FileNotFoundError:
        """Returns the error for a data set that lacks files.

        Args:
            base: the data set's folder.
            absent: what is missing in it.
        """
        return FileNotFoundError(
            f"data.root: no complete {self.label} in {str(base)!r}: {several(absent, 6)} not found; there: {contents(base)}; accepted: "
            f"{self.accepted}"
        )


def read_public(
    public: PublicSet,
    config: DataConfig,
    own: Callable[[Path, DataConfig], Tree],
    namer: Callable[[str], str] = class_name,
) -> Collection:
    """Reads a public data set. CoOp's split file, where it is there, decides about parts, classes and names.

    Args:
        public: the data set.
        config: settings.
        own: reads the data set's own files: (its folder, settings) → its images by class.
        namer: class of the own files → class name, for `data.names` spaces. Names in CoOp's file have spaces for underscores.

    Raises:
        OSError: if the data set, or one of its files, is not there; the message says where to download it.
        ValueError: naming a list that is damaged.
    """
    base = public.find(config)
    if public.split and (base / public.split).is_file():
        public.require(base, f"{public.images}/")
        tree = listed_tree(base, base / public.images, read_split_zhou(base / public.split), config)
        namer = class_name
    else:
        tree = own(base, config)
    found = tree_collection(tree, public.name, public.label, config, namer if config.names == "spaces" else str)
    return dataclasses.replace(found, page=public.page)
