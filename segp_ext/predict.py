"""Names the classes of image files with a saved learner: `segp predict LEARNER PATH...`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from segp_ext.config import FROZEN_PATHS, PATHS
from segp_ext.data.chosen_files import chosen_files
from segp_ext.method.learner import SeGPCL
from segp_ext.report.prediction_rows import FORMATS, RowFormat, check_out, choose_format, rows_written
from segp_ext.run.prediction import FilePredictor, Question
from segp_ext.run.saved_learner import find_checkpoint, learner_parser, parsed
from segp_ext.runtime.progress import is_terminal, plain_warnings, progress, run_command

DESCRIPTION = """\
Name the classes of images with what was learnt: a row for each image, with its best names and their scores.

An image that cannot be read is a row with its error, and the rest goes on. A path that is not there, or a folder without images, is
an error before the learner is loaded.

Exit status: 0 if all images were named, 1 if one was not, 2 if the command could not do its work.

examples:
  python -m segp_ext.predict runs/NAME photo.jpg
  python -m segp_ext.predict saved photos --topk 1 --out names.csv
  python -m segp_ext.predict saved 'photos/*.png' --path text --device cpu
  python -m segp_ext.predict saved photos --others zebra "old lion"
  python -m segp_ext.predict saved photos --unknown 0.05
  find photos -name '*.jpg' | python -m segp_ext.predict saved - --format jsonl
"""


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line; exits with a message on an argument that does not fit."""
    parser = learner_parser("predict", DESCRIPTION)
    parser.add_argument(
        "images",
        metavar="PATH",
        nargs="+",
        help="image files, folders at any depth, patterns such as 'photos/*.jpg', or - for a list of them on standard input, one a line",
    )
    parser.add_argument("--topk", type=int, default=3, metavar="N", help="names for each image (default: 3)")
    parser.add_argument(
        "--path", choices=(*PATHS, *FROZEN_PATHS), help="scores to use (default: as the learner was configured)"
    )
    parser.add_argument(
        "--others",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="names that were never learnt, which compete by text alone",
    )
    parser.add_argument(
        "--unknown",
        type=float,
        metavar="RATE",
        help="call images that fit no learnt class unknown; this share of images of learnt classes, as 0.05, may be called so by mistake",
    )
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="form of the rows (default: by the ending of --out, else a table on a terminal, csv in a pipe or file)",
    )
    parser.add_argument(
        "--out", metavar="FILE", help="file to write, which appears whole at the end, and replaces another"
    )
    parser.add_argument("--batch_size", type=int, metavar="N", help="images encoded together (default: the learner's)")
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that decode images ahead of the model (default: the learner's loading.workers, or else up to 8 for a GPU, and none "
        "on the CPU, whose cores the model needs)",
    )
    parser.add_argument("--device", default="auto", help="torch device (default: CUDA where it is usable)")
    options = parsed(parser, argv)
    for name, least in (("topk", 1), ("batch_size", 1), ("workers", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            parser.error(f"--{name} must be {least} or more; got {value}")
    if options.unknown is not None and not 0 < options.unknown < 1:
        parser.error(f"--unknown must be above 0 and below 1; got {options.unknown}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments; by default the process's arguments.

    Returns:
        Exit status, as `DESCRIPTION` says; 130 after Ctrl-C.
    """
    plain_warnings()
    options = read_options(argv)
    try:
        out = None if options.out is None else Path(os.path.expanduser(options.out))
        form = choose_format(options.format, out, is_terminal(sys.stdout))
        if out is not None:
            check_out(out)
        files = chosen_files(options.images, sys.stdin.buffer)
        place = find_checkpoint(Path(os.path.expanduser(options.learner)))
        learner = SeGPCL.load(place, options.device, options.pretrained)
        question = Question(options.topk, options.path, tuple(options.others), options.unknown)
        predictor = FilePredictor(learner.classifier(), question, options.batch_size, options.workers)
        failed = predict_files(predictor, files, form, out)
    except BrokenPipeError:
        raise
    except torch.OutOfMemoryError:
        print("error: the GPU's memory ran out; lower --batch_size", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    if failed:
        print(f"error: {failed} of {len(files)} images could not be named; their rows say why", file=sys.stderr)
    return 1 if failed else 0


def predict_files(predictor: FilePredictor, files: Sequence[Path], form: RowFormat, out: Path | None) -> int:
    """Predicts the files and writes their rows under a progress bar.

    Returns:
        The number of files that could not be named.
    """
    failed = 0
    with (
        rows_written(form, predictor.layout(files), out) as write,
        progress((), "predicting", total=len(files)) as bar,
    ):
        for rows in predictor.rows(files):
            write(rows)
            bar.update(len(rows))
            failed += sum(row.error is not None for row in rows)
    return failed


if __name__ == "__main__":
    run_command(main)
