"""Finished runs of a comparison, opened again: for the commands that ask their final models something."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from segp_ext.command_line import read_settings
from segp_ext.compare import Row
from segp_ext.config import Config, from_dict
from segp_ext.data import Task, load_scenario
from segp_ext.learner import SeGPCL

Found = TypeVar("Found")


def opened(run: Path) -> tuple[SeGPCL, list[Task]]:
    """The run's final model, and the tasks that it has learnt.

    Raises:
        OSError, ValueError: if there is no such run.
    """
    config = from_dict(Config, read_settings(run / "config.yaml"))
    return SeGPCL.load(run / "checkpoints/latest", config.model.device), list(load_scenario(config.data).tasks)


def arguments(description: str) -> argparse.ArgumentParser:
    """What such a command takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", type=Path, help="folder that segp_ext.compare wrote")
    parser.add_argument(
        "--rows", nargs="+", required=True, help="methods as segp_ext.compare has them, the reference first"
    )
    parser.add_argument("--seeds", nargs="+", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="file for the table")
    return parser


def of_every_run(
    parser: argparse.ArgumentParser, options: argparse.Namespace, ask: Callable[[Path], Found]
) -> dict[str, list[Found]]:
    """What `ask` finds in the folder of each run, by row, in the order of the seeds; a run that is not there ends the command."""
    found: dict[str, list[Found]] = {}
    for row in options.rows:
        try:
            found[row] = [ask(Row(row).folder(options.comparison, seed)) for seed in options.seeds]
        except (OSError, ValueError) as error:
            parser.error(f"{row}: {error}")
    return found
