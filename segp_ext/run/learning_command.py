"""What `segp new` and `segp learn` share: options, learning a folder and saving the learner, and how they end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from segp_ext.data.messages import several
from segp_ext.data.wordings import described
from segp_ext.method.learner import SeGPCL
from segp_ext.report.terminal import wrapped
from segp_ext.run.learning import Known, chosen, learn_images, look, progress_folder
from segp_ext.runtime.progress import first_line
from segp_ext.runtime.stopping import Terminated, terminable
from segp_ext.storage import sealed

PROGRESS = "print progress as lines, `progress 42 training`, for programs that read them"
"""Meaning of the option --progress."""


def add_learning_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options --known, --names and --progress to a parser."""
    parser.add_argument(
        "--known",
        choices=("refuse", "skip", "update", "train"),
        default="refuse",
        help="what to do with images of classes that were learnt before. refuse: an error, and nothing is learnt. skip: leave them out. "
        "update: the class's prototype and distribution take them. train: training sees them too (default: refuse)",
    )
    parser.add_argument(
        "--names",
        choices=("spaces", "folders"),
        default="spaces",
        help="class names: folders' names with spaces for underscores, or as they are (default: spaces)",
    )
    parser.add_argument(
        "--descriptions",
        metavar="FILE",
        help='JSON file of sentences by class name, {"name": ["sentence", ...]}, which the text encoder reads for these classes; {} '
        "stands for the name (default: the learner's prompt for every class)",
    )
    parser.add_argument("--progress", action="store_true", help=PROGRESS)


def say(line: str) -> None:
    """Prints a line for the user, wrapped for a terminal of 80 columns."""
    print(wrapped(line), flush=True)


def learn_and_save(
    learner: SeGPCL,
    folder: Path,
    names: str,
    known: Known,
    out: Path,
    checkpoint: Path | None = None,
    descriptions: str | None = None,
) -> bool:
    """Lets a learner learn a folder, saves it, and says what was found and what came of it.

    Args:
        learner: The learner.
        folder: Folder of class folders.
        names: How class names are made, as `data.names`.
        known: What to do with known classes.
        out: Folder to save the learner in.
        checkpoint: Folder that it was loaded from; None for a new one.
        descriptions: JSON file of sentences by class name; None without one.

    Returns:
        Whether all classes of the folder could be learnt.

    Raises:
        OSError, ValueError, FloatingPointError: As the functions of `segp_ext.run.learning`. Nothing is saved then.
    """
    found = look(learner, folder, "folders" if names == "folders" else "spaces")
    images = chosen(found, known)
    for line in found.lines():
        say(line)
    wording = {} if descriptions is None else described("descriptions", descriptions, folder, [*images.files])
    kept = [name for name in wording if name in learner.class_names]
    if kept:
        say(f"{several(kept)}: known classes keep the sentences that they were learnt with")
    learnt = learn_images(learner, images, out, known, checkpoint, wording)
    said = learnt.lines(learner)
    learner.save(out)
    if progress_folder(out).is_dir():
        sealed.remove(progress_folder(out))
    for line in said:
        say(line)
    return not found.refused


def ended(work: Callable[[], int], memory: str) -> int:
    """Does the work of a command that learns; says in a line why it stopped, if it did.

    Args:
        work: Does the work; returns an exit status.
        memory: What to do where the GPU's memory runs out.

    Returns:
        The status of `work`; 2 after an error, 130 after Ctrl-C, 143 after SIGTERM.
    """
    try:
        with terminable():
            return work()
    except torch.OutOfMemoryError:
        print(f"error: the GPU's memory ran out; {memory}", file=sys.stderr)
    except (OSError, ValueError, FloatingPointError) as error:
        print(f"error: {first_line(error)}", file=sys.stderr)
    except KeyboardInterrupt as error:
        print("\ninterrupted; nothing was saved. The same command goes on", file=sys.stderr)
        return 143 if isinstance(error, Terminated) else 130
    return 2
