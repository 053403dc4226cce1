"""The command line: files of settings, options and protocols into a `Config`, with a message for whatever does not fit."""

from __future__ import annotations

import argparse
import dataclasses
import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Union, get_args, get_origin

import yaml

from segp_ext.config import RESUMABLE, Config, check_settings, dotted, fits, from_dict, setting_types, with_method
from segp_ext.config.hints import close_names
from segp_ext.config.imports import import_files
from segp_ext.config.methods import METHODS
from segp_ext.config.paper import source
from segp_ext.config.protocols import PROTOCOLS
from segp_ext.run.directory import check_version, find_run
from segp_ext.runtime.program import as_typed, program
from segp_ext.runtime.progress import first_line

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

CONFIGS = Path(__file__).parents[1] / "presets"
DESCRIPTION = """\
Teach a CLIP model new classes task after task without old images (SeGP-CL, arXiv 2603.12055), and compare it with simpler methods.
Without arguments: the built-in small CLIP on scikit-learn's handwritten digits, five tasks of two classes, in a minute or two.

Defaults are the paper's where a setting says so; the settings of --protocol go before them, a file given by --config before those, and
the command line before all. Without protocol and file: digits.

examples:
  python -m segp_ext.train
  python -m segp_ext.train --method lwf --seed 1
  python -m segp_ext.train --anchors.steps 20 --run.name more-steps
  python -m segp_ext.train --config clip --data.root photos
      CLIP ViT-B/16 with the paper's settings on your images
  python -m segp_ext.train --protocol segp-cifar100 --data.root DIR
      a benchmark as the paper ran it; --config cifar100 is the same
  python -m segp_ext.train --config runs/NAME/config.yaml
      the same run again
  python -m segp_ext.train --resume runs/NAME
      a run that stopped, from where it was
"""


def packaged_configs() -> list[str]:
    """Names of the configurations that come with the package."""
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def find_config(name: str) -> Path:
    """A configuration by file name, or by the name of one that comes with the package.

    Raises:
        FileNotFoundError: if there is neither.
    """
    file = Path(name)
    packaged = CONFIGS / f"{file.stem}.yaml"
    if file.is_file():
        return file
    if packaged.is_file() and file.parent.as_posix() in (".", "configs"):
        return packaged
    raise FileNotFoundError(
        f"--config: no file {name!r}; configurations in the package: {', '.join(packaged_configs())}"
    )


_WHOLE, _NUMBER, _NONE, _MERGE = (f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "null", "merge"))
_READ_AS = (
    (_WHOLE, r"[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+|0b[01]+)$", "-+0123456789"),
    (_NUMBER, r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$", "-+.0123456789"),
    (_NUMBER, r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$", "-+."),
    (_NONE, r"(none|None)$", "nN"),
)
"""What of unquoted texts is a number or none, beside YAML's null; with the characters that it may begin with."""


class HelpFormatter(argparse.HelpFormatter):
    """Wraps headings, and each paragraph of a description; examples stay as they are written."""

    def start_section(self, heading: str | None) -> None:
        super().start_section(None if heading is None else textwrap.fill(heading, self._width - 1))

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = super()._fill_text
        blocks = text.strip().split("\n\n")
        return "\n\n".join(block if block.startswith("examples:") else fill(block, width, indent) for block in blocks)


class _Loader(yaml.SafeLoader):
    """YAML without the surprises of PyYAML: 1e-3 is a number, 010 and 1:30 are none, and a name that stands twice is an error."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in known if tag not in (_WHOLE, _NUMBER)]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        """A mapping whose keys are single values that differ."""
        node = super().compose_mapping_node(anchor)
        first: set[Any] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(
                    f"a setting's name must be a text; got a {key.id}, in line {key.start_mark.line + 1}"
                )
            name = "<<" if key.tag == _MERGE else self.construct_object(key)
            if name in first:
                raise yaml.YAMLError(f"{name!r} stands twice, again in line {key.start_mark.line + 1}")
            first.add(name)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Puts what `<<` names in its place: a group's own settings hold, then those of the first source that has one."""
        self._flatten(node, ())

    def _flatten(self, node: yaml.MappingNode, within: tuple[yaml.MappingNode, ...]) -> None:
        own = [(key, value) for key, value in node.value if key.tag != _MERGE]
        names = {key.value for key, _ in own}
        for key, value in node.value:
            if key.tag == _MERGE:
                for source in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                    if not isinstance(source, yaml.MappingNode):
                        raise yaml.YAMLError(f"<< must name groups of settings, in line {key.start_mark.line + 1}")
                    if source in (node, *within):
                        raise yaml.YAMLError(f"<< names the group that it stands in, in line {key.start_mark.line + 1}")
                    self._flatten(source, (node, *within))
                    taken = [pair for pair in source.value if pair[0].value not in names]
                    names |= {name.value for name, _ in taken}
                    own += taken
        node.value = own


class _Dumper(yaml.SafeDumper):
    """Quotes every text that `_Loader` or another reader of YAML would take for something else."""


for _tag, _pattern, _first in _READ_AS:
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(_tag, re.compile(_pattern), list(_first))


def settings_file(values: dict[str, Any], *, ascii_only: bool = False) -> bytes:
    """A file of settings, as `read_settings` reads it, from nested plain values; `ascii_only` for an output of unknown encoding."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=not ascii_only).encode()


def _as_meant(value: Any, expected: Any) -> Any:
    """A value as a setting of this type has it, where what was written can mean but that: 1e1 for 10, "5" for 5; else as it is."""
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
            read = yaml.load(value, _Loader)
        except (yaml.YAMLError, ValueError, RecursionError):
            return value
    possible = [read]
    if isinstance(read, float) and abs(read) < 2**53 and read.is_integer():
        possible.append(int(read))
    return next((meant for meant in possible if fits(meant, expected)), value)


def _nested(content: dict[Any, Any]) -> dict[Any, Any]:
    """Settings in their groups, as `Config` has them, each as it is meant; `training.epochs` may stand for `training: {epochs: ...}`.

    Raises:
        ValueError: for a setting that stands twice.
    """
    types = setting_types(Config)
    nested = {name: value for name, value in content.items() if "." not in str(name)}
    nested = {name: _as_meant(value, types.get(name, object)) for name, value in nested.items()}
    nested = {name: dict(value) if isinstance(value, dict) else value for name, value in nested.items()}
    for name, value in content.items():
        section, dot, setting = str(name).partition(".")
        if dot:
            group = nested.setdefault(section, {})
            if not isinstance(group, dict) or setting in group:
                raise ValueError(f"{name!r} stands twice, also in {section!r}")
            group[setting] = value
    for section, group in nested.items():
        if isinstance(group, dict):
            for setting, value in group.items():
                group[setting] = _as_meant(value, types.get(f"{section}.{setting}", object))
    return nested


def read_settings(file: Path) -> dict[str, Any]:
    """Reads a file of settings; returns them nested as `Config` is, and of its types. Names that begin with x- are skipped: a place
    for groups that `<<` names.

    Raises:
        ValueError: naming the file, if it is no YAML, or has settings that do not exist or of the wrong type.
    """
    check_version(file.parent)
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Loader)
        if not isinstance(content, dict):
            what = "nothing" if content is None else f"a {type(content).__name__}"
            raise ValueError(f"it must hold settings by name, as in `training: {{epochs: 5}}`; it holds {what}")
        settings = _nested({name: value for name, value in content.items() if not str(name).startswith("x-")})
        check_settings(Config, settings)
    except UnicodeDecodeError as error:
        raise ValueError(f"--config {file}: it is no text file ({error})") from error
    except RecursionError as error:
        raise ValueError(f"--config {file}: its groups or lists stand too deep in one another") from error
    except (yaml.YAMLError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split()) or first_line(error)
        raise ValueError(f"--config {file}: {reason}") from error
    return settings


def build_parser(
    command: str = "train", description: str = DESCRIPTION, flags: Mapping[str, str] = MappingProxyType({})
) -> ArgumentParser:
    """What `python -m segp_ext.<command>` says of itself: every field of `Config`, with its documentation as help, and `flags`. It is
    for --help and for errors; `parse` reads the arguments.
    """
    from jsonargparse import ArgumentParser, DefaultHelpFormatter, set_parsing_settings

    class Formatter(HelpFormatter, DefaultHelpFormatter):
        pass

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    prog = program(command)
    usage = (
        f"{prog} {''.join(f'[{flag}] ' for flag in flags)}[--config FILE] [--protocol NAME] [--method NAME] [--seed N] "
    )
    usage += "[--SECTION.SETTING VALUE] ... [--print_config]"
    parser = ArgumentParser(
        prog=prog,
        usage="\n       ".join(
            textwrap.wrap(usage, max(shutil.get_terminal_size().columns - 9, 20), break_on_hyphens=False)
        ),
        description=as_typed(description),
        formatter_class=Formatter,
        default_env=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="YAML file of settings, in groups or by dotted names (training.epochs: 5), or the name of one in the package "
        f"({', '.join(packaged_configs())}). If neither a file nor a "
        "protocol is given: the one named like --data.name, else folder with --data.root, else digits.",
    )
    parser.add_argument(
        "--import",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help="Python file to run first, with methods or parts of your own (docs/extending.md); may be given several times.",
    )
    parser.add_argument(
        "--print_config", action="store_true", default=argparse.SUPPRESS,
        help="Print all settings as they would hold, in a file that --config takes, and exit.",
    )  # fmt: skip
    if command == "train":
        parser.add_argument(
            "--resume",
            metavar="RUN",
            default=argparse.SUPPRESS,
            help="Go on with the run in this folder, which stopped or was killed, to the same numbers. Its settings hold; those that "
            f"may be given besides: {', '.join(RESUMABLE)}.",
        )
    for flag, meaning in flags.items():
        parser.add_argument(flag, action="store_true", default=argparse.SUPPRESS, help=meaning)
    parser.add_class_arguments(Config)
    types = setting_types(Config)
    for action in parser._actions:
        action.option_strings = [option for option in action.option_strings if not option.endswith("+")]
        if types.get(action.dest) is dict:
            action.metavar, action.help = "{NAME: VALUE, ...}", "Several of these at once."
        if action.dest in types and types[action.dest] is not dict and source(action.dest):
            action.help = f"{action.help} ({source(action.dest)})"
    return parser


def unrecognized(arguments: Sequence[str], parser: argparse.ArgumentParser, more: Iterable[str] = ()) -> str:
    """What to say of arguments that do not exist, and which of the parser's options, or of `more`, each of them may mean."""
    options = [*(option for action in parser._actions for option in action.option_strings), *more]
    known = [option.removeprefix("--") for option in options if option.startswith("--")]
    names = [found[0] for argument in arguments if (found := re.match(r"--?[A-Za-z][\w.-]*", argument))]
    close = {name: ", ".join(f"--{other}" for other in close_names(name.lstrip("-"), known)) for name in names}
    hints = [f"close{f' to {name}' if len(close) > 1 else ''}: {others}" for name, others in close.items() if others]
    return "; ".join([f"unrecognized arguments: {' '.join(arguments)}", *hints])


def joined(argv: Sequence[str]) -> list[str]:
    """A command line with the value of every setting, and of --config and --resume, in one argument with its name: `--NAME=VALUE`.

    A setting that is true or false may stand alone, and is true then.

    Raises:
        ValueError: for another one without a value.
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
                raise ValueError(f"--{name} needs a value; one that begins with a dash is written --{name}=VALUE")
        found.append(argument)
    return found


def take(argv: Sequence[str], option: str) -> tuple[list[str], list[str]]:
    """The values that a `joined` command line gives to one option, in order, and the command line without them."""
    begin = f"{option}="
    values = [argument.removeprefix(begin) for argument in argv if argument.startswith(begin)]
    return values, [argument for argument in argv if not argument.startswith(begin)]


def settings_given(argv: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The settings on a `joined` command line by dotted name, the last of each, and its other arguments.

    Raises:
        ValueError: for one of the wrong type, or a part of one.
    """
    types = setting_types(Config)
    given: dict[str, Any] = {}
    rest = []
    for argument in argv:
        name, equals, text = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and equals and name in types:
            none = text.lower() in ("none", "null") and fits(None, types[name])
            settings = _nested({name: None if none else text})
            check_settings(Config, settings)
            given |= dotted(settings)
        else:
            whole = name.rpartition(".")[0]
            if whole in types and not any(setting.startswith(f"{whole}.") for setting in types):
                raise ValueError(f"--{name}: {whole} has no parts; give --{whole}")
            rest.append(argument)
    return given, rest


def parse(
    argv: Sequence[str],
    command: str = "train",
    description: str = DESCRIPTION,
    flags: Mapping[str, str] = MappingProxyType({}),
) -> Config:
    """Reads the configuration from a command line; exits with a message on an argument that does not exist or does not fit, and after
    --help and --print_config.

    The order of precedence: the command line, the files of --config (the last one first), the protocol, the paper's defaults. `flags` are
    options of the command itself, with their meanings; whether they are given is its own to see.
    """
    try:
        names, settings = take(joined(argv), "--config")
        imported, settings = take(settings, "--import")
        given, rest = settings_given(settings)
        if imported:
            given["imports"] = imported
        unknown = [argument for argument in rest if argument not in ("-h", "--help", "--print_config", *flags)]
        if unknown:
            parser = build_parser(command, description, flags)
            parser.error(unrecognized(unknown, parser))
        files = [find_config(name) for name in names]
        if not files and "protocol" not in given:
            named = given.get("data.name") if given.get("data.name") in packaged_configs() else None
            files = [find_config(named or ("digits" if given.get("data.root") is None else "folder"))]
        layers = [*(dotted(read_settings(file)) for file in files), given]
        protocol = next((layer["protocol"] for layer in reversed(layers) if "protocol" in layer), None)
        if protocol is not None:
            if protocol not in PROTOCOLS:
                raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}; got {protocol!r}")
            layers.insert(0, PROTOCOLS[protocol])
        chosen = {name: value for layer in layers for name, value in layer.items()}
        if fits(chosen.get("imports"), list[str]):  # else it is refused with the other settings
            import_files(chosen["imports"])
        if "-h" in rest or "--help" in rest:
            parser = build_parser(command, description, flags)
            parser.set_defaults(chosen)
            parser.print_help()
            parser.exit()
        config = from_dict(Config, _nested(chosen))
        from segp_ext.method.parts import check_parts  # of models, which only a command that goes on needs

        check_parts(with_method(config))
        for setting, fixed in METHODS[config.method].items():
            if setting in given:
                raise ValueError(
                    f"{setting} is fixed at {fixed!r} by method {config.method}; use --method segp to choose it"
                )
    except (FileNotFoundError, TypeError, ValueError) as error:
        build_parser(command, description, flags).error(str(error))
    if "--print_config" in rest:
        sys.stdout.write(settings_file(dataclasses.asdict(config), ascii_only=True).decode())
        raise SystemExit(0)
    return config


def parse_run(argv: list[str]) -> tuple[Config, Path | None]:
    """Reads the command line of a run, and which run it goes on with, if any; exits with a message as `parse` does."""
    try:
        named, settings = take(joined(argv), "--resume")
    except ValueError:
        named = []  # `parse` says what is wrong
    if not named:
        return parse(argv), None
    try:
        path = find_run(Path(named[-1]))
        check_version(path)
    except (FileNotFoundError, ValueError) as error:
        build_parser().error(f"--resume: {error}")
    for argument in settings:
        option = argument.removeprefix("--").split("=")[0]
        if argument.startswith("--") and option not in (*RESUMABLE, "help"):
            build_parser().error(
                f"--resume takes the run's own settings; got --{option} besides; what may be given: {', '.join(RESUMABLE)}"
            )
    return parse(["--config", str(path / "config.yaml"), *settings]), path
