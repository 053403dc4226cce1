"""Joins data sets into a stream: their tasks one after the other, with names that no two of them share by accident."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence

from segp_ext.clip.wording import PLAIN
from segp_ext.config import DataConfig
from segp_ext.config.data_sections import source_config
from segp_ext.data.messages import several
from segp_ext.data.scenario import Scenario, Task

_LONGEST_TITLE = 100
"""Letters of a stream's own name that lists all of its data sets."""


def source_configs(config: DataConfig) -> list[DataConfig]:
    """Returns the settings of the data sets that a run learns, in their order; `config` itself without `data.sources`."""
    return [config] if config.sources is None else [source_config(config, given) for given in config.sources]


def source_name(config: DataConfig, number: int) -> str:
    """Names a source in messages, before its data set is read.

    Args:
        config: settings of the source.
        number: its number in `data.sources`, from 1.
    """
    return f"data.sources, number {number} ({config.title or (config.root if config.name == 'auto' else config.name)})"


def in_order(parts: Sequence[Scenario], order: Sequence[str] | None) -> list[Scenario]:
    """Puts data sets into the order of `data.source_order`.

    Args:
        parts: the data sets, in the order of `data.sources`.
        order: their names in another order; None leaves them as they are.

    Raises:
        ValueError: for an order that does not name each of them once, and for two of one name.
    """
    names = [part.name for part in parts]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"data.sources: two data sets are named {several(twice)}; give one of them a title")
    if order is None:
        return [*parts]
    unknown = [name for name in order if name not in names]
    if unknown:
        raise ValueError(
            f"data.source_order names {several(unknown)}, but the data sets are {several(names, len(names))}"
        )
    if sorted(order) != sorted(names):
        missing = [name for name in names if name not in order]
        wrong = (
            f"leaves out {several(missing)}" if missing else f"names {several(Counter(order) - Counter(names))} twice"
        )
        raise ValueError(f"data.source_order {wrong}; it must name each of data.sources once")
    return [parts[names.index(name)] for name in order]


def joined_stream(parts: Sequence[Scenario], config: DataConfig) -> Scenario:
    """Joins data sets, each cut into tasks already, into one scenario.

    Args:
        parts: the data sets in learning order, with different names.
        config: settings of the stream.

    Returns:
        The scenario. Names that several data sets have are source/class, and read without the source; with `data.shared_names` same they
        stay, and stand for one class.

    Raises:
        ValueError: naming two classes that would have one name.
    """
    count = Counter(name for part in parts for name in part.class_names)
    shared = {name for name, times in count.items() if times > 1 and config.shared_names == "qualified"}
    digest = hashlib.sha256()
    tasks: list[Task] = []
    for part in parts:
        digest.update(f"{part.name}\0{part.split_hash}\0".encode(errors="surrogateescape"))
        tasks += [_qualified(task, shared) for task in part.tasks]
    names = Counter(name for task in tasks for name in task.class_names)
    twice = [name for name, times in names.items() if times > 1 and config.shared_names == "qualified"]
    if twice:
        raise ValueError(
            f"data.sources: two classes would be named {several(twice)}; give one of the data sets a title"
        )
    title = config.title or "+".join(part.name for part in parts)
    if config.title is None and len(title) > _LONGEST_TITLE:
        title = f"{parts[0].name}+{len(parts) - 1} more"
    return Scenario(title, tasks, digest.hexdigest(), "; ".join(part.layout for part in parts))


def _qualified(task: Task, shared: set[str]) -> Task:
    """Returns a task whose class names that other data sets have too begin with the data set's name."""
    own = [name for name in task.class_names if name in shared]
    if not own:
        return task
    new = {name: f"{task.source}/{name}" if name in shared else name for name in task.class_names}
    wording = {new[name]: wording for name, wording in task.wording.items()}
    for name in own:
        wording[new[name]] = dataclasses.replace(task.wording.get(name, PLAIN), called=name)
    return dataclasses.replace(task, class_names=[*new.values()], wording=wording)
