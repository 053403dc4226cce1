"""Data sets and their division into tasks."""

from __future__ import annotations

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, get_args, get_type_hints

from segp_ext.config import DataConfig, from_dict
from segp_ext.data.scenario import Collection, Scenario, Task, make_scenario

__all__ = ["Collection", "Scenario", "Task", "held_out", "load_collection", "load_scenario", "named_source"]


def load_collection(config: DataConfig) -> Collection:
    """Finds the data set that `config` names, without opening its images.

    Raises:
        OSError: if the data is not where `config` says.
        ValueError: if it cannot be used; the message names the class or file.
    """
    from segp_ext.data import benchmarks, digits, folder

    if config.name == "digits" or (config.name == "auto" and config.root is None):
        return digits.digits()
    readers = {
        "auto": folder.folder,
        "folder": folder.folder,
        "cifar100": benchmarks.cifar100,
        "imagenet-r": benchmarks.imagenet_r,
        "imagenet100": benchmarks.imagenet100,
        "cub200": benchmarks.cub200,
        "ucf101": benchmarks.ucf101,
    }
    return readers[config.name](config)


def load_scenario(config: DataConfig) -> Scenario:
    """Loads the data set that `config` names and cuts it into tasks.

    Raises:
        OSError: if the data, or an image that a list names, is not where it should be.
        ValueError: if it cannot be used; the message names the class or file.
    """
    from segp_ext.data.folder import several

    collection = load_collection(config)
    if config.unreadable == "skip":
        _leave_out_unreadable(collection)
    elif collection.missing:
        raise FileNotFoundError(
            f"{len(collection.missing)} image(s) are listed or linked but not in {config.root}: {several(collection.missing)}; "
            "--data.unreadable skip leaves them out"
        )
    if collection.stray:
        warnings.warn(
            f"{len(collection.stray)} file(s) of {collection.name} are left alone, as no images by their ending or in no class folder: "
            f"{several(collection.stray)}",
            RuntimeWarning,
            stacklevel=2,
        )
    return make_scenario(collection, config)


def named_source(setting: str, source: str, unreadable: Literal["stop", "skip"] = "stop") -> Scenario:
    """Loads a data set as one task of all its classes.

    Args:
        setting: the setting that names it, for messages.
        source: a folder of images, a data set that needs none ("digits"), or NAME:FOLDER with a name that `data.name` takes.
        unreadable: what to do with images that cannot be read, as `data.unreadable`.

    Raises:
        ValueError: naming the setting, if it cannot be used.
    """
    names = get_args(get_type_hints(DataConfig)["name"])
    name, separator, root = source.partition(":")
    if not separator or name not in names:
        name, root = ("digits", "") if source == "digits" else ("folder", source)
    settings = {"name": name, "root": root or None, "classes_per_task": 10**9, "unreadable": unreadable}
    try:
        return load_scenario(from_dict(DataConfig, settings))
    except (OSError, ValueError) as error:
        raise ValueError(f"{setting}: {source!r} cannot be used: {error}") from error


def held_out(sources: list[str], unreadable: Literal["stop", "skip"] = "stop") -> dict[str, Scenario]:
    """Loads data sets for zero-shot retention, see `named_source`, by the names they are reported under."""
    found: dict[str, Scenario] = {}
    for source in sources:
        scenario = named_source("held_out", source, unreadable)
        if scenario.name in found:
            raise ValueError(
                f"held_out: two data sets are named {scenario.name!r}; give them folders of different names"
            )
        found[scenario.name] = scenario
    return found


def _leave_out_unreadable(collection: Collection) -> None:
    """Opens every image once; takes those that cannot be read out of `collection` and says which."""
    from segp_ext.data.folder import several
    from segp_ext.runtime.progress import progress

    def trouble(source: Any) -> str | None:
        try:
            collection.opener(source)
        except (OSError, ValueError):
            return str(source)
        return None

    bad = list(collection.missing)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part, by_class in (("train", collection.train), ("test", collection.test)):
            sources = [source for of_class in by_class for source in of_class]
            found = dict(
                zip(sources, progress(pool.map(trouble, sources), f"opening {part}", len(sources)), strict=True)
            )
            for of_class in by_class:
                of_class[:] = [source for source in of_class if found[source] is None]
            bad += [text for text in found.values() if text is not None]
    if bad:
        warnings.warn(
            f"{len(bad)} image(s) of {collection.name} are unreadable or missing and were left out (--data.unreadable skip): "
            f"{several(bad)}",
            RuntimeWarning,
            stacklevel=3,
        )
