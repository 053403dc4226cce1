"""The sections of settings for the images: which data set, how it is split into tasks, and how its images are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from segp_ext.config.checks import not_negative, positive, require
from segp_ext.config.plain_values import fits, type_in_words
from segp_ext.config.setting import setting

DataName = Literal[
    "auto",
    "digits",
    "folder",
    "cifar100",
    "imagenet-r",
    "imagenet100",
    "cub200",
    "ucf101",
    "aircraft",
    "caltech101",
    "dtd",
    "eurosat",
    "flowers102",
    "food101",
    "mnist",
    "oxford-pets",
    "stanford-cars",
    "sun397",
]
ClassOrder = Literal["cifar100-icarl", "imagenet100-numpy1993", "imagenet-r-mgclip", "imagenet-r-rapf", "cub200-rapf"]
_SPLIT_BY_LISTS = ("auto", "folder", "imagenet-r", "imagenet100", "cub200", "ucf101")
"""Data sets that `data.train_list` and `data.test_list` may split. The others have a split of their own, or go by `data.test_fraction`."""
_WITHOUT_FOLDERS = ("digits", "cifar100", "mnist")
"""Data sets whose classes have neither folders nor names in lists."""


@dataclass
class LoadingConfig:
    """Reading of image files."""

    resize: Literal["exact", "device"] = setting(
        "exact",
        ours="exact is CLIP's own preprocessing; device saves memory and differs by rounding",
        protocol=True,
    )
    """exact: the model's own preprocessing by PIL, which published numbers rest on. device: keep small images of one size as they are and \
resize them on the device. This saves memory and decoding time, and differs from PIL by rounding."""
    orientation: Literal["stored", "exif"] = setting(
        "stored",
        ours="stored: images as torchvision's loaders and published numbers have them; exif turns photographs upright",
    )
    """stored: pixels as the file has them, as with torchvision's loaders and published numbers. exif: turn images upright that a camera \
has marked as turned."""
    workers: int | None = setting(None, ours="changes only speed and memory", resume=True)
    """Processes that decode images. null takes up to 8 per device on a GPU; on the CPU it decodes in the main process."""
    memory_gb: float | None = setting(None, ours="changes only speed and memory", resume=True)
    """Gigabytes (10^9 bytes) of decoded images that each process keeps. null takes half of the free memory, or half of what a container \
or batch job leaves. Other images are decoded every time, to the same pixels."""

    def __post_init__(self) -> None:
        for name in ("workers", "memory_gb"):
            if getattr(self, name) is not None:
                not_negative("loading", self, name)


@dataclass
class DataConfig:
    """Images, their split into tasks, and the images of the evaluation."""

    name: DataName = setting("auto", protocol=True, short_help=True)
    """Data set: folder (your images), digits, cifar100, imagenet-r, imagenet100, cub200, ucf101, aircraft, caltech101, dtd, \
eurosat, flowers102, food101, mnist, oxford-pets, stanford-cars, sun397, or auto (folder with data.root, else digits). digits are \
scikit-learn's handwritten digits. The names from cifar100 on are benchmarks, in the layouts that their users have on disk."""
    root: str | None = setting(None, resume=True, short_help=True)
    """Folder of the data set. Layouts of data.name folder: {train,test}/<class>/* (val counts as test); <class>/*, split by lists or by \
test_fraction; train/<class>/* alone, split in the same way; Tiny-ImageNet's train/<wnid>/ with val/val_annotations.txt. \
docs/protocols.md says which layouts each benchmark takes, and so does an error where none is there."""
    download: bool = setting(False)
    """Download CIFAR100 to data.root through torchvision if it is not there."""
    train_list: str | None = setting(None)
    """File that lists the training images of a flat tree <root>/<class>/*: one path per line, or YAML with a list data. The folders are \
the classes, and labels beside the paths may not contradict them. A list that is not found is looked for in data.root. Needs test_list."""
    test_list: str | None = setting(None)
    """File that lists the test images, like train_list."""
    class_list: str | None = setting(None, protocol=True)
    """File of the class folders to take, one per line; the rest of a line is ignored. Classes then have the order of this file. null \
takes all classes (imagenet100: the first 100 classes of ILSVRC)."""
    names: Literal["spaces", "folders"] = setting("spaces", protocol=True)
    """spaces: turn underscores in class names into spaces, separate the words of UCF101's camel case, and word the names of caltech101, \
eurosat, oxford-pets, stanford-cars and sun397 as CoOp does (docs/protocols.md). folders: keep the names of the data set."""
    names_file: str | None = setting(None, protocol=True)
    """JSON file of class names by class folder. A name is a string or a list of strings, of which the first counts. null takes the names \
by data.name and data.names."""
    merge_folders: bool = setting(False)
    """Take all folders of images below a class's folder as that class. Without it, a class folder with several folders of images and no \
image of its own is an error, as these folders may be the classes."""
    unreadable: Literal["stop", "skip"] = setting("stop")
    """stop: an unreadable or missing image is an error. skip: open every image once at the start, leave such images out, and name \
them."""
    classes_per_task: int = setting(10, protocol=True, short_help=True)
    """New classes per task. The last task may have fewer."""
    tasks: list[int] | None = setting(None, protocol=True)
    """New classes of each of the first tasks; the tasks after them have data.classes_per_task. [50] is a base of 50 classes, and \
[3, 2, 2] are three tasks of 7 classes. null cuts all tasks alike."""
    order: int | ClassOrder | None = setting(1993, protocol=True, short_help=True)
    """Class order: a number n for numpy.random.RandomState(n).permutation, the name of an order that others use, or null for the order of \
the data set."""
    max_images_per_class: int | None = setting(None, protocol=True, short_help=True)
    """Largest number of images per class in each part, the first ones, for small trials. null uses all images. For few-shot learning take \
data.shots."""
    shots: int | None = setting(None, protocol=True)
    """Training images per class, for few-shot learning: drawn at random from the training part alone, after validation images are taken \
out. The part that is scored stays whole, unlike with data.max_images_per_class. A class with fewer training images is an error. null \
takes all."""
    shots_seed: int = setting(1)
    """Seed n of data.shots: a class's images are drawn by numpy.random.RandomState(n), whatever the order of the classes. Fewer shots of \
one seed are part of more."""
    test_fraction: float = setting(0.3, protocol=True)
    """Share of each class held out for testing, if the data has no split of its own."""
    evaluate_on: Literal["test", "validation"] = setting("test", protocol=True)
    """validation: score on validation images, so that settings can be chosen without the test images. They are the validation part that \
the data set's publishers set apart, or else a part of the training images, held out. With test, a published validation part is left out."""
    validation_fraction: float = setting(0.25)
    """Share of each class's training images held out when data.evaluate_on is validation and the data set has no published validation \
part."""
    evaluate_global: bool = setting(True)
    """After every task, also score the test images of all tasks, future ones too, against all class names (the paper's Table II and \
figure 5). This encodes every test image after each task, about twice the evaluation."""

    def __post_init__(self) -> None:
        positive("data", self, "classes_per_task")
        if self.tasks is not None:
            require(
                bool(self.tasks) and min(self.tasks) > 0,
                "data.tasks",
                "sizes of one task or more, 1 or above",
                self.tasks,
            )
        for name in ("test_fraction", "validation_fraction"):
            value = getattr(self, name)
            require(0 < value < 1, f"data.{name}", "between 0 and 1", value)
        if isinstance(self.order, int):
            require(0 <= self.order < 2**32, "data.order", "from 0 to 2**32 - 1", self.order)
        else:
            require(
                fits(self.order, ClassOrder | None), "data.order", type_in_words(int | ClassOrder | None), self.order
            )
        for name in ("max_images_per_class", "shots"):
            if getattr(self, name) is not None:
                positive("data", self, name)
        require(0 <= self.shots_seed < 2**32, "data.shots_seed", "from 0 to 2**32 - 1", self.shots_seed)
        if self.name == "digits" and self.root is not None:
            raise ValueError(
                f"data.root must not be given with data.name digits, which comes with scikit-learn; got {self.root!r}"
            )
        if self.download and self.name != "cifar100":
            raise ValueError(f"data.download is for data.name cifar100 alone; got data.name {self.name}")
        if (self.train_list is None) != (self.test_list is None):
            raise ValueError("data.train_list and data.test_list must be given together; got one of them")
        for name in ("root", "train_list", "test_list", "class_list", "names_file"):
            require(getattr(self, name) != "", f"data.{name}", "a path", "")
        for name in ("class_list", "names_file"):
            if getattr(self, name) is not None and self.name in _WITHOUT_FOLDERS:
                raise ValueError(f"data.{name} is for data sets in class folders; {self.name} has none")
        if self.train_list is not None and self.name not in _SPLIT_BY_LISTS:
            raise ValueError(
                f"data.train_list is for data.name {', '.join(_SPLIT_BY_LISTS)}; got data.name {self.name}"
            )
