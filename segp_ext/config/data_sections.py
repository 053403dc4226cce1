"""The sections of settings for the images: which data set, how it is split into tasks, and how its images are read."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from segp_ext.config.checks import not_negative, positive, require, require_prompt
from segp_ext.config.plain_values import fits, from_dict, type_in_words
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
Setting = Literal["class-incremental", "global", "task-known"]
"""Which class names compete for an image in an evaluation."""
PROMPT_LISTS = ("clip", "imagenet", "imagenet-simple")
"""Names that `data.prompts` takes."""
ALL_CLASSES = 10**9
"""Classes of a task that takes all there are."""
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
    prompts: str | list[str] | None = setting(None, protocol=True)
    """Prompts of the classes, with {} for the name; the mean of their unit embeddings is a class's text embedding, and the first is the \
plain one. A list, or the name of a list: clip (the list that CLIP's authors used for the data set), imagenet or imagenet-simple (their 80 \
and 7 for ImageNet, from open_clip). null takes template alone."""
    descriptions: str | None = setting(None, protocol=True)
    """JSON file of sentences by class name, {"name": ["sentence", ...]}: the prompts of these classes. {} stands for the name, and a \
sentence without it stays as it is. Classes that the file leaves out have data.prompts."""
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
    sources: list[dict[str, Any]] | None = setting(None, protocol=True)
    """A stream of several data sets, in learning order: for each one its settings of this section, as {name: dtd, shots: 16} or {root: \
photos}. A source is one task of all its classes, in its own order, unless it sets tasks, classes_per_task or order. Other settings it \
takes from this section; a relative root lies in data.root (docs/streams.md)."""
    source_order: list[str] | None = setting(None, protocol=True)
    """Names of all data.sources in the order in which they are learnt; null takes the order in which they stand."""
    title: str | None = setting(None, protocol=True)
    """Name of the data set in results, and of a source in class names (title/class). null takes the data set's own."""
    shared_names: Literal["qualified", "same"] = setting("qualified", protocol=True)
    """Class names that several data.sources have. qualified: they are different classes, learnt as source/class; the text encoder reads \
the class alone. same: they are one class, whose later images come in new looks; needs known_classes update or train."""
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
    """After every task, also score the test images of all tasks, future ones too: against all class names (the paper's Table II and \
figure 5), and against the names of their own task. This encodes every test image after each task, about twice the evaluation."""
    setting: Setting = setting("class-incremental", protocol=True)
    """Which names compete in the numbers that lead the tables. class-incremental: all classes seen. global: the names of all tasks. \
task-known: the names of the image's own task. Other settings than the first need data.evaluate_global."""

    def __post_init__(self) -> None:
        positive("data", self, "classes_per_task")
        if self.tasks is not None:
            require(
                bool(self.tasks) and min(self.tasks) > 0,
                "data.tasks",
                "sizes of one task or more, 1 or above",
                self.tasks,
            )
        if isinstance(self.prompts, str):
            listed = f"a list of prompts, or one of {', '.join(PROMPT_LISTS)}"
            require(self.prompts in PROMPT_LISTS, "data.prompts", listed, self.prompts)
        elif self.prompts is not None:
            require(bool(self.prompts), "data.prompts", "one prompt or more, or null", self.prompts)
            for number, prompt in enumerate(self.prompts, start=1):
                require_prompt(f"data.prompts: prompt {number}", prompt)
                require(self.prompts.count(prompt) == 1, f"data.prompts: prompt {number}", "there once", prompt)
        require(self.title is None or bool(self.title.strip("/ ")), "data.title", "a name or null", self.title)
        if self.setting != "class-incremental":
            require(self.evaluate_global, "data.evaluate_global", f"true with data.setting {self.setting}", False)
        check_sources(self)
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
        for name in ("root", "train_list", "test_list", "class_list", "names_file", "descriptions"):
            require(getattr(self, name) != "", f"data.{name}", "a path", "")
        for name in ("class_list", "names_file"):
            if getattr(self, name) is not None and self.name in _WITHOUT_FOLDERS:
                raise ValueError(f"data.{name} is for data sets in class folders; {self.name} has none")
        if self.train_list is not None and self.name not in _SPLIT_BY_LISTS:
            raise ValueError(
                f"data.train_list is for data.name {', '.join(_SPLIT_BY_LISTS)}; got data.name {self.name}"
            )


_OF_THE_STREAM = ("sources", "source_order", "shared_names", "evaluate_on", "evaluate_global", "setting", "unreadable")
"""Settings that hold for all data sets of a stream alike."""
_OF_A_SOURCE = ("class_list", "names_file", "train_list", "test_list", "tasks", "descriptions")
"""Settings that only one of its data sets can have."""


def check_sources(data: DataConfig) -> None:
    """Refuses sources that are no settings of a data set, and what does not go with sources.

    Raises:
        ValueError: naming the source and the setting.
    """
    if data.sources is None:
        require(data.source_order is None, "data.source_order", "null without data.sources", data.source_order)
        return
    require(bool(data.sources), "data.sources", "one data set or more, or null", data.sources)
    require(data.name == "auto", "data.name", "left out with data.sources, which name their own", data.name)
    for name in _OF_A_SOURCE:
        value = getattr(data, name)
        require(value is None, f"data.{name}", "set in a source, with data.sources", value)
    for number, given in enumerate(data.sources, start=1):
        try:
            source_config(data, given)
        except ValueError as error:
            raise ValueError(f"data.sources, number {number}: {error}") from error


def source_config(data: DataConfig, given: dict[str, Any]) -> DataConfig:
    """Makes the settings of one source of a stream: its own, and for the others the stream's.

    Args:
        data: settings of the stream.
        given: what one entry of `data.sources` sets.

    Raises:
        ValueError: naming the setting that does not fit.
    """
    for name in _OF_THE_STREAM:
        if name in given:
            raise ValueError(f"data.{name} holds for all sources alike; set it beside data.sources")
    if not {"name", "root"} & given.keys():
        raise ValueError("a source needs the name of a data set, or the root of your own images")
    own: dict[str, Any] = dict.fromkeys(("sources", "source_order", "title", "order"))
    own |= {"name": "auto", "classes_per_task": ALL_CLASSES}
    root = given.get("root")
    if root is None:
        own["root"] = None if given.get("name") == "digits" else data.root
    elif isinstance(root, str) and root and data.root is not None:
        given = {**given, "root": str(Path(data.root, root))}
    values = {f.name: getattr(data, f.name) for f in fields(data)} | own | given
    return from_dict(DataConfig, values, "data.")
