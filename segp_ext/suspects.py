"""Lists images whose labels may be wrong, before a folder is learnt: `segp suspects LEARNER FOLDER`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from segp_ext.data.labelled_folder import read_labelled_folder
from segp_ext.data.messages import several
from segp_ext.method.learner import SeGPCL
from segp_ext.report.prediction_rows import check_out
from segp_ext.report.suspect_rows import suspects_csv, suspects_text
from segp_ext.report.table import percent
from segp_ext.run.folder_arguments import folder_parsed, folder_parser
from segp_ext.run.label_check import find_suspects
from segp_ext.run.saved_learner import find_checkpoint
from segp_ext.runtime.progress import first_line, plain_warnings, run_command, say
from segp_ext.storage.sealed import write_atomically

DESCRIPTION = """\
List images of a folder whose labels may be wrong, before it is learnt: FOLDER/<class>/*, or FOLDER/{train,test}/<class>/*. Its classes
need not be learnt. Each label is tested by a classifier that has not seen the image, on features of the learner's pre-trained model.
Images that are there twice are listed too, with the same pixels or nearly so; under two labels, one of them is wrong.

An image that cannot be read is named and left out. Nothing in the folder is changed.

Exit status: 0 if the folder was tested, 2 if the command could not do its work.

examples:
  python -m segp_ext.suspects runs/NAME photos
  python -m segp_ext.suspects saved photos --out suspects.csv
"""
WEAK = 0.8
"""Least agreement of model and labels without a note."""


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line; exits with a message on an argument that does not fit."""
    parser = folder_parser("suspects", DESCRIPTION)
    parser.add_argument("--out", type=Path, metavar="FILE", help="CSV file to write, with a row for each finding")
    return folder_parsed(parser, argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        Exit status, as `DESCRIPTION` says; 130 after Ctrl-C.
    """
    plain_warnings()
    options = read_options(argv)
    out = None if options.out is None else Path(os.path.expanduser(options.out))
    root = Path(os.path.expanduser(options.folder))
    try:
        if out is not None:
            check_out(out)
        folder = read_labelled_folder(root, all_parts=True, names_file=options.names_file)
        place = find_checkpoint(Path(os.path.expanduser(options.learner)))
        learner = SeGPCL.load(place, options.device, options.pretrained)
        backbone = learner.backbone.without_adapter()
        found = find_suspects(backbone, learner.config, folder, options.batch_size, options.workers)
        if out is not None:
            write_atomically(out, suspects_csv(found.rows))
    except torch.OutOfMemoryError:
        print("error: the GPU's memory ran out; lower --batch_size", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    say(suspects_text(found.rows, found.images))
    if found.agreement < WEAK:
        print(
            f"note: this learner's model tells the labels apart in {percent(found.agreement)} % of the images, so many of these labels are "
            "right",
            file=sys.stderr,
        )
    if found.untested:
        print(f"note: too few images to test the labels of {several(found.untested)}", file=sys.stderr)
    for file, why in found.unread.items():
        print(f"left out: {file}: {why}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_command(main)
