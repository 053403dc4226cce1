"""What the commands say of their options: `--help` with the settings that matter most, `--help all` with every setting."""

from __future__ import annotations

import argparse
import dataclasses
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from segp_ext.config import Config, MethodConfig, dotted, setting_types
from segp_ext.config.paper import shown, source
from segp_ext.config.plain_values import type_in_words
from segp_ext.config.setting import facts_of, meanings, sections
from segp_ext.config.settings_files import preset_names
from segp_ext.runtime.program import as_typed, program

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_RUN = ("[--config FILE]", "[--protocol NAME]", "[--method NAME]", "[--seed N]")
"""Options in the usage of a command that makes or examines one run."""
_COMPARE = (
    "--out FOLDER", "[--methods METHOD ...]", "[--rows FILE]", "[--seeds SEED ...]", "[--jobs N]", "[--threads N]", "[--config FILE]",
    "[--protocol NAME]",
)  # fmt: skip
"""Options in the usage of `segp compare`, which sets method and seed by row."""
_LONGEST_CHOICES = 30
"""Characters of the choices of a setting that may stand beside its name."""


class HelpFormatter(argparse.HelpFormatter):
    """Wraps headings and the paragraphs of a description. Examples stay as they are written."""

    def start_section(self, heading: str | None) -> None:
        super().start_section(None if heading is None else textwrap.fill(heading, self._width - 1))

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        blocks = text.strip().split("\n\n")
        return "\n\n".join(block if block.startswith("examples:") else fill(block, width, indent) for block in blocks)


class Parser(argparse.ArgumentParser):
    """The help and the errors of a command that takes settings. `segp_ext.run.arguments` reads the arguments."""

    def error(self, message: str) -> NoReturn:
        """Prints the usage, where to find help, and the message; ends the process with the exit status 2."""
        self.print_usage(sys.stderr)
        self.exit(2, f"tip: {self.prog} --help shows the options\nerror: {message}\n")


def usage_of(command: str, flags: Iterable[str] = ()) -> str:
    """Writes the usage of a command for the terminal's width. Lines break between options and never within one.

    Args:
        command: name of the command.
        flags: further options of the command without a value.
    """
    width = max(shutil.get_terminal_size().columns - 2, 20)
    own = _COMPARE if command == "compare" else [*(f"[{flag}]" for flag in flags), *_RUN]
    lines = [f"usage: {program(command)}{' LEARNER FOLDER' if command == 'new' else ''}"]
    for option in [*own, "[--SECTION.SETTING VALUE] ...", "[--print_config]"]:
        if len(lines[-1]) + 1 + len(option) > width:
            lines.append(" " * 6)
        lines[-1] += f" {option}"
    return "\n".join(lines).removeprefix("usage: ")


def build_parser(
    command: str,
    description: str,
    flags: Mapping[str, str] = MappingProxyType({}),
    values: Mapping[str, Any] = _NOTHING,
    everything: bool = True,
) -> Parser:
    """Builds the help of a command.

    Args:
        command: name of the command; train has --resume too.
        description: text before the options.
        flags: further options of the command without a value, with their meanings.
        values: settings by dotted name that are shown as defaults in place of the usual ones.
        everything: show all settings, not only those with `short_help`.
    """
    parser = Parser(
        prog=program(command),
        usage=usage_of(command, flags),
        description=as_typed(description),
        formatter_class=HelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    _add_options(parser, command == "train", flags)
    names = [name for name, facts in facts_of(Config).items() if everything or facts.short_help]
    defaults = dotted(dataclasses.asdict(Config())) | dict(values)
    own = sorted(sections(Config), key=lambda section: section in sections(MethodConfig))  # data and model come first
    for section in ("", *own):
        inside = [name for name in names if name.rpartition(".")[0] == section]
        if not inside:
            continue
        about = meanings(Config).get(section, "")
        group = parser.add_argument_group((_first_sentence(about).rstrip(".") or section) if section else "General")
        if section and everything:
            group.add_argument(
                f"--{section}", metavar="{NAME: VALUE, ...}", help="Several settings of this section at once."
            )
        for name in inside:
            text = _all_about(name, defaults[name]) if everything else _brief(name, defaults[name])
            placeholder = _placeholder(setting_types(Config)[name])
            group.add_argument(f"--{name}", metavar=placeholder, help=text.replace("%", "%%"))
    return parser


def _add_options(parser: Parser, resumable: bool, flags: Mapping[str, str]) -> None:
    """Adds the options that are no settings."""
    count = len(facts_of(Config))
    parser.add_argument(
        "-h", "--help", metavar="all", nargs="?",
        help=f"Show this help and exit. --help all shows all {count} settings.",
    )  # fmt: skip
    parser.add_argument(
        "--config", metavar="FILE",
        help="YAML file of settings, in groups or by dotted names (training.epochs: 5), or the name of a file in the package: "
        f"{', '.join(preset_names())}. Several may be given; a later one goes before an earlier one. Without a file and a protocol, the "
        "package has one: the file named like --data.name, else folder with --data.root, else digits.",
    )  # fmt: skip
    parser.add_argument(
        "--import", metavar="FILE",
        help="Python file to run first, with methods or parts of your own (docs/extending.md). Several may be given.",
    )  # fmt: skip
    parser.add_argument(
        "--print_config", action="store_true",
        help="Print all settings in the form of a file for --config, and exit.",
    )  # fmt: skip
    if resumable:
        parser.add_argument(
            "--resume", metavar="RUN",
            help="Go on with the run in this folder, which stopped or was killed, to the same numbers. Its settings hold; --help all marks "
            "the settings that may change.",
        )  # fmt: skip
    for flag, meaning in flags.items():
        parser.add_argument(flag, action="store_true", help=meaning)


def _first_sentence(text: str) -> str:
    found = re.match(r".*?\.(?=\s|$)", text, re.DOTALL)
    return found[0] if found else text


def _brief(name: str, default: Any) -> str:
    """Returns the first sentence about a setting, and its default."""
    return f"{_first_sentence(meanings(Config).get(name, ''))} (default: {shown(default)})"


def _all_about(name: str, default: Any) -> str:
    """Returns everything about a setting: meaning, type, default, source, and what may change it."""
    facts, hint = facts_of(Config)[name], setting_types(Config)[name]
    said = (
        hint in (int, float, str) or _placeholder(hint).startswith("{") or {str, NoneType} & {*get_args(hint)} == {str}
    )
    notes = [
        "" if said else type_in_words(hint),  # else the placeholder or the meaning says it
        f"default: {shown(default)}",
        source(name),
        "may change on --resume" if facts.resume else "",
        "set by --protocol" if facts.protocol else "",
    ]
    return f"{meanings(Config).get(name, '')} ({'; '.join(filter(None, notes))})"


def _placeholder(hint: Any) -> str:
    """Returns what stands for the value of a setting beside its name: N, X, TEXT, NAME, or its choices in braces."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    choices = ",".join(
        str(choice) for option in options if get_origin(option) is Literal for choice in get_args(option)
    )
    if str in options:
        return "TEXT"
    words = {
        int: "N",
        float: "X",
        bool: "{true,false}",
        list[str]: "[A, B]",
        list[int]: "[N, N]",
        list[dict[str, Any]]: "[{NAME: VALUE}]",
    }
    found = [words[option] for option in options if option in words]
    if choices:
        found.append(f"{{{choices}}}" if len(choices) <= _LONGEST_CHOICES and not found else "NAME")
    assert found or options == (NoneType,)
    return "|".join(found)
