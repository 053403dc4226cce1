"""Time by phase, and how much of it the backbone's own passes took: the floor that a phase cannot go below."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


class Stopwatch:
    """Adds up the time that marked stretches of work take on a device; on CUDA by events, without stopping it."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def running(self, device: torch.device) -> Iterator[None]:
        """Measures what is inside; stretches must not be nested."""
        if device.type == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            yield
            end.record()
            self._events.append((start, end))
        else:
            begin = time.perf_counter()
            yield
            self._seconds += time.perf_counter() - begin

    def read(self) -> float:
        """Seconds so far; waits for the device."""
        for start, end in self._events:
            end.synchronize()
            self._seconds += start.elapsed_time(end) / 1000
        self._events.clear()
        return self._seconds


@dataclass
class Phase:
    """Time of one phase, in seconds.

    Attributes:
        wall: from start to end.
        backbone: spent in the backbone's forward and backward passes, within `wall`.
    """

    wall: float = 0.0
    backbone: float = 0.0

    def add(self, other: Phase) -> None:
        """Adds another stretch of the same phase."""
        self.wall += other.wall
        self.backbone += other.backbone


class Timer:
    """Phases by name, in the order in which they first ran.

    Args:
        stopwatch: the backbone's.
        device: its device, waited for at both ends of a phase.
    """

    def __init__(self, stopwatch: Stopwatch, device: torch.device) -> None:
        self.stopwatch, self.device = stopwatch, device
        self.phases: dict[str, Phase] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measures what is inside as part of the phase `name`; phases must not be nested. Memory that runs out is noted by the name."""
        begin, backbone = self._now(), self.stopwatch.read()
        try:
            yield
        except torch.OutOfMemoryError as error:
            error.add_note(name)  # for a message that says what to lower
            raise
        end = self._now()
        spent = Phase(end - begin, self.stopwatch.read() - backbone)
        self.phases.setdefault(name, Phase()).add(spent)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
