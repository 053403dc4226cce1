"""Opens the finished runs of a comparison again, for the commands that question their models."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from segp_ext.config import Config, from_dict
from segp_ext.config.settings_files import read_settings
from segp_ext.data import Scenario, load_scenario
from segp_ext.method.learner import SeGPCL
from segp_ext.report.result import RunResult
from segp_ext.run.directory import check_version
from segp_ext.run.rows import Row

Found = TypeVar("Found")


def scenario_of(run: Path) -> tuple[Config, Scenario]:
    """Returns the settings of a finished run and the data that it learnt.

    Raises:
        OSError: if there is no such run.
        ValueError: if the run did not finish, or its data have changed.
    """
    check_version(run)
    config = from_dict(Config, read_settings(run / "config.yaml"))
    result = RunResult.read(run / "result.json")
    if result.status != "finished":
        raise ValueError(f"{run} must be a finished run; it is {result.status}: {result.message}")
    scenario = load_scenario(config.data)
    if scenario.split_hash != result.protocol["split_hash"]:
        raise ValueError(f"{run} was learnt from other images than {result.protocol['data']} holds now")
    return config, scenario


def opened(run: Path) -> tuple[SeGPCL, Scenario]:
    """Returns the last model of a finished run and the data that it learnt.

    Raises:
        OSError: as `scenario_of`.
        ValueError: as `scenario_of`, or if the checkpoint does not hold all classes.
    """
    config, scenario = scenario_of(run)
    learner = SeGPCL.load(run / "checkpoints/latest", config.model.device)
    if list(learner.class_names) != scenario.class_names:
        raise ValueError(
            f"the checkpoint of {run} knows {len(learner.class_names)} of {len(scenario.class_names)} classes"
        )
    return learner, scenario


def arguments(module: str, description: str, out: str = "file for the table") -> argparse.ArgumentParser:
    """Makes the parser of a command that opens a comparison's runs.

    Args:
        module: the command's module, as "evidence.beta".
        description: the command's help.
        out: help of `--out`.
    """
    parser = argparse.ArgumentParser(
        f"python -m {module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("comparison", type=Path, help="folder that segp_ext.compare wrote")
    parser.add_argument(
        "--rows",
        nargs="+",
        required=True,
        help="rows of the comparison, as given to segp_ext.compare; the reference first",
    )
    parser.add_argument("--seeds", nargs="+", type=int, required=True, help="seeds of the comparison")
    parser.add_argument("--out", type=Path, required=True, help=out)
    return parser


def of_every_run(
    parser: argparse.ArgumentParser, options: argparse.Namespace, ask: Callable[[Path], Found]
) -> dict[str, list[Found]]:
    """Calls `ask` with the folder of each run, after checking that every run is finished and its data are there.

    An error ends the command with a message that names the row.

    Args:
        parser: the command's parser.
        options: its options, with `comparison`, `rows`, `seeds` and `out`.
        ask: takes the folder of a run, and returns its finding.

    Returns:
        The findings by row, in the order of the seeds.
    """
    for name in ("rows", "seeds"):
        values = getattr(options, name)
        if len({*values}) < len(values):
            parser.error(f"--{name} must hold each of them once; got {' '.join(map(str, values))}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    found: dict[str, list[Found]] = {}
    row = ""
    try:
        for look in (scenario_of, ask):
            for row in options.rows:
                found[row] = [look(Row(row).folder(options.comparison, seed)) for seed in options.seeds]  # type: ignore[misc]
    except (OSError, ValueError) as error:
        parser.error(f"{row}: {error}")
    return found
