"""The command line: files of settings, options and protocols into a `Config`, with a message for whatever does not fit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from segp_ext.config import METHODS, Config, check_settings, dotted_names, expected_value, with_method
from segp_ext.paper import note
from segp_ext.progress import first_line
from segp_ext.protocols import PROTOCOLS
from segp_ext.run_directory import check_version, find_run

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

CONFIGS = Path(__file__).parent / "configs"
DESCRIPTION = """\
Teach a CLIP model new classes task after task without old images (SeGP-CL, arXiv 2603.12055), and compare it with simpler methods.
Without arguments: the built-in small CLIP on scikit-learn's handwritten digits, five tasks of two classes, in a minute or two.
Defaults are the paper's where a setting says so; the settings of --protocol go before them, a file given by --config before those, and
the command line before all. Without protocol and file: digits.

examples:
  python -m segp_ext.train
  python -m segp_ext.train --method lwf --seed 1
  python -m segp_ext.train --anchors.steps 20 --run.name more-steps
  python -m segp_ext.train --config clip --data.root photos     (CLIP ViT-B/16 with the paper's settings on your images)
  python -m segp_ext.train --protocol segp-cifar100 --data.root DIR  (a benchmark as the paper ran it; --config cifar100 is the same)
  python -m segp_ext.train --config runs/NAME/config.yaml       (the same run again)
  python -m segp_ext.train --resume runs/NAME                   (a run that stopped, from where it was)
"""


RESUMABLE = (
    "model.device", "model.pretrained", "data.root", "loading.workers", "loading.memory_gb", "run.threads", "run.checkpoint_steps",
    "run.keep_checkpoints", "training.accumulate", "training.prompts_per_pass", "anchors.batch_size", "anchors.memory_gb",
    "anchors.folder", "inference.batch_size",
)  # fmt: skip
"""Settings that may be given with --resume: none of them changes what is learnt but by rounding."""


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


class _Loader(yaml.SafeLoader):
    """YAML without the two surprises of PyYAML: 1e-3 is a number, and a name that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys differ."""
        first: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key)
            if name in first and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.YAMLError(f"{name!r} stands twice, again in line {key.start_mark.line + 1}")
            first.add(name)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_settings(file: Path) -> dict[str, Any]:
    """Reads a file of settings, nested as `Config` is.

    Raises:
        ValueError: naming the file, if it is no YAML, or has settings that do not exist or of the wrong type.
    """
    check_version(file.parent)
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Loader)
        if not isinstance(content, dict):
            what = "nothing" if content is None else f"a {type(content).__name__}"
            raise ValueError(f"it must hold settings by name, as in `training: {{epochs: 5}}`; it holds {what}")
        check_settings(Config, content)
    except UnicodeDecodeError as error:
        raise ValueError(f"--config {file}: it is no text file ({error})") from error
    except (yaml.YAMLError, TypeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split()) or first_line(error)
        raise ValueError(f"--config {file}: {reason}") from error
    return content


def build_parser(command: str = "train", description: str = DESCRIPTION) -> ArgumentParser:
    """The command line of `python -m segp_ext.<command>`: every field of `Config`, with its documentation as help."""
    from argparse import RawDescriptionHelpFormatter

    from jsonargparse import ArgumentParser, DefaultHelpFormatter, set_parsing_settings

    class Formatter(RawDescriptionHelpFormatter, DefaultHelpFormatter):
        pass

    class Parser(ArgumentParser):
        def error(self, message: str, ex: Exception | None = None) -> NoReturn:
            super().error(_plain(message), None)

    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    prog = f"python -m segp_ext.{command}"
    parser = Parser(
        prog=prog,
        usage=f"{prog} [--config FILE] [--protocol NAME] [--method NAME] [--seed N] [--SECTION.SETTING VALUE ...] [--print_config]",
        description=description,
        formatter_class=Formatter,
        default_env=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config",
        action="config",
        help=f"YAML file of settings, or the name of one in the package ({', '.join(packaged_configs())}). If neither a file nor a "
        "protocol is given: the one named like --data.name, else folder with --data.root, else digits.",
    )
    if command == "train":
        parser.add_argument(
            "--resume",
            metavar="RUN",
            help="Go on with the run in this folder, which stopped or was killed, to the same numbers. Its settings hold; those that "
            f"may be given besides: {', '.join(RESUMABLE)}.",
        )
    parser.add_class_arguments(Config)
    for action in parser._actions:
        if source := note(action.dest):
            action.help = f"{action.help} {source}"
    return parser


def _plain(message: str) -> str:
    """A message of jsonargparse's in the words of `segp_ext.config`, where it is about a setting's value."""
    keys = re.findall(r'[Kk]ey "([\w.]+)":', message)
    wanted = expected_value(Config, keys[-1]) if keys else None
    if wanted is not None:
        given = re.findall(r"(?:Got|Given) value: (.*)|Unable to load config [\"'](.*)[\"']", message)
        came = f"; got {''.join(given[-1])!r}" if given else ""
        return f"{keys[-1]} must be {wanted}{came}"
    unknown = re.match(r"unrecognized arguments: --([\w.-]+)", message)
    close = _close_settings(unknown[1].replace("-", "_").lower()) if unknown else []
    return f"{message}; close: {', '.join(f'--{name}' for name in close)}" if close else message


_USUAL_NAMES = {
    "lr": "training.learning_rate", "wd": "training.weight_decay", "bs": "training.batch_size", "optim": "training.optimizer",
    "data_path": "data.root", "data_dir": "data.root", "dataset": "data.name", "model": "model.name", "weights": "model.pretrained",
    "output": "run.directory", "output_dir": "run.directory", "out": "run.directory", "num_workers": "loading.workers",
    "fp16": "model.precision", "bf16": "model.precision", "amp": "model.precision", "init_cls": "data.classes_per_task",
    "increment": "data.classes_per_task",
}  # fmt: skip
"""What other programs call settings that have another name here."""


def _close_settings(name: str) -> list[str]:
    """Settings that may be meant by a name that is none: of that last part, of that name elsewhere, or spelled like it."""
    known = dotted_names(Config)
    of_last = [setting for setting in known if setting.rpartition(".")[2] == name]
    if of_last or name in _USUAL_NAMES:
        return of_last or [_USUAL_NAMES[name]]
    lasts = {setting.rpartition(".")[2]: setting for setting in reversed(known)}
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8) or difflib.get_close_matches(name, lasts, n=1, cutoff=0.7)
    return [lasts.get(close[0], close[0])] if close else difflib.get_close_matches(name, known, n=1)


def take(argv: Sequence[str], option: str) -> tuple[list[str], list[str]]:
    """The values that a command line gives to one option, in order, and the command line without them."""
    values, rest, follows = [], [], False
    for argument in argv:
        if follows or argument.startswith(f"{option}="):
            values.append(argument if follows else argument.removeprefix(f"{option}="))
            follows = False
        elif argument == option:
            follows = True
        else:
            rest.append(argument)
    return values, [*rest, option] if follows else rest


def _protocol_named(argv: list[str], contents: list[dict[str, Any]]) -> str | None:
    """The protocol that the command line names, or the last file that names one.

    Raises:
        ValueError: if there is none of that name.
    """
    names = [content["protocol"] for content in contents if "protocol" in content]
    name = [*names, *take(argv, "--protocol")[0]][-1:]
    if not name or name[0] in (None, "null"):
        return None
    if name[0] not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}; got {name[0]!r}")
    return name[0]


def values_given(argv: Sequence[str], section: str, name: str) -> list[Any]:
    """The values that a command line gives to a setting, by itself or in its section's group."""
    groups = []
    for text in take(argv, f"--{section}")[0]:
        try:
            groups.append(yaml.load(text, _Loader))
        except yaml.YAMLError:
            continue  # the parser says what is wrong with it
    inside = [group[name] for group in groups if isinstance(group, dict) and name in group]
    return [*inside, *take(argv, f"--{section}.{name}")[0]]


def parse(argv: list[str], command: str = "train", description: str = DESCRIPTION) -> Config:
    """Reads the configuration from a command line; exits with a message on a setting that does not exist or does not fit.

    The order of precedence: the command line, the files of --config (the last one first), the protocol, the paper's defaults.
    """
    parser = build_parser(command, description)
    try:
        names, settings = take(argv, "--config")
        files = [find_config(name) for name in names]
        if not files and not take(argv, "--protocol")[0]:
            named = [name for name in values_given(argv, "data", "name") if name in packaged_configs()]
            own_images = values_given(argv, "data", "root")
            files = [find_config(named[-1] if named else "folder" if own_images else "digits")]
        protocol = _protocol_named(argv, [read_settings(file) for file in files])
        if protocol is not None:
            parser.set_defaults({"protocol": protocol, **PROTOCOLS[protocol]})
        configs = [argument for file in files for argument in ("--config", str(file))]
        parsed = parser.parse_args([*configs, *settings])
        del parsed["config"]
        parsed.pop("resume", None)
        config = Config(**dict(parser.instantiate(parsed).items()))
        with_method(config)  # which says what its method lacks
    except (FileNotFoundError, TypeError, ValueError) as error:
        parser.error(str(error))
    for setting in METHODS[config.method]:
        if values_given(argv, *setting.split(".")):
            fixed = METHODS[config.method][setting]
            parser.error(f"{setting} is fixed at {fixed!r} by method {config.method}; use --method segp to choose it")
    return config


def parse_run(argv: list[str]) -> tuple[Config, Path | None]:
    """Reads the command line of a run, and which run it goes on with, if any; exits with a message as `parse` does."""
    named, settings = take(argv, "--resume")
    if not named:
        return parse(argv), None
    parser = build_parser()
    try:
        path = find_run(Path(named[-1]))
        check_version(path)
    except (FileNotFoundError, ValueError) as error:
        parser.error(f"--resume: {error}")
    for argument in settings:
        option = argument.removeprefix("--").split("=")[0]
        if argument.startswith("--") and option not in (*RESUMABLE, "help"):
            parser.error(
                f"--resume takes the run's own settings; got --{option} besides; what may be given: {', '.join(RESUMABLE)}"
            )
    return parse(["--config", str(path / "config.yaml"), *settings]), path
