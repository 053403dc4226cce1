"""A run that takes seconds: five classes in each of two tasks of the built-in digits, six images of each class."""

from __future__ import annotations

from pathlib import Path

import pytest

from segp_ext import train
from segp_ext.method.learner import SeGPCL

FAST = ["--data.max_images_per_class=6", "--training.epochs=1", "--data.classes_per_task=5", "--anchors.steps=2"]


def small_run(folder: Path, *arguments: str) -> int:
    """Runs `segp train` in this process, with folder/run as the run's folder; returns its exit status."""
    return train.main([*FAST, f"--run.directory={folder}", "--run.name=run", *arguments])


def stopped_run(folder: Path, *arguments: str) -> Path:
    """Does the same, but is interrupted in the second task; returns the run's folder."""
    original = SeGPCL.learn_task

    def second_is_interrupted(self, dataset, names, *more, **named):
        if len(self.task_sizes) == 1 and self.config.training.epochs:
            raise KeyboardInterrupt
        return original(self, dataset, names, *more, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SeGPCL, "learn_task", second_is_interrupted)
        assert small_run(folder, *arguments) == 130
    return folder / "run"
