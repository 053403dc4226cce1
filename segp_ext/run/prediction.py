"""Finds the checkpoint and the image files that a prediction names, and predicts image by image where a batch fails."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from segp_ext.config import ScorePath
from segp_ext.data.files import SUFFIXES, image_files
from segp_ext.method.classifier import Prediction
from segp_ext.method.learner import SeGPCL
from segp_ext.run.directory import saved_tasks
from segp_ext.storage.sealed import check_seal, recovered


def find_checkpoint(place: Path) -> Path:
    """Finds a checkpoint folder; warns of every newer checkpoint that is damaged.

    Args:
        place: Folder of a saved learner, or of a run. Of a run the newest whole checkpoint is taken.

    Raises:
        FileNotFoundError: If the folder holds neither a learner nor a whole checkpoint.
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
    """Lists the image files that an argument names.

    Args:
        text: A file, a folder (all its images are taken), or a pattern that the shell left alone. A folder that matches a pattern
            gives its images.

    Returns:
        The files. A file that is not there is returned too: reading it says what is wrong.

    Raises:
        OSError: If a folder may not be read.
        ValueError: If a folder has no images, a pattern matches nothing, or the argument is an address.
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
        return [path]
    if not found:
        raise ValueError(f"{none}; known endings: {', '.join(sorted(SUFFIXES))}")
    return found


def answers(
    learner: SeGPCL, images: Sequence[tuple[Path, Image.Image]], topk: int, path: ScorePath | None
) -> Iterator[tuple[Path, list[Prediction] | Exception]]:
    """Yields each image's file with its predictions, or with the error that it met. An image that does not fit costs the others nothing.

    Args:
        learner: Learner that predicts.
        images: Files with their opened images.
        topk: Number of classes to name for each image.
        path: Path whose scores are used; the learner's own if None.
    """
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
