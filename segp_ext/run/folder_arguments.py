"""Arguments of commands that read a folder of labelled images with a saved learner."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from segp_ext.run.saved_learner import learner_parser, parsed


def folder_parser(command: str, description: str) -> argparse.ArgumentParser:
    """Makes the parser of a command that takes a saved learner and a folder, with the arguments that say how to read it.

    Args:
        command: Name of the command, "evaluate".
        description: What the command does, with examples.
    """
    parser = learner_parser(command, description)
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="folder of class folders")
    parser.add_argument("--names_file", metavar="FILE", help="JSON file of class names by class folder")
    parser.add_argument("--batch_size", type=int, metavar="N", help="images encoded together (default: the learner's)")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that decode images ahead of the model (default: as predict)"
    )
    parser.add_argument("--device", default="auto", help="torch device (default: CUDA where it is usable)")
    return parser


def folder_parsed(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line; exits with a message on an argument that does not fit."""
    options = parsed(parser, argv)
    for name, least in (("batch_size", 1), ("workers", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name} must be {least} or more; got {value}")
    return options
