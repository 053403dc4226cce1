"""Files of settings: the package's files by name, reading files, and the value that a writer means."""

from __future__ import annotations

from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from segp_ext.config.plain_values import check_settings, fits, setting_types
from segp_ext.config.schema import Config
from segp_ext.config.yaml_dialect import read_yaml
from segp_ext.runtime.progress import first_line

PRESETS = Path(__file__).parents[1] / "presets"


def preset_names() -> list[str]:
    """Returns the names of the files of settings in the package."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def find_settings(name: str) -> Path:
    """Finds a file of settings by its path, or by its name in the package.

    Raises:
        FileNotFoundError: without such a file.
    """
    file = Path(name)
    packaged = PRESETS / f"{file.stem}.yaml"
    if file.is_file():
        return file
    if packaged.is_file() and file.parent.as_posix() in (".", "configs"):
        return packaged
    raise FileNotFoundError(f"no file of settings {name!r}; the package has: {', '.join(preset_names())}")


def read_settings(file: Path) -> dict[str, Any]:
    """Reads a file of settings. Names that begin with x- are skipped: such groups only serve `<<`.

    Returns:
        The settings, nested as in `Config`, with the types of `Config`.

    Raises:
        ValueError: naming the file, if it is no YAML, or holds settings that do not exist or have the wrong type.
    """
    try:
        content = read_yaml(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            found = "nothing" if content is None else f"a {type(content).__name__}"
            raise ValueError(f"it must hold settings by name, as in `training: {{epochs: 5}}`; it holds {found}")
        settings = nested({name: value for name, value in content.items() if not str(name).startswith("x-")})
        check_settings(Config, settings)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not a text file ({error})") from error
    except RecursionError as error:
        raise ValueError(f"{file}: groups or lists nest too deep") from error
    except (yaml.YAMLError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()) or first_line(error)
        raise ValueError(f"{file}: {reason}") from error
    return settings


def nested(content: dict[Any, Any]) -> dict[Any, Any]:
    """Nests settings as in `Config`, with the values that their writer means. `training.epochs` may stand for `training: {epochs: ...}`.

    Raises:
        ValueError: for a setting that stands twice.
    """
    types = setting_types(Config)
    found = {name: value for name, value in content.items() if "." not in str(name)}
    found = {name: _as_meant(value, types.get(name, object)) for name, value in found.items()}
    found = {name: dict(value) if isinstance(value, dict) else value for name, value in found.items()}
    for name, value in content.items():
        section, dot, setting = str(name).partition(".")
        if dot:
            group = found.setdefault(section, {})
            if not isinstance(group, dict) or setting in group:
                raise ValueError(f"{name!r} stands twice, also in {section!r}")
            group[setting] = value
    for section, group in found.items():
        if isinstance(group, dict):
            for setting, value in group.items():
                group[setting] = _as_meant(value, types.get(f"{section}.{setting}", object))
    return found


def _as_meant(value: Any, expected: Any) -> Any:
    """Returns a value in the type of its setting, if it can mean only one thing: 1e1 as 10, "5" as 5. Others stay as they are."""
    options = get_args(expected) if get_origin(expected) in (Union, UnionType) else (expected,)
    named = any(get_origin(option) is Literal and "none" in get_args(option) for option in options)
    if named and (value is None or (isinstance(value, str) and value.lower() in ("none", "null"))):
        return "none"
    listed = isinstance(value, str) and value.lstrip().startswith("[")
    if fits(value, expected) and not listed:
        return value
    read = value
    if isinstance(value, str):
        try:
            read = read_yaml(value)
        except (yaml.YAMLError, ValueError, RecursionError):
            return value
    possible = [read]
    if isinstance(read, float) and abs(read) < 2**53 and read.is_integer():
        possible.append(int(read))
    return next((meant for meant in possible if fits(meant, expected)), value)
