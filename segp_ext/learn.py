"""Teaches a saved learner the new classes of a folder: `segp learn LEARNER FOLDER`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from segp_ext.method.learner import SeGPCL
from segp_ext.run.changed_learner import check_target
from segp_ext.run.learning_command import add_learning_options, ended, learn_and_save, say
from segp_ext.run.saved_learner import find_checkpoint, learner_parser, parsed
from segp_ext.runtime.program import program
from segp_ext.runtime.progress import plain_warnings, progress_in_lines, run_command
from segp_ext.storage.learner_lock import held_alone

DESCRIPTION = """\
Learn the new classes of a folder as the learner's next task. FOLDER holds a folder of images for each class. Images of earlier classes are
not needed.

The saved learner is replaced as a whole at the end: it is the old one or the new one, whenever the process stops. A learning that was
stopped goes on when the same command is given again.

Exit status: 0 if all classes were learnt, 1 if some were refused, 2 if nothing was learnt.

examples:
  python -m segp_ext.learn animals photos/2026-02
  python -m segp_ext.learn animals photos/2026-03 --known update
  python -m segp_ext.learn runs/NAME photos/2026-02 --out animals
"""


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line; exits with a message on an argument that does not fit."""
    parser = learner_parser("learn", DESCRIPTION)
    parser.add_argument(
        "folder", metavar="FOLDER", type=Path, help="folder that holds a folder of images for each class"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="folder to save the learner in, where no other learner is (default: LEARNER itself; a run needs one)",
    )
    add_learning_options(parser)
    parser.add_argument("--device", default="auto", help="torch device (default: CUDA where it is usable)")
    return parsed(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments; by default the process's arguments.

    Returns:
        Exit status, as `DESCRIPTION` says; 130 after Ctrl-C, 143 after SIGTERM.
    """
    plain_warnings()
    options = read_options(argv)
    with progress_in_lines(options.progress):
        return ended(partial(_learn, options), "a learner with a larger training.accumulate needs less")


def _learn(options: argparse.Namespace) -> int:
    place = Path(os.path.expanduser(options.learner)).absolute()
    checkpoint = find_checkpoint(place)
    named = options.out or options.learner
    out = Path(os.path.expanduser(named)).absolute()
    check_target(checkpoint if options.out is None else out.resolve(), place.resolve())
    with held_alone(out):
        learner = SeGPCL.load(checkpoint, options.device, options.pretrained)
        whole = learn_and_save(
            learner, options.folder, options.names, options.known, out, checkpoint, options.descriptions
        )
    say(f"saved to {named}; `{program('predict')} {named} PHOTO` names images")
    return 0 if whole else 1


if __name__ == "__main__":
    run_command(main)
