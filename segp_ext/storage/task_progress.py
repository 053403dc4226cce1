"""Keeps the progress of a task on disk while it is learnt: its anchors, and how far training has come."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segp_ext.runtime.processes import Processes
from segp_ext.storage import sealed

_STEP = re.compile(r"step-(\d+)")
_POSITION, _TENSORS, _ANCHORS, _START = "position.json", "training.safetensors", "anchors.safetensors", "start.txt"
_KEPT = 2
"""How many positions are kept: the newest, and the one before it in case the newest is damaged."""


class TaskProgress:
    """Anchors and positions of one task, kept in sealed folders. The main process writes them, and all processes read them.

    Args:
        folder: a folder for this task alone.
        every: optimiser steps between two positions that are kept; with None, neither positions nor anchors are kept.
        processes: the processes that learn the task.
        device: the device of this process.
        start: identity of the state that the task started from. Progress from another start is not loaded.
    """

    def __init__(
        self, folder: Path, every: int | None, processes: Processes, device: torch.device, start: str = ""
    ) -> None:
        self.folder, self.every, self.processes, self.device = folder, every, processes, device
        self.start = start

    def remove_others(self) -> None:
        """Removes progress from another start, which nothing can go on with."""
        for path in [*self.folder.iterdir()] if self.processes.is_main and self.folder.is_dir() else []:
            start = path / _START
            if path.is_dir() and start.is_file() and start.read_bytes() != self.start.encode():
                sealed.remove(path)

    def load_anchors(self) -> dict[str, Tensor] | None:
        """Loads the tensors of the task's anchors; None if they were not kept."""
        from safetensors.torch import load_file

        path = self.folder / "anchors"
        if not self._agreed(int(self.processes.is_main and path.is_dir() and self._whole(path))):
            return None
        return load_file(path / _ANCHORS)

    def keep_anchors(self, tensors: Callable[[], dict[str, Tensor]]) -> None:
        """Keeps the task's anchors.

        Args:
            tensors: makes the anchors' tensors by name; called only if they are kept.
        """
        from safetensors.torch import save

        if self.processes.is_main and self.every is not None:
            sealed.seal(self.folder / "anchors", {_ANCHORS: save(tensors()), _START: self.start.encode()})

    def load(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Loads the newest undamaged position, facts and tensors as `keep` took them; None if no position is left."""
        from safetensors.torch import load_file

        found = (
            next((step for step, path in self._positions() if self._whole(path)), 0) if self.processes.is_main else 0
        )
        step = self._agreed(found)
        if step == 0:
            return None
        path = self._place(step)
        return sealed.read_json(path / _POSITION), load_file(path / _TENSORS)

    def is_due(self, step: int, last: int) -> bool:
        """Whether to keep the position after `step` of `last` steps."""
        return self.every is not None and (step % self.every == 0 or step == last)

    def keep(self, step: int, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Keeps a position, and removes old ones.

        Args:
            step: number of steps done.
            facts: plain values for `load` to return, as JSON holds them.
            tensors: tensors for `load` to return, by name.
        """
        from safetensors.torch import save

        if not self.processes.is_main:
            return
        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        files = {_POSITION: json.dumps(facts).encode(), _TENSORS: content, _START: self.start.encode()}
        sealed.seal(self._place(step), files)
        for _, path in self._positions()[_KEPT:]:
            sealed.remove(path)

    def _place(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _positions(self) -> list[tuple[int, Path]]:
        """Steps and folders of the positions that are there, the newest first."""
        entries = self.folder.iterdir() if self.folder.is_dir() else ()
        found = [(int(match[1]), path) for path in entries if (match := _STEP.fullmatch(path.name))]
        return sorted(found, reverse=True)

    def _agreed(self, value: int) -> int:
        """Returns the main process's value on every process."""
        return int(self.processes.sum(torch.tensor(value if self.processes.is_main else 0, device=self.device)))

    def _whole(self, path: Path) -> bool:
        """Whether a folder is undamaged and belongs to this task from this start; warns if not."""
        try:
            if _START not in sealed.check_seal(path) or (path / _START).read_bytes() != self.start.encode():
                raise ValueError(f"{path} belongs to another task, or to another run")
        except (OSError, ValueError) as error:
            warnings.warn(f"{error}; it is not used, and its work is done again", RuntimeWarning, stacklevel=2)
            return False
        return True
