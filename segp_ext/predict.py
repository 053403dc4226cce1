"""Names the classes of image files with a saved learner: `segp predict CHECKPOINT IMAGE...`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from segp_ext.config import PATHS
from segp_ext.data.decoding import open_image
from segp_ext.method.learner import SeGPCL
from segp_ext.run.arguments import unrecognized
from segp_ext.run.help import HelpFormatter
from segp_ext.run.prediction import answers, chosen_files, find_checkpoint
from segp_ext.runtime.program import as_typed, program
from segp_ext.runtime.progress import plain_warnings, run_command

DESCRIPTION = """\
Name the classes of images with what was learnt. An image that cannot be read is named and skipped.

Exit status: 0 if all images were named, 2 if one was not.

examples:
  python -m segp_ext.predict runs/NAME photo.jpg
  python -m segp_ext.predict runs/NAME photos --topk 1
  python -m segp_ext.predict saved 'photos/*.png' --path text --device cpu
"""


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line; exits with a message on an argument that does not fit."""
    parser = argparse.ArgumentParser(
        prog=program("predict"),
        description=as_typed(DESCRIPTION),
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "checkpoint", type=Path, help="folder of a saved learner, or of a run (its last checkpoint is taken)"
    )
    parser.add_argument("images", nargs="+", help="image files, folders of them, or patterns such as 'photos/*.jpg'")
    parser.add_argument("--topk", type=int, default=3, metavar="N", help="classes to name for each image (default: 3)")
    parser.add_argument("--path", choices=PATHS, help="scores to use (default: as the learner was configured)")
    parser.add_argument("--device", default="auto", help="torch device (default: CUDA where it is usable)")
    parser.add_argument(
        "--pretrained",
        metavar="WEIGHTS",
        help="weights of the backbone, if they were moved: a file, a folder, or a tag (default: where they were)",
    )
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(unrecognized(unknown, parser))
    if options.topk < 1:
        parser.error(f"--topk must be 1 or more; got {options.topk}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        Exit status, as `DESCRIPTION` says.
    """
    plain_warnings()
    options = read_options(argv)
    status = 0

    def fails(reason: object) -> None:
        nonlocal status
        print(f"error: {reason}", file=sys.stderr)
        status = 2

    files: list[Path] = []
    for text in options.images:
        try:
            files += chosen_files(text)
        except (OSError, ValueError) as error:
            fails(error)
    if not files:
        return status
    try:
        learner = SeGPCL.load(
            find_checkpoint(Path(os.path.expanduser(options.checkpoint))), options.device, options.pretrained
        )
    except (FileNotFoundError, ValueError) as error:
        fails(error)
        return status
    size = learner.config.inference.batch_size
    for start in range(0, len(files), size):
        read: list[tuple[Path, Image.Image]] = []
        for file in files[start : start + size]:
            try:
                read.append((file, open_image(file)))
            except ValueError as error:
                fails(error)
        for file, found in answers(learner, read, options.topk, options.path) if read else ():
            if isinstance(found, Exception):
                fails(f"{file}: {found}")
            else:
                print(f"{file}: " + ", ".join(f"{name} {100 * score:.1f} %" for name, score in found))
    return status


if __name__ == "__main__":
    run_command(main)
