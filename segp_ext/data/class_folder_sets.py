"""Reads public data sets in class folders without a split: Caltech101, EuroSAT and SUN397.

A seeded share of each class is held out (`data.test_fraction`), unless CoOp's split file is there. torchvision's classes list the folders
just so. Theirs are not used, as they hold files and labels in private attributes, or need the annotations of Caltech101.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from segp_ext.config import DataConfig
from segp_ext.data.class_folders import chosen_classes, flat_folders, no_class_folders
from segp_ext.data.class_names import class_name
from segp_ext.data.files import leads_out, read_lines
from segp_ext.data.layouts import split_folders
from segp_ext.data.public_set import PublicSet, read_public
from segp_ext.data.scenario import Collection
from segp_ext.data.tree import Tree

CALTECH101 = PublicSet(
    name="caltech101",
    label="Caltech101",
    folders=("caltech-101", "caltech101"),
    marks=("101_ObjectCategories",),
    layouts=(
        "<root>/caltech101/101_ObjectCategories/<class>/* (torchvision's), <root>/caltech-101/ with 101_ObjectCategories/ and "
        "split_zhou_Caltech101.json (CoOp's), or one of the folders caltech101, caltech-101 itself"
    ),
    page="https://data.caltech.edu/records/mzrjq-6wc02",
    split="split_zhou_Caltech101.json",
    images="101_ObjectCategories",
)
EUROSAT = PublicSet(
    name="eurosat",
    label="EuroSAT",
    folders=("eurosat",),
    marks=("2750",),
    layouts=(
        "<root>/eurosat/2750/<class>/* (torchvision's), also with <root>/eurosat/split_zhou_EuroSAT.json (CoOp's), or the folder eurosat "
        "itself"
    ),
    page="https://github.com/phelber/EuroSAT",
    split="split_zhou_EuroSAT.json",
    images="2750",
)
SUN397 = PublicSet(
    name="sun397",
    label="SUN397",
    folders=("sun397",),
    marks=("SUN397", "ClassName.txt"),
    layouts=(
        "<root>/SUN397/ with ClassName.txt and <letter>/<class>/* (torchvision's), <root>/sun397/ with SUN397/ and split_zhou_SUN397.json "
        "(CoOp's), or one of the folders SUN397, sun397 itself"
    ),
    page="https://vision.princeton.edu/projects/2010/SUN/",
    split="split_zhou_SUN397.json",
    images="SUN397",
)

_CALTECH_NAMES = {
    "Faces": "face",
    "Faces_easy": "centered face",
    "Leopards": "leopard",
    "Motorbikes": "motorbike",
    "airplanes": "airplane",
}
"""Names of the classes whose folders are named unlike the others. They are CoOp's; "centered face", which CoOp leaves out, is CLIP's."""
_EUROSAT_NAMES = {
    "AnnualCrop": "Annual Crop Land",
    "Forest": "Forest",
    "HerbaceousVegetation": "Herbaceous Vegetation Land",
    "Highway": "Highway or Road",
    "Industrial": "Industrial Buildings",
    "Pasture": "Pasture Land",
    "PermanentCrop": "Permanent Crop Land",
    "Residential": "Residential Buildings",
    "River": "River",
    "SeaLake": "Sea or Lake",
}
"""CoOp's names of the land covers."""


def caltech101(config: DataConfig) -> Collection:
    """Reads Caltech101.

    All folders but BACKGROUND_Google are classes, 101 of them, as in torchvision. CoOp's split has 100: it leaves out Faces_easy, too.
    """
    return read_public(CALTECH101, config, _caltech101, lambda folder: _CALTECH_NAMES.get(folder, class_name(folder)))


def _caltech101(base: Path, config: DataConfig) -> Tree:
    return _flat(CALTECH101, base, config, "BACKGROUND_Google")


def eurosat(config: DataConfig) -> Collection:
    """Reads EuroSAT's images in RGB. "AnnualCrop" becomes "Annual Crop Land", as in CoOp's split."""
    return read_public(EUROSAT, config, _eurosat, lambda folder: _EUROSAT_NAMES.get(folder, class_name(folder)))


def _eurosat(base: Path, config: DataConfig) -> Tree:
    return _flat(EUROSAT, base, config)


def _flat(public: PublicSet, base: Path, config: DataConfig, *left_out: str) -> Tree:
    """Reads the class folders in the folder of images, but for those left out.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: for a class with fewer than two images.
    """
    public.require(base, f"{public.images}/")
    place = base / public.images
    folders = [name for name in flat_folders(place, public.accepted) if name not in left_out]
    if not folders:
        raise FileNotFoundError(no_class_folders(place, place, public.accepted))
    tree = Tree(base, {}, {}, "")
    split_folders(tree, place, chosen_classes(config, base, folders), config)
    tree.layout = f"{tree.inside(place)}{tree.layout}"
    return tree


def sun397(config: DataConfig) -> Collection:
    """Reads SUN397.

    "a/apartment_building/outdoor" becomes "outdoor apartment building", as in CoOp's split: the words in front say which one is meant.
    """
    return read_public(SUN397, config, _sun397, lambda path: class_name(" ".join(path.split("/")[:0:-1])))


def _sun397(base: Path, config: DataConfig) -> Tree:
    place = base / SUN397.images if (base / SUN397.images).is_dir() else base
    table = next((file for file in (place / "ClassName.txt", base / "ClassName.txt") if file.is_file()), None)
    if table is None:
        raise SUN397.incomplete(base, ["ClassName.txt"])
    scenes = [line.removeprefix("/") for line in read_lines(table)]
    wrong = next((scene for scene in scenes if leads_out(scene) or "/" not in scene), None)
    if wrong is not None or not scenes:
        raise ValueError(f"{table} must have one class per line, such as /a/abbey; got {wrong or 'no line'!r}")
    # The base is the same whichever folder is given, as the split's hash covers paths from it.
    tree = Tree(place, {}, {}, "")
    chosen = chosen_classes(config, place, scenes)
    SUN397.require(place, *(f"{scene}/" for scene in chosen))
    split_folders(tree, place, chosen, replace(config, merge_folders=True))
    tree.layout = f"ClassName.txt and {tree.layout}"
    return tree
