"""The sections of settings for the images: which data set, how it is split into tasks, and how its images are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from segp_ext.config.checks import not_negative, positive, require
from segp_ext.config.plain_values import fits, type_in_words

DataName = Literal["auto", "digits", "folder", "cifar100", "imagenet-r", "imagenet100", "cub200", "ucf101"]
ClassOrder = Literal["cifar100-icarl", "imagenet100-numpy1993", "imagenet-r-mgclip", "imagenet-r-rapf", "cub200-rapf"]


@dataclass
class LoadingConfig:
    """How images are read."""

    resize: Literal["exact", "device"] = "exact"
    """exact: the model's own preprocessing by PIL, as published numbers have it; device: small images of one size are kept as they are \
and resized on the device, which saves memory and decoding time and differs from PIL by rounding."""
    orientation: Literal["stored", "exif"] = "stored"
    """stored: pixels as the file has them, as torchvision's loaders and published numbers do; exif: images that a camera has marked as \
turned are turned upright."""
    workers: int | None = None
    """Processes that decode images; none takes up to 8 per device on a GPU, and decodes in the main process on the CPU."""
    memory_gb: float | None = None
    """Gigabytes (10^9 bytes) of decoded images that each process keeps; none takes half of what is free, or of what a container or batch \
job leaves. Others are decoded every time, to the same pixels."""

    def __post_init__(self) -> None:
        for name in ("workers", "memory_gb"):
            if getattr(self, name) is not None:
                not_negative("loading", self, name)


@dataclass
class DataConfig:
    """Images, their split into tasks, and what is evaluated."""

    name: DataName = "auto"
    """digits: scikit-learn's handwritten digits; folder: your images, see root; cifar100, imagenet-r, imagenet100, cub200, ucf101: the \
benchmarks, in the layouts that their users have on disk; auto: folder if root is given, else digits."""
    root: str | None = None
    """Folder of the data set. For folder: {train,test}/<class>/* (val counts as test), <class>/* with lists or split by test_fraction, \
train/<class>/* alone, which is split so too, or Tiny-ImageNet's train/<wnid>/ with val/val_annotations.txt. \
configs/<data.name>.yaml says what each benchmark takes."""
    download: bool = False
    """Download CIFAR100 to root through torchvision if it is not there."""
    train_list: str | None = None
    """Split of a flat tree <root>/<class>/*: file of training images, one path a line, or YAML with a list data. Classes are the \
folders: labels beside the paths may not contradict them. A name that is no file here is looked for in root. Needs test_list."""
    test_list: str | None = None
    """The like for test images."""
    class_list: str | None = None
    """File of class folders to take, one a line (what follows it is ignored), in their order from then on; none takes all (imagenet100: \
the first 100 classes of ILSVRC)."""
    names: Literal["spaces", "folders"] = "spaces"
    """spaces: underscores in class names become spaces, and UCF101's camel case separate words; folders: names stay as the data set \
has them."""
    names_file: str | None = None
    """JSON file of class names by class folder, each a text or a list of texts whose first is taken; none goes by data.name and names."""
    merge_folders: bool = False
    """Take all folders of images below a class's folder as that class. Without it, a class folder that holds no image itself but \
several folders of images is an error, as these may be the classes."""
    unreadable: Literal["stop", "skip"] = "stop"
    """stop: an unreadable or missing image is an error; skip: every image is opened once at the start, and those are left out and named."""
    classes_per_task: int = 10
    """New classes per task; the last task may have fewer."""
    order: int | ClassOrder | None = 1993
    """Class order: a number n for numpy.random.RandomState(n).permutation, the name of an order in use by others, or none for the data \
set's own."""
    max_images_per_class: int | None = None
    """Use at most so many images of a class in each part, for small trials; none uses all."""
    test_fraction: float = 0.3
    """Share of each class held out for testing where the data has no split of its own."""
    evaluate_on: Literal["test", "validation"] = "test"
    """validation holds part of the training images out and scores on it, so that settings can be chosen without the test images."""
    validation_fraction: float = 0.25
    """Share of each class's training images held out when evaluate_on is validation."""
    evaluate_global: bool = True
    """After every task, also score all tasks' test images, future ones too, against all class names (the paper's Table II and figure 5). \
It encodes every test image after each task, about twice the evaluation."""

    def __post_init__(self) -> None:
        positive("data", self, "classes_per_task")
        for name in ("test_fraction", "validation_fraction"):
            value = getattr(self, name)
            require(0 < value < 1, f"data.{name}", "between 0 and 1", value)
        if isinstance(self.order, int):
            require(0 <= self.order < 2**32, "data.order", "from 0 to 2**32 - 1", self.order)
        else:
            require(
                fits(self.order, ClassOrder | None), "data.order", type_in_words(int | ClassOrder | None), self.order
            )
        if self.max_images_per_class is not None:
            positive("data", self, "max_images_per_class")
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
        for name in ("train_list", "class_list", "names_file"):
            if getattr(self, name) is not None and self.name in ("digits", "cifar100"):
                raise ValueError(f"data.{name} is for data sets in class folders; {self.name} has none")
