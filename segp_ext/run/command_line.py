"""The command line of a run: reads the arguments into a `Config`, answers --help and --print_config, and names what does not fit."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from segp_ext.config import RESUMABLE, Config
from segp_ext.config.yaml_dialect import settings_file
from segp_ext.run.arguments import joined, settings_given, take, unrecognized
from segp_ext.run.directory import check_version, find_run
from segp_ext.run.help import build_parser
from segp_ext.run.settings import layered, settle

DESCRIPTION = """\
Teach a CLIP model new classes task after task without old images (SeGP-CL, arXiv 2603.12055), and compare it with simpler methods.
Without arguments: the built-in small CLIP on scikit-learn's handwritten digits, five tasks of two classes, in a minute or two.

The command line goes before the files of --config, these go before --protocol, and that goes before the paper's defaults. The defaults
below are those that hold with the files and options beside --help.

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
      go on with a run that stopped
"""


def parse(
    argv: Sequence[str],
    command: str = "train",
    description: str = DESCRIPTION,
    flags: Mapping[str, str] = MappingProxyType({}),
) -> Config:
    """Reads the settings on a command line, as `segp_ext.load_config` does in Python.

    The process ends after --help and --print_config, and with a message for an argument that does not exist or does not fit.

    Args:
        argv: the arguments.
        command: name of the command, for help and messages.
        description: text of the command's help before the options.
        flags: options of the command itself, with their meanings. The command looks for them in `argv` on its own.
    """
    try:
        names, arguments = take(joined(argv), "--config")
        imported, arguments = take(arguments, "--import")
        given, rest = settings_given(arguments)
        if imported:
            given["imports"] = imported
        unknown = [
            argument for argument in rest if argument not in ("-h", "--help", "--help=all", "--print_config", *flags)
        ]
        if unknown:
            parser = build_parser(command, description, flags)
            parser.error(unrecognized(unknown, parser))
        settings = layered(names, given)
        if not {"-h", "--help", "--help=all"}.isdisjoint(rest):
            build_parser(command, description, flags, settings, "--help=all" in rest).print_help()
            raise SystemExit(0)
        config = settle(settings, given)
    except (FileNotFoundError, TypeError, ValueError) as error:
        build_parser(command, description, flags).error(str(error))
    if "--print_config" in rest:
        sys.stdout.write(settings_file(dataclasses.asdict(config), ascii_only=True).decode())
        raise SystemExit(0)
    return config


def parse_run(argv: Sequence[str]) -> tuple[Config, Path | None]:
    """Reads the command line of `python -m segp_ext.train`. The process may end, as in `parse`.

    Returns:
        The settings, and the folder of the run that goes on, or None for a new run.
    """
    try:
        named, arguments = take(joined(argv), "--resume")
    except ValueError:
        named = []  # `parse` says what is wrong
    if not named:
        return parse(argv), None
    parser = build_parser("train", DESCRIPTION)
    try:
        path = find_run(Path(named[-1]))
        check_version(path)
    except (FileNotFoundError, ValueError) as error:
        parser.error(f"--resume: {error}")
    for argument in arguments:
        option = argument.removeprefix("--").split("=")[0]
        if argument.startswith("--") and option not in (*RESUMABLE, "help"):
            parser.error(
                f"--resume takes the run's own settings; got --{option} besides; only these may change: {', '.join(RESUMABLE)}"
            )
    return parse(["--config", str(path / "config.yaml"), *arguments]), path
