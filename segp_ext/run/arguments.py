"""The arguments of a command line: values joined to their names, the settings among them, and hints for unknown ones."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from typing import Any

from segp_ext.config import Config, check_settings, dotted, fits, setting_types
from segp_ext.config.hints import close_names
from segp_ext.config.settings_files import nested


def joined(argv: Sequence[str]) -> list[str]:
    """Joins the value of every setting, and of --config, --import and --resume, to its name: `--NAME=VALUE`.

    A setting that is true or false may stand alone for true. `--help all` becomes `--help=all`.

    Raises:
        ValueError: for another setting without a value.
    """
    types: dict[str, Any] = {"config": str, "resume": str, "import": str, **setting_types(Config)}
    found, rest = [], list(argv)
    while rest:
        argument = rest.pop(0)
        name = argument.removeprefix("--")
        if argument.startswith("--") and name in types:
            if rest and re.match(r"[^-]|-[\d.]|-?$", rest[0]):
                argument += f"={rest.pop(0)}"
            elif types[name] is bool:
                argument += "=true"
            else:
                raise ValueError(f"--{name} needs a value; write --{name}=VALUE for one that begins with a dash")
        elif argument in ("-h", "--help") and rest[:1] == ["all"]:
            argument = f"--help={rest.pop(0)}"
        found.append(argument)
    return found


def take(argv: Sequence[str], option: str) -> tuple[list[str], list[str]]:
    """Returns the values that a `joined` command line gives to one option, in order, and the command line without them."""
    begin = f"{option}="
    values = [argument.removeprefix(begin) for argument in argv if argument.startswith(begin)]
    return values, [argument for argument in argv if not argument.startswith(begin)]


def settings_given(argv: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Returns the settings on a `joined` command line by dotted name, the last value of each, and the other arguments.

    Raises:
        ValueError: for a setting of the wrong type, or for a part of a setting that has none.
    """
    types = setting_types(Config)
    given: dict[str, Any] = {}
    rest = []
    for argument in argv:
        name, equals, text = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and equals and name in types:
            none = text.lower() in ("none", "null") and fits(None, types[name])
            settings = nested({name: None if none else text})
            check_settings(Config, settings)
            given |= dotted(settings)
        else:
            whole = name.rpartition(".")[0]
            if whole in types and not any(setting.startswith(f"{whole}.") for setting in types):
                raise ValueError(f"--{name}: {whole} has no parts; give --{whole}")
            rest.append(argument)
    return given, rest


def unrecognized(arguments: Sequence[str], parser: argparse.ArgumentParser, more: Iterable[str] = ()) -> str:
    """Returns the message for arguments that do not exist, with close options of `parser` and close ones of `more`."""
    options = [*(option for action in parser._actions for option in action.option_strings), *more]
    known = [option.removeprefix("--") for option in options if option.startswith("--")]
    names = [found[0] for argument in arguments if (found := re.match(r"--?[A-Za-z][\w.-]*", argument))]
    close = {name: ", ".join(f"--{other}" for other in close_names(name.lstrip("-"), known)) for name in names}
    hints = [f"close{f' to {name}' if len(close) > 1 else ''}: {others}" for name, others in close.items() if others]
    return "; ".join([f"unrecognized arguments: {' '.join(arguments)}", *hints])
