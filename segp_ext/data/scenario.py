"""Cuts a data set into a class-incremental scenario: ordered tasks of classes with their training and test images."""

from __future__ import annotations

import hashlib
import importlib.resources
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from segp_ext.clip.wording import PLAIN, Wording, first_wordings
from segp_ext.config import DataConfig
from segp_ext.data.items import SizedDataset, labels_of
from segp_ext.data.wordings import wordings


class LabelledImages:
    """A map-style data set over image sources, each opened when it is asked for.

    Args:
        sources: one entry per image.
        labels: the class of each image, an index into the task's class names.
        opener: turns a source into a PIL image or uint8 `[3, H, W]` pixels, always the same ones.

    Raises:
        ValueError: if there are not as many labels as images.
    """

    draws_nothing = True
    """Says that reading an image draws no random numbers, so that no generator need be seeded for it."""

    def __init__(self, sources: Sequence[Any], labels: Sequence[int], opener: Callable[[Any], Any]) -> None:
        if len(sources) != len(labels):
            raise ValueError(f"as many labels as images are needed; got {len(labels)} for {len(sources)}")
        self.sources, self.labels, self.opener = sources, list(labels), opener

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.opener(self.sources[index]), self.labels[index]


class Joined:
    """The data sets of several tasks as one, with one label for each class.

    Args:
        parts: the data set of each task, with labels within the task.
        places: the label in the joined data set of every label of each task.
    """

    def __init__(self, parts: Sequence[SizedDataset], places: Sequence[Sequence[int]]) -> None:
        self.parts = parts
        self.draws_nothing = all(getattr(part, "draws_nothing", False) for part in parts)
        self.ends = np.cumsum([len(part) for part in parts])
        self.labels = [
            own[label] for part, own in zip(parts, places, strict=True) for label in labels_of(part).tolist()
        ]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        part = int(np.searchsorted(self.ends, index, side="right"))
        return self.parts[part][index - int(self.ends[part]) + len(self.parts[part])][0], self.labels[index]


class PixelArray:
    """Images in one array, uint8 `[N, 3, H, W]`. The source of an image is its row's number."""

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def open(self, row: int) -> np.ndarray:
        """Returns the pixels `[3, H, W]` of one image."""
        return self.pixels[row]

    def fingerprint(self, row: int) -> str:
        """Returns the SHA-256 of one image's pixels, in hexadecimal."""
        return hashlib.sha256(np.ascontiguousarray(self.pixels[row]).tobytes()).hexdigest()


@dataclass
class Collection:
    """A data set before it is cut into tasks: the name of every class, and the sources of its images.

    Attributes:
        name: the data set's name in results.
        class_names: one per class, in the data set's own order.
        train: the sources of each class's training images.
        test: the sources of each class's test images.
        opener: turns a source into a PIL image or uint8 `[3, H, W]` pixels; raises ValueError naming the source if it cannot be read.
        fingerprint: turns a source into a stable string (relative path and file size, or a hash of pixels) for the split's hash.
        layout: one line about the layout found on disk.
        missing: images that lists, annotations or links name but that are not there, by path in the data set; not among the sources.
        stray: files and entries of lists that are not images, and images in no class folder, by path in the data set; left alone.
        validation: the sources of each class's validation images, where the data set's publishers set such a part apart; else None. They
            are neither learnt nor tested on, unless `data.evaluate_on` is validation.
        page: where the data set's files are published; empty if that is not known.
    """

    name: str
    class_names: list[str]
    train: list[list[Any]]
    test: list[list[Any]]
    opener: Callable[[Any], Any]
    fingerprint: Callable[[Any], str]
    layout: str
    missing: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    validation: list[list[Any]] | None = None
    page: str = ""

    def parts(self) -> dict[str, list[list[Any]]]:
        """Returns the sources of each class's images, by part: train, test and, where it is published, validation."""
        published = {} if self.validation is None else {"validation": self.validation}
        return {"train": self.train, "test": self.test, **published}


@dataclass
class Task:
    """One step of the scenario.

    Attributes:
        class_names: names of the task's classes.
        train: training images; labels are indices into `class_names`.
        test: test images, labelled as the training images are.
        source: name of the data set that it comes from.
        wording: how the text encoder reads its classes, by name; other classes are read by the learner's template.
    """

    class_names: list[str]
    train: SizedDataset
    test: SizedDataset
    source: str = ""
    wording: dict[str, Wording] = field(default_factory=dict)


@dataclass
class Scenario:
    """Tasks in learning order.

    Attributes:
        name: the data set's name in results.
        tasks: the tasks.
        split_hash: SHA-256 that changes when any image changes its part, its class or its place; files also when they change their size.
        layout: one line about the layout found on disk.
    """

    name: str
    tasks: list[Task]
    split_hash: str
    layout: str = ""

    @property
    def class_names(self) -> list[str]:
        """Lists the names of all classes in learning order, each once."""
        return [*dict.fromkeys(name for task in self.tasks for name in task.class_names)]

    @property
    def called(self) -> list[str]:
        """Lists how the text encoder's prompts name the classes, in the order of `class_names`."""
        wording = self.wording
        return [wording.get(name, PLAIN).called or name for name in self.class_names]

    @property
    def wording(self) -> dict[str, Wording]:
        """How the text encoder reads the classes, by name; the first task of a class counts."""
        return first_wordings((task.class_names, task.wording) for task in self.tasks)


def hold_out(sources: list[Any], fraction: float, seed: int) -> tuple[list[Any], list[Any]]:
    """Splits one class's sources at random into (kept, held out). Where there are two sources or more, each side gets at least one.

    Args:
        sources: the sources.
        fraction: share to hold out, between 0 and 1.
        seed: of `numpy.random.RandomState`.
    """
    order = np.random.RandomState(seed).permutation(len(sources))
    held = min(max(1, round(len(sources) * fraction)), len(sources) - 1) if len(sources) > 1 else 0
    chosen = set(order[:held].tolist())
    kept = [s for i, s in enumerate(sources) if i not in chosen]
    return kept, [s for i, s in enumerate(sources) if i in chosen]


def draw_shots(sources: list[Any], shots: int, seed: int) -> list[Any]:
    """Draws `shots` of one class's sources at random. They keep their order, and a smaller draw is part of a larger one.

    Args:
        sources: the sources, at least `shots`.
        shots: how many to draw.
        seed: of `numpy.random.RandomState`, whose permutation of the sources' numbers begins with the ones drawn.
    """
    drawn = set(np.random.RandomState(seed).permutation(len(sources))[:shots].tolist())
    return [s for i, s in enumerate(sources) if i in drawn]


def named_orders() -> dict[str, list[int]]:
    """Returns the class orders that others use, by name. `segp_ext.config.protocols` says whose each one is."""
    text = importlib.resources.files("segp_ext.data").joinpath("class_orders.json").read_text(encoding="utf-8")
    return json.loads(text)


def class_order(order: int | str | None, count: int) -> list[int]:
    """Returns the order in which `count` classes are learnt, as indices.

    Args:
        order: a seed for a permutation, the name of an order, or None for the data set's own order.
        count: number of classes.

    Raises:
        ValueError: for a named order of another number of classes.
    """
    if order is None:
        return list(range(count))
    if isinstance(order, int):
        return np.random.RandomState(order).permutation(count).tolist()
    permutation = named_orders()[order]
    if len(permutation) != count:
        raise ValueError(
            f"data.order {order!r} is an order of {len(permutation)} classes, but the data set has {count}; "
            "give all classes of its benchmark, or a number as data.order"
        )
    return permutation


def _chosen_sources(collection: Collection, c: int, config: DataConfig) -> dict[str, list[Any]]:
    """Returns the sources of class `c` that a run learns ("train") and scores ("test").

    Raises:
        ValueError: naming a class without images in one part, or with fewer training images than `data.shots`.
    """
    name = f"class {collection.class_names[c]!r} of {collection.name}"
    train, test, scored = collection.train[c], collection.test[c], "test"
    if config.evaluate_on == "validation":
        scored = "validation"
        if collection.validation is None:
            train, test = hold_out(train, config.validation_fraction, seed=c)
        else:
            test = collection.validation[c]
    for part, sources in (("train", train), (scored, test)):
        if not sources:
            raise ValueError(f"{name} has no {part} image; every class needs at least one")
    if config.shots is not None:
        if config.shots > len(train):
            raise ValueError(
                f"data.shots is {config.shots}, but {name} has {len(train)} training image(s) to draw from"
            )
        train = draw_shots(train, config.shots, config.shots_seed)
    return {"train": train[: config.max_images_per_class], "test": test[: config.max_images_per_class]}


def task_sizes(count: int, config: DataConfig) -> list[int]:
    """Returns the number of classes of each task, for `count` classes.

    Raises:
        ValueError: if `data.tasks` asks for more classes than there are.
    """
    first, usual = config.tasks or [], config.classes_per_task
    left = count - sum(first)
    if left < 0:
        raise ValueError(f"data.tasks {first} asks for {sum(first)} classes, but the data set has {count}")
    return [*first, *[usual] * (left // usual), *([left % usual] if left % usual else [])]


def make_scenario(collection: Collection, config: DataConfig) -> Scenario:
    """Orders the classes, holds out validation images and draws shots where asked, and cuts the classes into tasks.

    Raises:
        ValueError: for class names that repeat, a class without training or test images or with fewer than `data.shots`, a named order of
            another number of classes, or tasks of more classes than there are.
    """
    count = len(collection.class_names)
    first: dict[str, int] = {}
    for index, name in enumerate(collection.class_names):
        if name in first:
            raise ValueError(
                f"class name {name!r} stands for two classes of {collection.name} (number {first[name]} and {index}); names must "
                "differ; --data.names_file gives others"
            )
        first[name] = index
    order, wording = class_order(config.order, count), wordings(config, collection.class_names)
    title = config.title or collection.name
    digest = hashlib.sha256()
    tasks: list[Task] = []
    sizes = task_sizes(count, config)
    for end, size in zip(itertools.accumulate(sizes), sizes, strict=True):
        classes = order[end - size : end]
        parts: dict[str, tuple[list[Any], list[int]]] = {"train": ([], []), "test": ([], [])}
        for label, c in enumerate(classes):
            for part, sources in _chosen_sources(collection, c, config).items():
                parts[part][0].extend(sources)
                parts[part][1].extend([label] * len(sources))
                digest.update(f"{part}\0{collection.class_names[c]}\0".encode(errors="surrogateescape"))
                for source in sources:
                    digest.update(f"{collection.fingerprint(source)}\0".encode(errors="surrogateescape"))
        names = [collection.class_names[c] for c in classes]
        train, test = (LabelledImages(*parts[part], collection.opener) for part in ("train", "test"))
        tasks.append(Task(names, train, test, title, {name: wording[name] for name in names if name in wording}))
    return Scenario(title, tasks, digest.hexdigest(), collection.layout)
