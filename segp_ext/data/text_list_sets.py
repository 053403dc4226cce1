"""Reads public data sets whose lists are text or JSON: Aircraft, DTD, Food-101 and Oxford Pets.

torchvision's classes for them keep files and labels in private attributes, and name neither a line that is damaged nor a file that is not
there. So the lists, whose form is public, are read here.
"""

from __future__ import annotations

from pathlib import Path

from segp_ext.config import DataConfig
from segp_ext.data.class_names import class_name
from segp_ext.data.files import read_json, read_lines
from segp_ext.data.image_lists import ImageList, ImageLists, listed_tree
from segp_ext.data.public_set import PublicSet, read_public
from segp_ext.data.scenario import Collection
from segp_ext.data.tree import Tree

AIRCRAFT = PublicSet(
    name="aircraft",
    label="Aircraft",
    folders=("fgvc_aircraft", "fgvc-aircraft-2013b/data", "data"),
    marks=("variants.txt", "images_variant_train.txt"),
    layouts=(
        "<root>/fgvc-aircraft-2013b/data/ (torchvision's) or <root>/fgvc_aircraft/ (CoOp's), or one of these folders itself, with images/, "
        "variants.txt and images_variant_{train,val,test}.txt"
    ),
    page="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
)
DTD = PublicSet(
    name="dtd",
    label="DTD",
    folders=("dtd", "dtd/dtd"),
    marks=("images", "labels"),
    layouts=(
        "<root>/dtd/dtd/ with images/ and labels/{train1,val1,test1}.txt (torchvision's), <root>/dtd/ with images/ and "
        "split_zhou_DescribableTextures.json (CoOp's), or one of these folders itself"
    ),
    page="https://www.robots.ox.ac.uk/~vgg/data/dtd/",
    split="split_zhou_DescribableTextures.json",
    images="images",
)
FOOD101 = PublicSet(
    name="food101",
    label="Food-101",
    folders=("food-101",),
    marks=("images", "meta"),
    layouts=(
        "<root>/food-101/, or that folder itself, with images/ and with meta/{train,test}.json (torchvision's) or split_zhou_Food101.json "
        "(CoOp's)"
    ),
    page="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    split="split_zhou_Food101.json",
    images="images",
)
OXFORD_PETS = PublicSet(
    name="oxford-pets",
    label="Oxford Pets",
    folders=("oxford_pets", "oxford-iiit-pet"),
    marks=("annotations", "images"),
    layouts=(
        "<root>/oxford-iiit-pet/ with images/ and annotations/{trainval,test}.txt (torchvision's), <root>/oxford_pets/ with images/ and "
        "split_zhou_OxfordPets.json (CoOp's), or one of these folders itself"
    ),
    page="https://www.robots.ox.ac.uk/~vgg/data/pets/",
    split="split_zhou_OxfordPets.json",
    images="images",
)


def aircraft(config: DataConfig) -> Collection:
    """Reads FGVC Aircraft by its 100 variants: training, validation and test images as published."""
    return read_public(AIRCRAFT, config, _aircraft)


def _aircraft(base: Path, config: DataConfig) -> Tree:
    files = {part: f"images_variant_{end}.txt" for part, end in _ENDS.items()}
    AIRCRAFT.require(base, "images/", "variants.txt", *files.values())
    variants = read_lines(base / "variants.txt")
    parts = {part: ImageList(file) for part, file in files.items()}
    for listed in parts.values():
        for number, line in enumerate(read_lines(base / listed.source), start=1):
            image, _, variant = line.partition(" ")
            if variant not in variants:
                raise _damaged(base, listed, number, "an image and a variant of variants.txt", line)
            listed.images.append((f"{image}.jpg", variant))
    layout = "images_variant_{train,val,test}.txt (torchvision's and CoOp's)"
    return listed_tree(base, base / "images", ImageLists(variants, parts, layout), config)


_ENDS = {"train": "train", "validation": "val", "test": "test"}
"""What the files of Aircraft and DTD call each part."""


def _damaged(base: Path, listed: ImageList, number: int, needed: str, line: str) -> ValueError:
    """Returns the error for a line of a list."""
    return ValueError(f"{base / listed.source}, line {number}: {needed} are needed; got {line!r}")


def dtd(config: DataConfig) -> Collection:
    """Reads the Describable Textures: the first of the ten published partitions, as torchvision, or CoOp's split."""
    return read_public(DTD, config, _dtd)


def _dtd(base: Path, config: DataConfig) -> Tree:
    parts = {part: ImageList(f"labels/{end}1.txt") for part, end in _ENDS.items()}
    DTD.require(base, "images/", *(listed.source for listed in parts.values()))
    for listed in parts.values():
        for number, line in enumerate(read_lines(base / listed.source), start=1):
            texture, slash, image = line.partition("/")
            if not texture or not slash or not image:
                raise _damaged(base, listed, number, "CLASS/FILE", line)
            listed.images.append((line, texture))
    textures = sorted({texture for listed in parts.values() for _, texture in listed.images})
    layout = "labels/{train1,val1,test1}.txt (torchvision's)"
    return listed_tree(base, base / "images", ImageLists(textures, parts, layout), config)


def food101(config: DataConfig) -> Collection:
    """Reads Food-101: training and test images as published, or CoOp's split."""
    return read_public(FOOD101, config, _food101)


def _food101(base: Path, config: DataConfig) -> Tree:
    parts = {part: ImageList(f"meta/{part}.json") for part in ("train", "test")}
    FOOD101.require(base, "images/", *(listed.source for listed in parts.values()))
    for listed in parts.values():
        dishes = read_json(base / listed.source)
        if not isinstance(dishes, dict) or not all(_are_texts(images) for images in dishes.values()):
            raise ValueError(f"{base / listed.source} must hold a list of images for each class")
        listed.images = [(f"{image}.jpg", dish) for dish, images in dishes.items() for image in images]
    dishes = sorted({dish for listed in parts.values() for _, dish in listed.images})
    return listed_tree(
        base, base / "images", ImageLists(dishes, parts, "meta/{train,test}.json (torchvision's)"), config
    )


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def oxford_pets(config: DataConfig) -> Collection:
    """Reads the Oxford-IIIT Pets by their 37 breeds: training and test images as published, or CoOp's split.

    "American_Bulldog" becomes "american bulldog", as in CoOp's split.
    """
    return read_public(OXFORD_PETS, config, _oxford_pets, lambda breed: class_name(breed.lower()))


def _oxford_pets(base: Path, config: DataConfig) -> Tree:
    parts = {"train": ImageList("annotations/trainval.txt"), "test": ImageList("annotations/test.txt")}
    OXFORD_PETS.require(base, "images/", *(listed.source for listed in parts.values()))
    numbers: dict[str, int] = {}
    for listed in parts.values():
        for number, line in enumerate(read_lines(base / listed.source), start=1):
            image, *values = line.split()
            breed = image.rpartition("_")[0]
            if not breed or not values or not values[0].isdecimal():
                raise _damaged(base, listed, number, "BREED_NUMBER and the number of its class", line)
            if numbers.setdefault(breed, int(values[0])) != int(values[0]):
                raise _damaged(base, listed, number, f"images of {breed}, class {numbers[breed]},", line)
            listed.images.append((f"{image}.jpg", breed))
    if len(set(numbers.values())) < len(numbers):
        raise ValueError(f"{base / 'annotations'}: trainval.txt and test.txt give several breeds one class number")
    breeds = sorted(numbers, key=numbers.__getitem__)
    layout = "annotations/{trainval,test}.txt (torchvision's)"
    return listed_tree(base, base / "images", ImageLists(breeds, parts, layout), config)
