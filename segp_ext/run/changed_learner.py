"""A saved learner that a command changes: where the changed one goes, and how two commands keep out of each other's way."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from segp_ext.method.learner import SeGPCL
from segp_ext.run.saved_learner import find_checkpoint
from segp_ext.storage.checkpoint import check_place
from segp_ext.storage.learner_lock import held_alone


def change_learner(
    learner: str | Path, change: Callable[[SeGPCL], None], out: Path | None = None, pretrained: str | None = None
) -> tuple[SeGPCL, Path]:
    """Loads a saved learner, changes it and saves it; other processes cannot change it meanwhile.

    Args:
        learner: Folder of a saved learner, or of a run, whose last checkpoint is then taken.
        change: Changes the learner.
        out: Folder for the changed learner, where no other learner is; None replaces the learner in its own folder.
        pretrained: Weights of the backbone, as `SeGPCL.load` takes them.

    Returns:
        The changed learner and its folder.

    Raises:
        FileNotFoundError: If there is no learner.
        FileExistsError: If another process changes the learner, or something else is at `out`.
        ValueError: If the folder belongs to a run, and what `change` raises. Nothing on disk is changed then.
    """
    place = Path(os.path.expanduser(learner)).resolve()
    target = place if out is None else Path(os.path.expanduser(out)).resolve()
    checkpoint = find_checkpoint(place)
    check_target(checkpoint if out is None else target, place)
    with held_alone(target):
        loaded = SeGPCL.load(checkpoint, "cpu", pretrained)
        change(loaded)
        loaded.save(target)
    return loaded, target


def check_target(target: Path, place: Path) -> None:
    """Refuses a folder that a changed learner may not be saved in, before any work.

    Args:
        target: The folder, without links.
        place: The folder of the learner itself, without links.

    Raises:
        FileExistsError: If the folder holds another learner, or other things.
        ValueError: If it is one of a run's checkpoints.
    """
    if _is_in_run(target):
        raise ValueError(
            f"{target} belongs to a run, whose checkpoints stay as they are; save a copy with --out FOLDER"
        )
    check_place(target)
    if target != place and target.is_dir() and any(target.iterdir()):
        raise FileExistsError(
            f"{target} holds another learner, which would be lost; choose another place, or remove it first"
        )


def _is_in_run(checkpoint: Path) -> bool:
    """Tells whether a checkpoint's folder is among a run's checkpoints."""
    return checkpoint.parent.name == "checkpoints" and (checkpoint.parent.parent / "config.yaml").is_file()
