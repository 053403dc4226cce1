"""Reads public data sets whose lists are MATLAB files: Flowers102 and Stanford Cars.

The class names of Flowers102 are torchvision's. Its classes are not used for the lists. They keep what they read in private attributes, and
do not name the file that is damaged or missing. SciPy reads the files, and runs nothing in them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segp_ext.config import DataConfig
from segp_ext.data.class_names import class_name
from segp_ext.data.files import read_json
from segp_ext.data.image_lists import ImageList, ImageLists, listed_tree
from segp_ext.data.public_set import PublicSet, read_public
from segp_ext.data.scenario import Collection
from segp_ext.data.tree import Tree
from segp_ext.runtime.progress import first_line

FLOWERS102 = PublicSet(
    name="flowers102",
    label="Flowers102",
    folders=("oxford_flowers", "flowers-102"),
    marks=("jpg", "imagelabels.mat", "setid.mat"),
    layouts=(
        "<root>/flowers-102/ with jpg/, imagelabels.mat and setid.mat (torchvision's), <root>/oxford_flowers/ with jpg/ and "
        "split_zhou_OxfordFlowers.json (CoOp's), or one of these folders itself"
    ),
    page="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
    split="split_zhou_OxfordFlowers.json",
    images="jpg",
)
STANFORD_CARS = PublicSet(
    name="stanford-cars",
    label="Stanford Cars",
    folders=("stanford_cars",),
    marks=("devkit", "cars_train", "cars_test"),
    layouts=(
        "<root>/stanford_cars/, or that folder itself, with cars_train/, cars_test/, and devkit/{cars_meta,cars_train_annos}.mat with "
        "cars_test_annos_withlabels.mat (torchvision's) or split_zhou_StanfordCars.json (CoOp's)"
    ),
    page=(
        "https://ai.stanford.edu/~jkrause/cars/car_dataset.html (no longer online; https://github.com/pytorch/vision/issues/7545 names "
        "copies)"
    ),
    split="split_zhou_StanfordCars.json",
)


def _variable(path: Path, name: str) -> np.ndarray:
    """Reads one variable of a MATLAB file, with at least one dimension and without those of size 1.

    Raises:
        ValueError: naming the file, if it is damaged or has no such variable.
    """
    from scipy.io import loadmat

    try:
        return np.atleast_1d(loadmat(path, squeeze_me=True, variable_names=(name,))[name])
    except KeyError:
        raise ValueError(f"{path} has no variable {name}") from None
    except Exception as error:  # a damaged file fails in more ways than can be listed
        raise ValueError(f"{path} cannot be read as a MATLAB file: {first_line(error)}") from error


def flowers102(config: DataConfig) -> Collection:
    """Reads the Oxford Flowers: training, validation and test images as published, or CoOp's split.

    The published parts have 10 images of each class for training and 10 for validation; CoOp's split has more.

    The lists number the classes. Their names are in `cat_to_name.json` where it is there, as CoOp has it, else torchvision's.
    """
    return read_public(FLOWERS102, config, _flowers102)


def _flowers102(base: Path, config: DataConfig) -> Tree:
    FLOWERS102.require(base, "jpg/", "imagelabels.mat", "setid.mat")
    names = _flower_names(base)
    labels = _whole_numbers(base / "imagelabels.mat", "labels", len(names))
    parts = {}
    for part, variable in (("train", "trnid"), ("validation", "valid"), ("test", "tstid")):
        images = _whole_numbers(base / "setid.mat", variable, len(labels))
        listed = [(f"image_{image:05d}.jpg", names[labels[image - 1] - 1]) for image in images]
        parts[part] = ImageList("setid.mat", listed)
    classes = [names[label - 1] for label in sorted(set(labels))]
    layout = "imagelabels.mat and setid.mat (torchvision's)"
    return listed_tree(base, base / "jpg", ImageLists(classes, parts, layout), config)


def _flower_names(base: Path) -> list[str]:
    """Returns the class names, in the order of their numbers from 1."""
    table = base / "cat_to_name.json"
    if not table.is_file():
        from torchvision.datasets import Flowers102

        return [name.rstrip("?") for name in Flowers102.classes]  # one has a question mark, not meant for a prompt
    names = read_json(table)
    numbers = [str(number) for number in range(1, len(names) + 1)] if isinstance(names, dict) else []
    if not numbers or not all(isinstance(names.get(number), str) for number in numbers):
        raise ValueError(
            f'{table} must hold the name of each class by its number from 1: {{"1": "pink primrose", ...}}'
        )
    return [names[number] for number in numbers]


def _whole_numbers(path: Path, name: str, highest: int) -> list[int]:
    """Reads a variable of whole numbers from 1 to `highest`.

    Raises:
        ValueError: naming the file and the variable, for anything else.
    """
    numbers = _variable(path, name)
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or not len(numbers):
        raise ValueError(f"{path}: {name} must be a row of whole numbers; got {numbers.dtype} {list(numbers.shape)}")
    if not 1 <= numbers.min() <= numbers.max() <= highest:
        raise ValueError(f"{path}: {name} must be from 1 to {highest}; got {numbers.min()} to {numbers.max()}")
    return numbers.tolist()


def stanford_cars(config: DataConfig) -> Collection:
    """Reads Stanford Cars: training and test images as published, or CoOp's split.

    "AM General Hummer SUV 2000" becomes "2000 AM General Hummer SUV", as in CoOp's split.
    """
    return read_public(STANFORD_CARS, config, _stanford_cars, _year_first)


def _stanford_cars(base: Path, config: DataConfig) -> Tree:
    files = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
    STANFORD_CARS.require(base, "cars_train/", "cars_test/", "devkit/cars_meta.mat", *files.values())
    names = _variable(base / "devkit/cars_meta.mat", "class_names").tolist()
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{base / 'devkit/cars_meta.mat'}: class_names must be strings")
    parts = {part: ImageList(file) for part, file in files.items()}
    for part, listed in parts.items():
        rows = _variable(base / listed.source, "annotations")
        if not {"fname", "class"} <= set(rows.dtype.names or ()):
            raise ValueError(f"{base / listed.source}: annotations must have the fields fname and class")
        for number, row in enumerate(rows, start=1):
            match row["fname"], row["class"]:
                case str(file), int(label) if 1 <= label <= len(names):
                    listed.images.append((f"cars_{part}/{file}", names[label - 1]))
                case other:
                    raise ValueError(
                        f"{base / listed.source}, annotation {number}: a file's name and a class from 1 to {len(names)} are needed; got "
                        f"{str(other)[:80]}"
                    )
    layout = "devkit/cars_{meta,train_annos}.mat and cars_test_annos_withlabels.mat (torchvision's)"
    return listed_tree(base, base, ImageLists(names, parts, layout), config)


def _year_first(car: str) -> str:
    """Moves the year at the end of a car's name to its front."""
    *words, last = class_name(car).split(" ")
    return " ".join([last, *words]) if last.isdecimal() else car
