"""Names the classes of image files with a saved learner: `python -m segp_ext.predict CHECKPOINT IMAGE...`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from segp_ext.config import PATHS
from segp_ext.learner import SeGPCL
from segp_ext.progress import plain_warnings


def find_checkpoint(place: Path) -> Path:
    """A checkpoint folder: `place` itself, or the last one of the run in it.

    Raises:
        FileNotFoundError: if there is none.
    """
    if (place / "learner.json").is_file():
        return place
    saved = sorted(path.parent for path in place.glob("checkpoints/*/learner.json"))
    if not saved:
        raise FileNotFoundError(
            f"no checkpoint at {place}: neither learner.json nor checkpoints/*/learner.json is there"
        )
    return saved[-1]


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
