"""Finds the class that a setting names: a part of this package by its name, or the user's own as `my_package.my_module:MyClass`."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from segp_ext.config.hints import close_names

Part = TypeVar("Part")


def find(setting: str, name: str, known: Mapping[str, type[Part]], base: type[Part]) -> type[Part]:
    """Finds the class that a setting names.

    Args:
        setting: dotted name of the setting, for messages.
        name: value of the setting.
        known: classes of this package by name.
        base: class that a class of the user's own must inherit from.

    Raises:
        ValueError: if the name is unknown, cannot be imported, or is not such a class.
    """
    if name in known:
        return known[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        close = close_names(name, known)
        hint = f"; close: {', '.join(close)}" if close else ""
        ours = f"one of {', '.join(known)}, or " if known else ""
        raise ValueError(
            f"{setting} must be {ours}a class of your own as my_package.my_module:MyClass; got {name!r}{hint}"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{setting}: {name} cannot be imported: {error}; its folder must be in PYTHONPATH, or --import must name its file"
        ) from error
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{setting}: {name} cannot be imported: {error}") from error
    except Exception as error:
        raise ValueError(f"{setting}: {name} cannot be imported: {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(
            f"{setting}: {name} must be a subclass of {base.__module__}.{base.__qualname__}; got {found!r}"
        )
    return found


def is_own(part: object | type) -> bool:
    """Says whether a class, or an object's class, is the user's own, and not of this package."""
    kind = part if isinstance(part, type) else type(part)
    return kind.__module__.split(".")[0] != "segp_ext"


def code_hash(part: type) -> str | None:
    """Returns the SHA-256 of the file that defines a class of the user's own, or None for a class of this package."""
    if not is_own(part):
        return None
    return file_hash(Path(inspect.getfile(part)))


def file_hash(file: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
