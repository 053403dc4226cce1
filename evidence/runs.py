"""Finished runs of a comparison, opened again: for the commands that ask their models something."""

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
    """A finished run's settings, and the data that it learnt.

    Raises:
        OSError, ValueError: if there is no such run, it did not end, or its data are others now.
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
    """A finished run's last model, its text embeddings made as they were for its own figures, and its data.

    Raises:
        OSError, ValueError: as `scenario_of`.
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
        module: the command's module, "evidence.beta".
        description: what the command does, for its help.
        out: what its `--out` is.
    """
    parser = argparse.ArgumentParser(
        f"python -m {module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("comparison", type=Path, help="folder that segp_ext.compare wrote")
    parser.add_argument(
        "--rows", nargs="+", required=True, help="methods as segp_ext.compare has them, the reference first"
    )
    parser.add_argument("--seeds", nargs="+", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help=out)
    return parser


def of_every_run(
    parser: argparse.ArgumentParser, options: argparse.Namespace, ask: Callable[[Path], Found]
) -> dict[str, list[Found]]:
    """What `ask` finds in the folder of each run, by row, in the order of the seeds; what is wrong ends the command before it begins."""
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
