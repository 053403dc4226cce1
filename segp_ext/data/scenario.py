"""A class-incremental scenario: ordered tasks of class names with their training and test images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from segp_ext.config import DataConfig
from segp_ext.data.images import SizedDataset


class LabelledImages:
    """A map-style dataset over image sources, opened when asked for.

    Args:
        sources: one entry per image.
        labels: its class, an index into the task's class names.
        opener: turns a source into a PIL image or uint8 `[3, H, W]` pixels.
    """

    def __init__(self, sources: Sequence[Any], labels: Sequence[int], opener: Callable[[Any], Any]) -> None:
        if len(sources) != len(labels):
            raise ValueError(f"as many labels as images are needed; got {len(labels)} for {len(sources)}")
        self.sources, self.labels, self.opener = sources, list(labels), opener

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.opener(self.sources[index]), self.labels[index]


@dataclass
class Collection:
    """A data set before it is cut into tasks: for every class its name and the sources of its images.

    `fingerprints` gives a stable text per source (a relative path, say), from which the split's hash is made.
    """

    name: str
    class_names: list[str]
    train: list[list[Any]]
    test: list[list[Any]]
    opener: Callable[[Any], Any]
    fingerprint: Callable[[Any], str]


@dataclass
class Task:
    """One step of the scenario; labels are indices into `class_names`."""

    class_names: list[str]
    train: SizedDataset
    test: SizedDataset


@dataclass
class Scenario:
    """Tasks in learning order. `split_hash` changes when any image changes its part, its class or its place."""

    name: str
    tasks: list[Task]
    split_hash: str

    @property
    def class_names(self) -> list[str]:
        """Names of all classes in learning order."""
        return [name for task in self.tasks for name in task.class_names]


def hold_out(sources: list[Any], fraction: float, seed: int) -> tuple[list[Any], list[Any]]:
    """Splits one class's sources into (kept, held out) at random under `seed`; at least one goes to each side if there are two."""
    order = np.random.RandomState(seed).permutation(len(sources))
    held = min(max(1, round(len(sources) * fraction)), len(sources) - 1) if len(sources) > 1 else 0
    chosen = set(order[:held].tolist())
    kept = [s for i, s in enumerate(sources) if i not in chosen]
    return kept, [s for i, s in enumerate(sources) if i in chosen]


def make_scenario(collection: Collection, config: DataConfig) -> Scenario:
    """Orders the classes, holds out validation images where asked, and cuts the classes into tasks.

    Raises:
        ValueError: for class names that repeat, or a class without training or test images.
    """
    count = len(collection.class_names)
    first: dict[str, int] = {}
    for index, name in enumerate(collection.class_names):
        if name in first:
            raise ValueError(
                f"class name {name!r} stands for two classes of {collection.name} (number {first[name]} and {index}); names must differ"
            )
        first[name] = index
    order = (
        np.arange(count) if config.order_seed is None else np.random.RandomState(config.order_seed).permutation(count)
    )

    digest = hashlib.sha256()
    tasks: list[Task] = []
    for start in range(0, count, config.classes_per_task):
        classes = [int(c) for c in order[start : start + config.classes_per_task]]
        parts: dict[str, tuple[list[Any], list[int]]] = {"train": ([], []), "test": ([], [])}
        for label, c in enumerate(classes):
            train, test = collection.train[c], collection.test[c]
            if config.evaluate_on == "validation":
                train, test = hold_out(train, config.validation_fraction, seed=c)
            for part, sources in (("train", train), ("test", test)):
                if config.max_images_per_class is not None:
                    sources = sources[: config.max_images_per_class]
                if not sources:
                    asked = "validation" if part == "test" and config.evaluate_on == "validation" else part
                    raise ValueError(
                        f"class {collection.class_names[c]!r} of {collection.name} has no {asked} image; every class needs at least one"
                    )
                parts[part][0].extend(sources)
                parts[part][1].extend([label] * len(sources))
                digest.update(f"{part}\0{collection.class_names[c]}\0".encode())
                for source in sources:
                    digest.update(f"{collection.fingerprint(source)}\0".encode())
        tasks.append(
            Task(
                [collection.class_names[c] for c in classes],
                LabelledImages(*parts["train"], collection.opener),
                LabelledImages(*parts["test"], collection.opener),
            )
        )
    return Scenario(collection.name, tasks, digest.hexdigest())
