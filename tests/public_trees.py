"""Makes public data sets on disk, in torchvision's layout and in CoOp's: tiny images, and the lists that stand beside them."""

import gzip
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat
from trees import cifar100, encoded

TORCHVISION = {
    "aircraft": "fgvc-aircraft-2013b/data",
    "caltech101": "caltech101",
    "dtd": "dtd/dtd",
    "eurosat": "eurosat",
    "flowers102": "flowers-102",
    "food101": "food-101",
    "mnist": "MNIST/raw",
    "oxford-pets": "oxford-iiit-pet",
    "stanford-cars": "stanford_cars",
    "sun397": "SUN397",
}
"""Where torchvision's class has each data set, below the folder that it is given."""
COOP = {
    "aircraft": "fgvc_aircraft",
    "caltech101": "caltech-101",
    "dtd": "dtd",
    "eurosat": "eurosat",
    "flowers102": "oxford_flowers",
    "food101": "food-101",
    "mnist": "mnist",
    "oxford-pets": "oxford_pets",
    "stanford-cars": "stanford_cars",
    "sun397": "sun397",
}
"""Where CoOp's loaders have each data set, below the folder of all; MNIST, which CoOp has not, as those who build on CoOp."""
SPLITS = {
    "caltech101": ("split_zhou_Caltech101.json", "101_ObjectCategories/"),
    "dtd": ("split_zhou_DescribableTextures.json", "images/"),
    "eurosat": ("split_zhou_EuroSAT.json", "2750/"),
    "flowers102": ("split_zhou_OxfordFlowers.json", "jpg/"),
    "food101": ("split_zhou_Food101.json", "images/"),
    "oxford-pets": ("split_zhou_OxfordPets.json", "images/"),
    "stanford-cars": ("split_zhou_StanfordCars.json", ""),
    "sun397": ("split_zhou_SUN397.json", "SUN397/"),
}
"""CoOp's split file of each data set, and the folder from which it names images."""
FILES = {
    "aircraft": "images/{n:07d}.jpg",
    "caltech101": "101_ObjectCategories/{name}/image_{n:04d}.jpg",
    "dtd": "images/{name}/{name}_{n:04d}.jpg",
    "eurosat": "2750/{name}/{name}_{n}.jpg",
    "flowers102": "jpg/image_{n:05d}.jpg",
    "food101": "images/{name}/{n}.jpg",
    "oxford-pets": "images/{name}_{n}.jpg",
    "stanford-cars": "cars_{half}/{n:05d}.jpg",
    "sun397": "SUN397/{name}/sun_{n}.jpg",
}
"""The path of image number n of a class called name, from the data set's folder."""
PARTS = ("train", "train", "val", "test")
"""The part of each of a class's four images."""
CLASSES = {
    "aircraft": ["707-320", "A300B4", "F/A-18"],
    "caltech101": ["Faces", "airplanes", "car_side"],
    "dtd": ["banded", "dotted", "polka-dotted"],
    "eurosat": ["AnnualCrop", "Forest", "SeaLake"],
    "flowers102": ["pink primrose", "hard-leaved pocket orchid", "canterbury bells"],
    "food101": ["apple_pie", "baby_back_ribs", "waffles"],
    "oxford-pets": ["Abyssinian", "american_bulldog", "Bengal"],
    "stanford-cars": ["AM General Hummer SUV 2000", "Acura RL Sedan 2012", "Ram C/V Cargo Van Minivan 2012"],
    "sun397": ["a/abbey", "a/apartment_building/outdoor", "b/bow_window/indoor"],
}
"""Three classes as a data set's own files call them."""
NAMES = {
    **CLASSES,
    "caltech101": ["face", "airplane", "car side"],
    "eurosat": ["Annual Crop Land", "Forest", "Sea or Lake"],
    "food101": ["apple pie", "baby back ribs", "waffles"],
    "oxford-pets": ["abyssinian", "american bulldog", "bengal"],
    "stanford-cars": ["2000 AM General Hummer SUV", "2012 Acura RL Sedan", "2012 Ram C/V Cargo Van Minivan"],
    "sun397": ["abbey", "outdoor apartment building", "indoor bow window"],
}
"""The names that these classes get."""

Row = tuple[str, int, str]
"""An image's part, class and path from the data set's folder."""


def rows_of(name: str, classes: list[str]) -> list[Row]:
    """Lists the images that a made data set has: four of each class, numbered from 1."""
    return [
        (part, c, FILES[name].format(n=4 * c + i + 1, name=called, half="test" if part == "test" else "train"))
        for c, called in enumerate(classes)
        for i, part in enumerate(PARTS)
    ]


def write_images(folder: Path, files: list[str]) -> None:
    """Writes a small image to each path below a folder."""
    for number, file in enumerate(files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(encoded(number % 16, "jpg"))


def torchvision_tree(root: Path, name: str, classes: list[str] | None = None) -> Path:
    """Writes a data set as torchvision's class finds it below `root`, and returns its own folder."""
    classes = CLASSES[name] if classes is None else classes
    folder = root / TORCHVISION[name]
    rows = rows_of(name, classes)
    images = folder.parent if name == "sun397" else folder
    write_images(images, [file for _, _, file in rows])
    write_lists(folder, name, classes, rows)
    return folder


def coop_tree(root: Path, name: str, classes: list[str] | None = None) -> Path:
    """Writes a data set as CoOp's loader finds it below `root`, and returns its own folder."""
    classes = CLASSES[name] if classes is None else classes
    folder = root / COOP[name]
    rows = rows_of(name, classes)
    write_images(folder, [file for _, _, file in rows])
    if name not in SPLITS:
        write_lists(folder, name, classes, rows)
        return folder
    split, above = SPLITS[name]
    content: dict[str, list[Any]] = {"train": [], "val": [], "test": []}
    names = [text.replace(" ", "_") for text in NAMES[name]] if name == "food101" else NAMES[name]
    for part, c, file in rows:
        content[part].append([file.removeprefix(above), c, names[c]])
    (folder / split).write_text(json.dumps(content))
    return folder


def write_lists(folder: Path, name: str, classes: list[str], rows: list[Row]) -> None:
    """Writes a data set's own lists."""
    stems = [(part, c, Path(file).stem, file) for part, c, file in rows]
    texts: dict[str, list[str]] = {}
    if name == "aircraft":
        texts["variants.txt"] = classes
        for part in ("train", "val", "test"):
            texts[f"images_variant_{part}.txt"] = [f"{stem} {classes[c]}" for p, c, stem, _ in stems if p == part]
    elif name == "dtd":
        for part in ("train", "val", "test"):
            texts[f"labels/{part}1.txt"] = [file.removeprefix("images/") for p, _, file in rows if p == part]
    elif name == "food101":
        for part in ("train", "test"):
            own = [(classes[c], f"{classes[c]}/{stem}") for p, c, stem, _ in stems if (p == "test") == (part == "test")]
            dishes = {dish: [image for d, image in own if d == dish] for dish in reversed(classes)}
            texts[f"meta/{part}.json"] = [json.dumps(dishes)]
    elif name == "oxford-pets":
        for part in ("trainval", "test"):
            own = [f"{stem} {c + 1} 1 {c + 1}" for p, c, stem, _ in stems if (p == "test") == (part == "test")]
            texts[f"annotations/{part}.txt"] = own[::-1]
    elif name == "sun397":
        texts["ClassName.txt"] = [f"/{scene}" for scene in classes]
    for file, lines in texts.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("\n".join(lines) + "\n")
    if name == "flowers102":
        savemat(folder / "imagelabels.mat", {"labels": np.array([[c + 1 for _, c, _ in rows]], np.uint8)})
        numbers = {part: [n for n, row in enumerate(rows, start=1) if row[0] == part] for part in PARTS}
        named = {"trnid": numbers["train"], "valid": numbers["val"], "tstid": numbers["test"]}
        savemat(folder / "setid.mat", {key: np.array([value], np.uint16) for key, value in named.items()})
    elif name == "stanford-cars":
        (folder / "devkit").mkdir()
        savemat(folder / "devkit/cars_meta.mat", {"class_names": cells(classes)})
        train = [(file, c) for part, c, file in rows if part != "test"]
        savemat(folder / "devkit/cars_train_annos.mat", {"annotations": annotations(train)})
        test = [(file, c) for part, c, file in rows if part == "test"]
        savemat(folder / "cars_test_annos_withlabels.mat", {"annotations": annotations(test)})


def cells(texts: list[str]) -> np.ndarray:
    """Makes a row of strings as MATLAB has them."""
    made = np.empty((1, len(texts)), object)
    made[0, :] = texts
    return made


def annotations(images: list[tuple[str, int]]) -> np.ndarray:
    """Makes the rows of Stanford Cars' annotations: a box, the class from 1, the file's name."""
    made = np.empty((1, len(images)), [("bbox_x1", object), ("class", object), ("fname", object)])
    for number, (file, c) in enumerate(images):
        made[0, number] = (np.array([[1]], np.uint16), np.array([[c + 1]], np.uint8), Path(file).name)
    return made


def mnist_tree(folder: Path, form: str = "", per_class: tuple[int, int] = (3, 1)) -> Path:
    """Writes MNIST's four files. The brightness of an image tells its class, and that of its first pixel its part."""
    folder.mkdir(parents=True)
    for part, count in zip(("train", "t10k"), per_class, strict=True):
        labels = np.tile(np.arange(10, dtype=np.uint8), count)
        images = np.broadcast_to(labels[:, None, None], (len(labels), 28, 28)).copy()
        images[:, 0, 0] = 255 if part == "train" else 0
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
            data = head + values.tobytes()
            (folder / f"{part}-{kind}-ubyte{form}").write_bytes(gzip.compress(data) if form else data)
    return folder


COUNTS = {
    "aircraft": 100, "caltech101": 101, "cifar100": 100, "dtd": 47, "eurosat": 10, "flowers102": 102, "food101": 101, "mnist": 10,
    "oxford-pets": 37, "stanford-cars": 196, "sun397": 397,
}  # fmt: skip
"""Number of classes of each data set of MTIL."""


def eleven_trees(root: Path) -> None:
    """Writes all data sets of MTIL below `root`, with all their classes; most have the same made names."""
    cifar100(root)
    mnist_tree(root / TORCHVISION["mnist"])
    for name in FILES:
        letter = "z/" if name == "sun397" else ""
        torchvision_tree(root, name, [f"{letter}class_{number:03d}" for number in range(COUNTS[name])])
    (root / "caltech101/101_ObjectCategories/BACKGROUND_Google").mkdir()
