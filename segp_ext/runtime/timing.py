"""Measures time by phase, and how much of it the backbone's own passes took: no phase can be faster than these."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


class Stopwatch:
    """Adds up the time of marked work on a device. On CUDA it uses events, so that the device need not stop."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def running(self, device: torch.device) -> Iterator[None]:
        """Measures the block; must not be nested."""
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
        """Returns the seconds so far; waits for the device."""
        for start, end in self._events:
            end.synchronize()
            self._seconds += start.elapsed_time(end) / 1000
        self._events.clear()
        return self._seconds


@dataclass
class Phase:
    """Time of one phase, in seconds.

    Attributes:
        wall: time from start to end.
        backbone: the part of `wall` that the backbone's forward and backward passes took.
    """

    wall: float = 0.0
    backbone: float = 0.0

    def add(self, other: Phase) -> None:
        """Adds the time of another part of the same phase."""
        self.wall += other.wall
        self.backbone += other.backbone


class Timer:
    """Measures phases.

    Args:
        stopwatch: the backbone's stopwatch.
        device: the backbone's device; both ends of a phase wait for it.

    Attributes:
        phases: the time of each phase by name, in the order in which they first ran.
    """

    def __init__(self, stopwatch: Stopwatch, device: torch.device) -> None:
        self.stopwatch, self.device = stopwatch, device
        self.phases: dict[str, Phase] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measures the block as part of the phase `name`; must not be nested.

        An error of memory that runs out inside gets the name as a note.
        """
        begin, backbone = self._now(), self.stopwatch.read()
        try:
            yield
        except torch.OutOfMemoryError as error:
            error.add_note(name)  # so that a message can say which setting to lower
            raise
        end = self._now()
        spent = Phase(end - begin, self.stopwatch.read() - backbone)
        self.phases.setdefault(name, Phase()).add(spent)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
