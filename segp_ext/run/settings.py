"""The settings of a run from files and changes, for the command line and for Python."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from segp_ext.config import Config, check_settings, dotted, with_method
from segp_ext.config.layers import build, files_for, merge
from segp_ext.config.settings_files import nested, read_settings
from segp_ext.run.directory import check_version


def load_config(
    *files: str | os.PathLike[str], protocol: str | None = None, changes: Mapping[str, Any] | None = None
) -> Config:
    """Returns the settings of a run, exactly as `python -m segp_ext.train` makes them from the same files and options.

    `changes` go before files, a later file before an earlier one, files before the protocol, and the protocol before the paper's
    defaults. Without a file and a protocol, a file of the package serves: the one named like `data.name`, else folder with `data.root`,
    else digits.

    ```python
    config = segp_ext.load_config("clip", "mine.yaml", changes={"training.epochs": 3, "data": {"root": "photos"}})
    learner = segp_ext.SeGPCL(model, config)
    ```

    Args:
        files: paths of YAML files, or names of files in the package: clip, digits, folder, cifar100 and other benchmarks.
        protocol: name of a protocol, such as "rapf-cub200"; it replaces the protocol that a file names.
        changes: single settings, by dotted name or nested.

    Raises:
        FileNotFoundError: for a file that does not exist.
        ValueError: naming the file or the setting that does not fit.
    """
    given = dict(changes or {})
    if protocol is not None:
        if given.get("protocol", protocol) != protocol:
            raise ValueError(f"protocol is given twice: {protocol!r}, and in changes {given['protocol']!r}")
        given["protocol"] = protocol
    values = nested(_plain(given))
    check_settings(Config, values)
    flat = dotted(values)
    return settle(layered([os.fspath(file) for file in files], flat), flat)


def layered(names: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Reads the files of settings and merges all layers; see `segp_ext.config.layers`.

    Args:
        names: paths of files, or names of files in the package.
        given: settings by dotted name that go before the files.

    Returns:
        Settings by dotted name, without defaults.

    Raises:
        FileNotFoundError: for a file that does not exist.
        ValueError: naming the file or the setting that does not fit, or a run of segp_ext 0.1.
    """
    files = files_for(names, given)
    for file in files:
        check_version(file.parent)
    return merge(map(read_settings, files), given)


def settle(settings: Mapping[str, Any], given: Mapping[str, Any]) -> Config:
    """Builds the configuration from the settings of `layered`, and checks it with the parts that it names.

    Raises:
        ValueError: naming the setting that does not fit.
    """
    config = build(settings, given)
    from segp_ext.method.named_parts import check_parts  # imports the models, which --help and errors do without

    check_parts(with_method(config))
    return config


def _plain(value: Any) -> Any:
    """Returns changes with paths as strings, and mappings and tuples as YAML has them."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value
