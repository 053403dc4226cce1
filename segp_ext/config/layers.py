"""The layers that settings come from, the lower ones first: defaults, protocol, files, and values given directly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segp_ext.config.imports import import_files
from segp_ext.config.methods import METHODS
from segp_ext.config.plain_values import dotted, fits, from_dict
from segp_ext.config.protocols import PROTOCOLS
from segp_ext.config.schema import Config
from segp_ext.config.settings_files import find_settings, nested, preset_names


def files_for(names: Sequence[str], given: Mapping[str, Any]) -> list[Path]:
    """Finds the files of settings for a run.

    Without names and without a protocol in `given`, the package has a file: the one named like `data.name`, else folder with `data.root`,
    else digits.

    Args:
        names: paths, or names of files in the package.
        given: settings by dotted name that go before the files.

    Raises:
        FileNotFoundError: naming a file that does not exist.
    """
    if names or "protocol" in given:
        return [find_settings(name) for name in names]
    if given.get("data.name") in preset_names():
        return [find_settings(given["data.name"])]
    return [find_settings("digits" if given.get("data.root") is None else "folder")]


def merge(files: Iterable[Mapping[str, Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """Merges all layers above the defaults. A later file goes before an earlier one.

    Args:
        files: the nested settings of each file, as `read_settings` gives them.
        given: settings by dotted name that go before the files.

    Returns:
        Settings by dotted name. Missing ones have their defaults.

    Raises:
        ValueError: for a protocol that does not exist.
    """
    layers = [*(dotted(dict(file)) for file in files), given]
    protocol = next((layer["protocol"] for layer in reversed(layers) if "protocol" in layer), None)
    if protocol is not None:
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}; got {protocol!r}")
        layers.insert(0, PROTOCOLS[protocol])
    return {name: value for layer in layers for name, value in layer.items()}


def build(settings: Mapping[str, Any], given: Mapping[str, Any]) -> Config:
    """Builds the configuration from merged settings. Files that the setting imports names run first.

    Args:
        settings: merged settings by dotted name.
        given: the settings among them that were given directly, where a setting that the method fixes is an error.

    Raises:
        ValueError: naming the setting that does not exist, does not fit, or is fixed by the method.
    """
    if fits(settings.get("imports"), list[str]):  # else it is refused with the other settings
        import_files(settings["imports"])
    config: Config = from_dict(Config, nested(dict(settings)))
    for name, fixed in METHODS[config.method].items():
        if name in given:
            raise ValueError(f"{name} is fixed at {fixed!r} by method {config.method}; method segp leaves it free")
    return config
