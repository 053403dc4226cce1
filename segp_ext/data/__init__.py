"""Data sets and their division into tasks."""

from __future__ import annotations

from segp_ext.config import DataConfig
from segp_ext.data.scenario import Scenario, Task, make_scenario

__all__ = ["Scenario", "Task", "load_scenario"]


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
