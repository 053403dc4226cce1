"""Data sets and their division into tasks."""

from __future__ import annotations

from typing import get_args, get_type_hints

from segp_ext.config import DataConfig, from_dict
from segp_ext.data.scenario import Scenario, Task, make_scenario

__all__ = ["Scenario", "Task", "held_out", "load_scenario"]


def load_scenario(config: DataConfig) -> Scenario:
    """Loads the data set that `config` names and cuts it into tasks.

    Raises:
        FileNotFoundError: if the data is not where `config` says.
        ValueError: if it cannot be used; the message names the class or file.
    """
    if config.name == "digits" or (config.name == "auto" and config.root is None):
        from segp_ext.data.digits import digits

        collection = digits()
    else:
        from segp_ext.data.folder import folder

        collection = folder(config.root, config.test_fraction)
    return make_scenario(collection, config)


def held_out(sources: list[str]) -> dict[str, Task]:
    """Loads data sets for zero-shot retention, each as one task of all its classes, by the names they are reported under.

    Args:
        sources: each a folder of images, a data set that needs none ("digits"), or NAME:FOLDER with a name that `data.name` takes.
    """
    names = get_args(get_type_hints(DataConfig)["name"])
    found: dict[str, Task] = {}
    for source in sources:
        name, separator, root = source.partition(":")
        if not separator or name not in names:
            name, root = ("digits", "") if source == "digits" else ("folder", source)
        scenario = load_scenario(from_dict(DataConfig, {"name": name, "root": root or None, "classes_per_task": 10**9}))
        if scenario.name in found:
            raise ValueError(
                f"held_out: two data sets are named {scenario.name!r}; give them folders of different names"
            )
        found[scenario.name] = scenario.tasks[0]
    return found
