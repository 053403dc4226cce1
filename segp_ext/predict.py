"""Names the classes of image files with a saved learner: `python -m segp_ext.predict CHECKPOINT IMAGE...`."""

from __future__ import annotations

import argparse
import glob
import os
import sys
import warnings
from pathlib import Path

from PIL import Image

from segp_ext.command_line import unrecognized
from segp_ext.config import PATHS
from segp_ext.data.folder import SUFFIXES, image_files
from segp_ext.data.images import open_image
from segp_ext.learner import SeGPCL
from segp_ext.progress import plain_warnings, run_command
from segp_ext.run_directory import saved_tasks
from segp_ext.sealed import check_seal, recovered


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


def chosen_files(given: list[str]) -> list[Path]:
    """The image files that a command line names: files, all images of folders, and what patterns match that no shell has replaced.

    Raises:
        FileNotFoundError: for a folder without images, or a pattern that matches nothing.
    """
    chosen: list[Path] = []
    for text in given:
        path = Path(os.path.expanduser(text))
        if path.is_dir():
            found = image_files(path)
        elif glob.has_magic(text) and not path.exists():
            found = sorted(map(Path, glob.glob(str(path), recursive=True)))
        else:
            found = [path]
        if not found:
            what = f"no image in the folder {text}" if path.is_dir() else f"no file matches {text}"
            raise FileNotFoundError(f"{what}; known endings: {', '.join(sorted(SUFFIXES))}")
        chosen += found
    return chosen


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status, 2 if an image could not be read."""
    plain_warnings()
    parser = argparse.ArgumentParser(
        prog="python -m segp_ext.predict", description="Name the classes of images.", allow_abbrev=False
    )
    parser.add_argument(
        "checkpoint", type=Path, help="folder of a saved learner, or of a run (its last checkpoint is taken)"
    )
    parser.add_argument("images", nargs="+", help="image files, folders of them, or patterns such as 'photos/*.jpg'")
    parser.add_argument("--topk", type=int, default=3, help="classes to name per image (default: 3)")
    parser.add_argument("--path", choices=PATHS, help="scores to use (default: as the learner was configured)")
    parser.add_argument("--device", default="auto", help="torch device (default: CUDA where it is usable)")
    parser.add_argument("--pretrained", help="the backbone's weights, if they were moved: a file, a folder, or a tag")
    options, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(unrecognized(unknown, parser))
    try:
        files = chosen_files(options.images)
        learner = SeGPCL.load(find_checkpoint(Path(os.path.expanduser(options.checkpoint))), options.device, options.pretrained)
        status, size = 0, learner.config.inference.batch_size
        for start in range(0, len(files), size):
            read: list[tuple[Path, Image.Image]] = []
            for file in files[start : start + size]:
                try:
                    read.append((file, open_image(file)))
                except ValueError as error:
                    print(f"error: {error}", file=sys.stderr)
                    status = 2
            predictions = learner.predict([image for _, image in read], options.topk, options.path)
            for (file, _), best in zip(read, predictions, strict=True):
                print(f"{file}: " + ", ".join(f"{name} {100 * score:.1f} %" for name, score in best))
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    run_command(main)
