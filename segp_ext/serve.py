"""Answers over HTTP which classes images belong to, with a page for people: `segp serve LEARNER`."""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from segp_ext.config import FROZEN_PATHS, PATHS
from segp_ext.run.saved_learner import learner_parser, parsed
from segp_ext.runtime.progress import first_line, plain_warnings, run_command, say

NEEDS = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")
"""Modules of the extra `serve`."""
DESCRIPTION = """\
Answer over HTTP which classes images belong to. A page in the browser names pictures that are dropped on it, and learns a new class from
pictures; programs ask POST /predict. When the learner on disk changes, the new one takes over, and requests in hand end on the old one.

It answers this machine alone, unless --host says otherwise, which needs a --token. No image is stored, unless --keep_images says where.

Exit status: 130 after Ctrl-C, 2 if the server could not start.

examples:
  python -m segp_ext.serve saved
  python -m segp_ext.serve runs/NAME --port 8080 --unknown 0.02
  python -m segp_ext.serve saved --host 0.0.0.0 --token "$(openssl rand -hex 16)"
"""


def read_options(argv: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line; exits with a message on an argument that does not fit."""
    parser = learner_parser("serve", DESCRIPTION)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine alone)")
    add("--port", type=int, default=8000, metavar="N", help="port; 0 for one that is free (default: 8000)")
    add(
        "--token",
        default=os.environ.get("SEGP_TOKEN") or None,
        help="what a request must bring, as Authorization: Bearer (default: the variable SEGP_TOKEN)",
    )
    add("--device", default="auto", help="torch device (default: CUDA where it is usable)")
    add("--path", choices=(*PATHS, *FROZEN_PATHS), help="scores to use (default: as the learner was configured)")
    add(
        "--unknown",
        type=float,
        default=0.05,
        metavar="RATE",
        help="share of images of learnt classes that may be called unknown, where the learner tells them (default: 0.05)",
    )
    add(
        "--batch_size",
        type=int,
        default=32,
        metavar="N",
        help="images that pass through the model together (default: 32)",
    )
    add(
        "--batch_wait",
        type=float,
        default=2.0,
        metavar="MS",
        help="milliseconds that an image waits for others (default: 2)",
    )
    add("--threads", type=int, default=2, metavar="N", help="threads that call the model (default: 2)")
    add(
        "--queue",
        type=int,
        default=256,
        metavar="N",
        help="images in hand, above which requests get 503 (default: 256)",
    )
    add("--max_mb", type=float, default=32.0, metavar="MB", help="megabytes of one request (default: 32)")
    add("--max_megapixels", type=float, default=40.0, metavar="MP", help="million pixels of one image (default: 40)")
    add("--max_images", type=int, default=64, metavar="N", help="images of one request (default: 64)")
    add(
        "--timeout",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds for a request's body, and for its answer (default: 30)",
    )
    add(
        "--watch", type=float, default=1.0, metavar="S", help="seconds between looks for a changed learner (default: 1)"
    )
    add(
        "--keep_images",
        type=Path,
        metavar="FOLDER",
        help="folder that keeps the pictures of learnt classes (default: none)",
    )
    options = parsed(parser, argv)
    for name, least in (
        ("batch_size", 1),
        ("threads", 1),
        ("queue", 1),
        ("max_images", 1),
        ("port", 0),
    ):
        if getattr(options, name) < least:
            parser.error(f"--{name} must be {least} or more; got {getattr(options, name)}")
    for name in ("max_mb", "max_megapixels", "timeout", "watch"):
        if not 0 < getattr(options, name) < math.inf:
            parser.error(f"--{name} must be a number above 0; got {getattr(options, name)}")
    if not 0 <= options.batch_wait < math.inf:
        parser.error(f"--batch_wait must be a number from 0; got {options.batch_wait}")
    if not 0 < options.unknown < 1:
        parser.error(f"--unknown must be between 0 and 1; got {options.unknown}")
    if options.port > 65535:
        parser.error(f"--port must be 65535 or less; got {options.port}")
    if options.max_images > options.queue:
        parser.error(f"--max_images must be --queue or less; got {options.max_images} and {options.queue}")
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: Arguments; by default the process's arguments.

    Returns:
        Exit status, as `DESCRIPTION` says.
    """
    plain_warnings()
    options = read_options(argv)
    lacks = [name for name in NEEDS if importlib.util.find_spec(name) is None]
    if lacks:
        print(
            f"error: serve needs {', '.join(lacks)}, not installed here: pip install 'segp_ext[serve]'", file=sys.stderr
        )
        return 2
    from segp_ext.serving.web.starting import serve_learner  # which needs the extra

    try:
        serve_learner(options, lambda line: say(line, sys.stderr))
    except (OSError, ValueError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    run_command(main)
