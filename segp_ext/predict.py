"""Names the classes of image files with a saved learner: `python -m segp_ext.predict CHECKPOINT IMAGE...`."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from segp_ext.config import PATHS
from segp_ext.learner import SeGPCL
from segp_ext.progress import plain_warnings
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


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    plain_warnings()
    parser = argparse.ArgumentParser(prog="python -m segp_ext.predict", description="Name the classes of images.")
    parser.add_argument(
        "checkpoint", type=Path, help="folder of a saved learner, or of a run (its last checkpoint is taken)"
    )
    parser.add_argument("images", type=Path, nargs="+", help="image files")
    parser.add_argument("--topk", type=int, default=3, help="classes to name per image (default: 3)")
    parser.add_argument("--path", choices=PATHS, help="scores to use (default: as the learner was configured)")
    parser.add_argument("--device", default="auto", help="torch device (default: CUDA where it is usable)")
    options = parser.parse_args(argv)
    try:
        learner = SeGPCL.load(find_checkpoint(options.checkpoint), options.device)
        predictions = learner.predict(options.images, options.topk, options.path)
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for image, best in zip(options.images, predictions, strict=True):
        print(f"{image}: " + ", ".join(f"{name} {100 * score:.1f} %" for name, score in best))
    return 0


if __name__ == "__main__":
    sys.exit(main())
