"""A run that takes seconds: five classes in each of two tasks of the built-in digits, six images of each class."""

from __future__ import annotations

from pathlib import Path

from segp_ext import train

FAST = ["--data.max_images_per_class=6", "--training.epochs=1", "--data.classes_per_task=5", "--anchors.steps=2"]


def small_run(folder: Path, *arguments: str) -> int:
    """Runs `segp train` in this process, with folder/run as the run's folder; returns its exit status."""
    return train.main([*FAST, f"--run.directory={folder}", "--run.name=run", *arguments])
