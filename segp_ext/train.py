"""Teaches a model a data set task after task, and shows the table: `segp train`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from segp_ext.config import Config
from segp_ext.report import terminal
from segp_ext.run.command_line import parse_run
from segp_ext.run.run import Run, run_config
from segp_ext.runtime.program import program
from segp_ext.runtime.progress import plain_warnings, run_command
from segp_ext.runtime.stopping import Terminated, terminable

LOWER = {
    "training": "training.prompts_per_pass, or raise training.accumulate",
    "anchors": "anchors.batch_size or anchors.memory_gb",
    "text": "training.prompts_per_pass",
}
"""Settings to lower where memory runs out, by phase; inference.batch_size in all other phases. None of them changes what is learnt."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments; by default the process's arguments.

    Returns:
        Exit status: 0 after the last task, 2 after an error, 130 after Ctrl-C, 143 after SIGTERM.
    """
    plain_warnings()
    config, resume = parse_run([*(sys.argv[1:] if argv is None else argv)])
    with terminable():
        return _run(config, resume)


def _run(config: Config, resume: Path | None) -> int:
    runs: list[Run] = []

    def begun(run: Run) -> None:
        runs.append(run)
        run.say(f"protocol {run.result.protocol['id']}, folder {run.directory}")

    def going_on() -> str:
        if not runs or not runs[0].processes.is_main:
            return ""
        return f"\nto go on: {program('train')} --resume {runs[0].directory}"

    try:
        result = run_config(config, resume, say=_say, begun=begun)
    except KeyboardInterrupt as error:
        print(f"\ninterrupted{going_on()}", file=sys.stderr)
        return 143 if isinstance(error, Terminated) else 130
    except torch.OutOfMemoryError as error:
        phase = (getattr(error, "__notes__", None) or ["loading"])[-1]
        lower = LOWER.get(phase, "inference.batch_size")
        print(f"error: the GPU's memory ran out in phase {phase}; lower {lower}{going_on()}", file=sys.stderr)
        return 2
    except (OSError, ValueError, FloatingPointError) as error:
        print(f"error: {error}{going_on()}", file=sys.stderr)
        return 2
    runs[0].say(f"\n{terminal.run_text(result)}\n\nResults, plots and checkpoints: {runs[0].directory}")
    return 0


def _say(line: str) -> None:
    print(terminal.wrapped(line), flush=True)


if __name__ == "__main__":
    run_command(main)
