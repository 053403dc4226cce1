"""Writes a saved learner for use without this package: `segp export LEARNER --format FORMAT`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from segp_ext.config import FROZEN_PATHS, PATHS
from segp_ext.data.chosen_files import chosen_files
from segp_ext.method.learner import SeGPCL
from segp_ext.run.saved_learner import find_checkpoint, learner_parser, parsed
from segp_ext.runtime.progress import first_line, plain_warnings, run_command
from segp_ext.serving.agreement import IMAGES
from segp_ext.serving.exporting import FORMATS, check_format, export_learner

DESCRIPTION = f"""\
Write a saved learner for use without this package, into a folder. The export is compared with the learner on {IMAGES} images first: if a
score or a best class differs, nothing is written.

open_clip: merged weights as open_clip's own model, for the text path, with class names, prompts and prototypes beside it. hub: the same
with a model card, ready for the Hugging Face hub; nothing is uploaded. onnx: a model from images to scores, for
ONNX Runtime and others; pip install 'segp_ext[onnx]' once. torch: the same as a program of torch.export.

Exit status: 0 if the export was written, 2 if not.

examples:
  python -m segp_ext.export runs/NAME --format open_clip
  python -m segp_ext.export saved --format onnx --path dual --out for_the_server
  python -m segp_ext.export runs/NAME --format hub --images photos
"""


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line; exits with a message on an argument that does not fit."""
    parser = learner_parser("export", DESCRIPTION)
    parser.add_argument("--format", choices=[*FORMATS], required=True, help="what to write")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder to write; an export that is there is replaced (default: LEARNER-FORMAT, in the folder where you are)",
    )
    parser.add_argument(
        "--path",
        choices=(*PATHS, *FROZEN_PATHS),
        help="scores that onnx and torch give (default: as the learner was configured)",
    )
    parser.add_argument(
        "--images",
        nargs="+",
        metavar="IMAGE",
        help=f"images to compare on: files, folders or patterns, of which {IMAGES} are taken (default: random ones)",
    )
    return parsed(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        Exit status, as `DESCRIPTION` says.
    """
    plain_warnings()
    options = read_options(argv)
    place = Path(os.path.expanduser(options.learner)).absolute()
    out = Path(f"{place.name}-{options.format}") if options.out is None else options.out
    try:
        check_format(options.format, options.path)  # before a model is loaded
        images = None if options.images is None else chosen_files(options.images, sys.stdin.buffer)
        checkpoint = find_checkpoint(place)
        learner = SeGPCL.load(checkpoint, "cpu", options.pretrained)
        done = export_learner(learner, out, options.format, path=options.path, images=images, checkpoint=checkpoint)
    except (ModuleNotFoundError, OSError, ValueError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 2
    found = done.agreement
    print(f"{out}: {done.path} scores of {len(learner.class_names)} classes")
    print(
        f"compared with the learner on {found.images} images: scores differ by {found.score:.1e}, probabilities by "
        f"{found.probability:.1e} at most; every best class is the same"
    )
    return 0


if __name__ == "__main__":
    run_command(main)
