"""Names the classes of image files with a saved learner: `python -m segp_ext.predict CHECKPOINT IMAGE...`."""

from __future__ import annotations

import argparse
import glob
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from segp_ext.config import PATHS, ScorePath
from segp_ext.data.folder import SUFFIXES, image_files
from segp_ext.data.images import open_image
from segp_ext.method.classifier import Prediction
from segp_ext.method.learner import SeGPCL
from segp_ext.run.command_line import HelpFormatter, unrecognized
from segp_ext.run.directory import saved_tasks
from segp_ext.runtime.progress import plain_warnings, run_command
from segp_ext.storage.sealed import check_seal, recovered

DESCRIPTION = """\
Name the classes of images with what was learnt. An image that cannot be read is named and skipped.

Exit status: 0 if all images were named, 2 if one was not.

examples:
  python -m segp_ext.predict runs/NAME photo.jpg
  python -m segp_ext.predict runs/NAME photos --topk 1
  python -m segp_ext.predict saved 'photos/*.png' --path text --device cpu
"""


def find_checkpoint(place: Path) -> Path:
    """A checkpoint folder: `place` itself, or the newest one of the run in it that is whole; says which ones are not.

    Raises:
        FileNotFoundError: if there is none.
    """
    place = place.resolve()
    if (recovered(place) / "learner.json").is_file():
        return place
    for path in saved_tasks(place):
        try:
            check_seal(path)
            return path
        except (OSError, ValueError) as error:
            warnings.warn(f"{error}; the one before it is taken", RuntimeWarning, stacklevel=2)
    raise FileNotFoundError(f"no checkpoint at {place}: neither learner.json nor a whole checkpoints/task-* is there")


def chosen_files(text: str) -> list[Path]:
    """The image files that an argument names: a file, all images of a folder, or those that a pattern matches which no shell has replaced,
    with the images of folders that it matches.

    Raises:
        OSError: for a folder that may not be read.
        ValueError: for a folder without images, a pattern that matches nothing, or an address.
    """
    path = Path(os.path.expanduser(text))
    if path.is_dir():
        found, none = image_files(path), f"no image in the folder {text}"
    elif path.exists():
        return [path]
    elif "://" in text:
        raise ValueError(f"{text} is an address; download it, and give the file")
    elif glob.has_magic(text):
        matched = sorted(map(Path, glob.glob(str(path), recursive=True)))
        each = [file for match in matched for file in (image_files(match) if match.is_dir() else [match])]
        found, none = [*dict.fromkeys(each)], f"no file matches {text}"
    else:
        return [path]  # of which reading says what is wrong
    if not found:
        raise ValueError(f"{none}; known endings: {', '.join(sorted(SUFFIXES))}")
    return found


def answers(
    learner: SeGPCL, images: Sequence[tuple[Path, Image.Image]], topk: int, path: ScorePath | None
) -> Iterator[tuple[Path, list[Prediction] | Exception]]:
    """Every image's file and predictions, or why it has none: one that does not fit costs the others nothing."""
    try:
        found = learner.predict([image for _, image in images], topk, path)
    except (ValueError, FloatingPointError) as error:
        if len(images) == 1:
            yield images[0][0], error
            return
        for image in images:
            yield from answers(learner, [image], topk, path)
    else:
        yield from zip((file for file, _ in images), found, strict=True)


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; exits with a message on what does not fit."""
    parser = argparse.ArgumentParser(
        prog="python -m segp_ext.predict", description=DESCRIPTION, formatter_class=HelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "checkpoint", type=Path, help="folder of a saved learner, or of a run (its last checkpoint is taken)"
    )
    parser.add_argument("images", nargs="+", help="image files, folders of them, or patterns such as 'photos/*.jpg'")
    parser.add_argument("--topk", type=int, default=3, metavar="N", help="classes to name per image (default: 3)")
    parser.add_argument("--path", choices=PATHS, help="scores to use (default: as the learner was configured)")
    parser.add_argument("--device", default="auto", help="torch device (default: CUDA where it is usable)")
    parser.add_argument(
        "--pretrained",
        metavar="WEIGHTS",
        help="the backbone's weights, if they were moved: a file, a folder, or a tag (default: where they were)",
    )
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(unrecognized(unknown, parser))
    if options.topk < 1:
        parser.error(f"--topk must be 1 or more; got {options.topk}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status, 2 if an image could not be read."""
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
