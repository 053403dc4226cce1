"""Finds image data sets on disk and cuts them into tasks. Start with `load_scenario`.

To add a benchmark: write a function that reads it, enter it in `readers.READERS`, and add its name to
`segp_ext.config.data_sections.DataName`.

The modules, in the order in which a data set passes through them:

- Data sets, each found as a `Collection`: `digits`, a user's own `folder` (with `tiny_imagenet`), and the benchmarks that `readers` lists.
- Readers of benchmarks: `benchmarks`, `class_folder_sets`, `text_list_sets`, `matlab_list_sets`, `mnist`. What the last four share is in
  `public_set`, `image_lists` and, for CoOp's split files, `split_zhou`.
- Layouts that they share: `layouts` (`train/` and `test/`, `train/` alone, no parts), `split_lists`, `list_lines`.
- Images below class folders: `tree`; which folders and files count: `class_folders`, `train_test_folders`, `files`.
- Class names, from folders and files: `class_names`, `imagenet`.
- Prompts of classes: `wordings`.
- Tasks: `stream` joins several data sets, `scenario` cuts a `Collection` into a `Scenario`, and
  `unreadable` leaves out images that cannot be read.
- Pixels: `items` takes (image, label) out of any data set, `decoding` makes 8-bit RGB, `images` keeps pixels for the backbone.
- Labelled images that are not learnt: `labelled_folder`; images that are there twice: `duplicates`.
- Helpers: `array_pickle` reads CIFAR100's pickles without running anything in them, `messages` holds phrases of errors.
"""

from __future__ import annotations

import warnings
from typing import Literal, get_args, get_type_hints

from segp_ext.config import DataConfig, from_dict
from segp_ext.data import digits, folder
from segp_ext.data.messages import several
from segp_ext.data.readers import READERS
from segp_ext.data.scenario import Collection, Scenario, Task, make_scenario
from segp_ext.data.stream import in_order, joined_stream, source_configs, source_name
from segp_ext.data.unreadable import leave_out_unreadable

__all__ = ["Collection", "Scenario", "Task", "held_out", "load_collection", "load_scenario", "named_source"]


def load_collection(config: DataConfig) -> Collection:
    """Finds the data set that `config` names, without opening its images.

    Raises:
        OSError: if the data is not where `config` says.
        ValueError: if it cannot be used; the message names the class or file.
    """
    if config.name == "digits" or (config.name == "auto" and config.root is None):
        return digits.digits()
    if config.name in ("auto", "folder"):
        return folder.folder(config)
    return READERS[config.name](config)


def load_scenario(config: DataConfig) -> Scenario:
    """Loads the data set that `config` names and cuts it into tasks; of several (`data.sources`), one after the other.

    Raises:
        OSError: if the data, or an image that a list names, is not where it should be.
        ValueError: if the data cannot be used; the message names the class or file.
    """
    if config.sources is None:
        return _load_one(config)
    parts = []
    for number, source in enumerate(source_configs(config), start=1):
        try:
            parts.append(_load_one(source))
        except (OSError, ValueError) as error:
            raise type(error)(f"{source_name(source, number)}: {error}") from error
    return joined_stream(in_order(parts, config.source_order), config)


def _load_one(config: DataConfig) -> Scenario:
    """Loads one data set and cuts it into tasks."""
    collection = load_collection(config)
    if config.unreadable == "skip":
        leave_out_unreadable(collection)
    elif collection.missing:
        raise FileNotFoundError(
            f"{len(collection.missing)} image(s) are listed or linked but not in {config.root}: {several(collection.missing)}; "
            f"--data.unreadable skip leaves them out{collection.page and f', and {collection.page} has them'}"
        )
    if collection.stray:
        warnings.warn(
            f"{len(collection.stray)} file(s) of {collection.name} are left alone: no ending of an image, or in no class folder: "
            f"{several(collection.stray)}",
            RuntimeWarning,
            stacklevel=3,
        )
    return make_scenario(collection, config)


def named_source(setting: str, source: str, unreadable: Literal["stop", "skip"] = "stop") -> Scenario:
    """Loads a data set as one task of all its classes.

    Args:
        setting: the setting that names the data set, for messages.
        source: a folder of images, "digits", or NAME:FOLDER with a name that `data.name` takes.
        unreadable: what to do with images that cannot be read, as `data.unreadable`.

    Raises:
        ValueError: naming the setting, if the data set cannot be used.
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
    """Loads data sets for zero-shot retention, by the names under which they are reported.

    Args:
        sources: the data sets, as `named_source` takes them.
        unreadable: what to do with images that cannot be read, as `data.unreadable`.

    Raises:
        ValueError: if a data set cannot be used, or two have the same name.
    """
    found: dict[str, Scenario] = {}
    for source in sources:
        scenario = named_source("held_out", source, unreadable)
        if scenario.name in found:
            raise ValueError(
                f"held_out: two data sets are named {scenario.name!r}; give them folders of different names"
            )
        found[scenario.name] = scenario
    return found
