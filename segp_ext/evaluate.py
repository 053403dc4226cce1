"""Measures a saved learner on a folder of labelled images: `segp evaluate LEARNER FOLDER`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from segp_ext import suspects
from segp_ext.config import FROZEN_PATHS, PATHS
from segp_ext.data.labelled_folder import read_labelled_folder
from segp_ext.method.learner import SeGPCL
from segp_ext.report.evaluation_page import WHAT, mistake_pictures, write
from segp_ext.report.evaluation_result import FILE
from segp_ext.report.evaluation_tables import evaluation_text
from segp_ext.run.folder_arguments import folder_parsed, folder_parser
from segp_ext.run.folder_evaluation import Asked, evaluate_folder
from segp_ext.run.saved_learner import find_checkpoint
from segp_ext.runtime.progress import first_line, plain_warnings, run_command, say
from segp_ext.storage.sealed import check_replaceable

DESCRIPTION = """\
Measure what was learnt on a folder whose class folders label its images: FOLDER/<class>/*, or FOLDER/test/<class>/* beside a train
folder. A report shows accuracy, each class, the confusion matrix, calibration, the worst mistakes, and how well classes that were not
learnt are told from those that were.

An image that cannot be read is left out and named.

Exit status: 0 if all images were read, 1 if one was not, 2 if the command could not do its work.

examples:
  python -m segp_ext.evaluate runs/NAME photos
  python -m segp_ext.evaluate saved photos --path text --out on_text --json
  python -m segp_ext.evaluate saved photos --suspects
"""


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line; exits with a message on an argument that does not fit."""
    parser = folder_parser("evaluate", DESCRIPTION)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="folder to write; an evaluation that is there is replaced (default: LEARNER-evaluation, in the folder where you are)",
    )
    parser.add_argument("--path", choices=(*PATHS, *FROZEN_PATHS), help="scores to use (default: the learner's)")
    parser.add_argument("--json", action="store_true", help="print evaluation.json in place of the tables")
    parser.add_argument(
        "--suspects",
        action="store_true",
        help="list images whose labels may be wrong instead: the command suspects, whose options it then takes",
    )
    return folder_parsed(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        Exit status, as `DESCRIPTION` says; 130 after Ctrl-C.
    """
    plain_warnings()
    given = sys.argv[1:] if argv is None else argv
    if "--suspects" in given:
        return suspects.main([word for word in given if word != "--suspects"])
    options = read_options(given)
    place = Path(os.path.expanduser(options.learner)).absolute()
    out = Path(f"{place.name}-evaluation") if options.out is None else Path(os.path.expanduser(options.out))
    try:
        check_replaceable(out, FILE, WHAT)  # before a model is loaded
        folder = read_labelled_folder(
            Path(os.path.expanduser(options.folder)), all_parts=False, names_file=options.names_file
        )
        learner = SeGPCL.load(find_checkpoint(place), options.device, options.pretrained)
        asked = Asked(place.name, options.path, options.batch_size, options.workers)
        found = evaluate_folder(learner.classifier(), folder, asked)
        pictures = mistake_pictures(found, folder.base, learner.config.loading.orientation == "exif")
        write(out, found, pictures)
    except torch.OutOfMemoryError:
        print("error: the GPU's memory ran out; lower --batch_size", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    say(
        found.to_json().decode().rstrip("\n")
        if options.json
        else f"{evaluation_text(found)}\n\nAll of it: {out / 'report.html'}"
    )
    for one in found.unread:
        print(f"left out: {one.file}: {one.error}", file=sys.stderr)
    if found.unread:
        total = len(folder.files) + len(folder.missing)
        print(f"error: {len(found.unread)} of {total} images could not be read, and count nowhere", file=sys.stderr)
    return 1 if found.unread else 0


if __name__ == "__main__":
    run_command(main)
