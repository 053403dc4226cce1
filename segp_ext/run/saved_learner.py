"""The saved learner that a command names: its arguments on the command line, and the checkpoint in its folder."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from pathlib import Path

from segp_ext.run.arguments import unrecognized
from segp_ext.run.directory import saved_tasks
from segp_ext.run.help import HelpFormatter
from segp_ext.runtime.program import as_typed, program
from segp_ext.storage.sealed import check_seal, recovered


def learner_parser(command: str, description: str, loads: bool = True) -> argparse.ArgumentParser:
    """Makes the parser of a command that takes a saved learner, with the arguments LEARNER and --pretrained.

    Args:
        command: Name of the command, "predict".
        description: What the command does, with examples.
        loads: Whether the command loads the model; without it there is no --pretrained.
    """
    parser = argparse.ArgumentParser(
        prog=program(command), description=as_typed(description), formatter_class=HelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "learner",
        metavar="LEARNER",
        type=Path,
        help="folder of a saved learner, or of a run (its last checkpoint is taken)",
    )
    if loads:
        parser.add_argument(
            "--pretrained",
            metavar="WEIGHTS",
            help="weights of the backbone, if they were moved: a file, a folder, or a tag (default: where they were)",
        )
    return parser


def parsed(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads a command line; exits with a message and close names on an argument that does not exist."""
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(unrecognized(unknown, parser))
    return options


def find_checkpoint(place: Path) -> Path:
    """Finds a checkpoint folder; warns of every newer checkpoint that is damaged.

    Args:
        place: Folder of a saved learner, or of a run. Of a run the newest whole checkpoint is taken.

    Raises:
        FileNotFoundError: If the folder holds neither a learner nor a whole checkpoint.
    """
    place = place.resolve()
    if (recovered(place) / "learner.json").is_file():
        return place
    for path in saved_tasks(place):
        try:
            check_seal(path)
            return path
        except (OSError, ValueError) as error:
            warnings.warn(f"{error}; the one before it is taken", RuntimeWarning, stacklevel=2)
    raise FileNotFoundError(f"no checkpoint at {place}: neither learner.json nor a whole checkpoints/task-* is there")
