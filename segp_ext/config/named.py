"""Parts that a setting names: by a name of this package's, or as `my_package.my_module:MyClass` one of the user's own."""

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
    """The class that a setting names.

    Args:
        setting: its dotted name, for messages.
        name: what it says.
        known: this package's own, by name.
        base: what another one must be a subclass of.

    Raises:
        ValueError: if there is none, saying why.
    """
    if name in known:
        return known[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        close = close_names(name, known)
        hint = f"; close: {', '.join(close)}" if close else ""
        raise ValueError(
            f"{setting} must be one of {', '.join(known)}, or a class of your own as my_package.my_module:MyClass; got {name!r}{hint}"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{setting}: {name} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise ValueError(
            f"{setting}: {name} must be a subclass of {base.__module__}.{base.__qualname__}; it is {found!r}"
        )
    return found


def code_hash(part: type) -> str | None:
    """SHA-256 of the file that a class of the user's own comes from; None for one of this package."""
    if part.__module__.split(".")[0] == "segp_ext":
        return None
    return file_hash(Path(inspect.getfile(part)))


def file_hash(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
