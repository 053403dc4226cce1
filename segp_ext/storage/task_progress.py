"""A task in the middle of being learnt, on disk: its anchors, and how far training has come."""

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
"""Positions kept: the newest, and the one before it should that be damaged."""


class TaskProgress:
    """What is kept of one task while it is learnt, in sealed folders; the main process writes, all read.

    Args:
        folder: where, for this task alone.
        every: optimiser steps between two positions that are kept; none keeps neither positions nor anchors.
        processes: those that learn the task.
        device: theirs.
        start: identity of what the task started from; what was kept of another start is left out.
    """

    def __init__(
        self, folder: Path, every: int | None, processes: Processes, device: torch.device, start: str = ""
    ) -> None:
        self.folder, self.every, self.processes, self.device = folder, every, processes, device
        self.start = start

    def load_anchors(self) -> dict[str, Tensor] | None:
        """The tensors of the task's anchors, if they were kept."""
        from safetensors.torch import load_file

        path = self.folder / "anchors"
        if not self._agreed(int(self.processes.is_main and path.is_dir() and self._whole(path))):
            return None
        return load_file(path / _ANCHORS)

    def keep_anchors(self, tensors: Callable[[], dict[str, Tensor]]) -> None:
        """Keeps the task's anchors, whose tensors are asked for if they are kept at all."""
        from safetensors.torch import save

        if self.processes.is_main and self.every is not None:
            sealed.seal(self.folder / "anchors", {_ANCHORS: save(tensors()), _START: self.start.encode()})

    def load(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """The newest whole position, as it was kept; none if there is none."""
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
        """Whether the position after this many of `last` steps is one to keep."""
        return self.every is not None and (step % self.every == 0 or step == last)

    def keep(self, step: int, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        """Keeps a position: what `load` shall give back."""
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
        """The main process's value, on all."""
        return int(self.processes.sum(torch.tensor(value if self.processes.is_main else 0, device=self.device)))

    def _whole(self, path: Path) -> bool:
        """Whether a folder is as it was sealed, and of this task from this start; says so if it is not."""
        try:
            if _START not in sealed.check_seal(path) or (path / _START).read_bytes() != self.start.encode():
                raise ValueError(f"{path} was kept of another task, or of another run")
        except (OSError, ValueError) as error:
            warnings.warn(f"{error}; it is left out, and its work is done again", RuntimeWarning, stacklevel=2)
            return False
        return True
