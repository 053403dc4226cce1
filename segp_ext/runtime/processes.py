"""The processes that share a run: how many there are, the number of this one, and the data that they exchange.

`torchrun` and `accelerate launch` start them, on one host or several. Every process runs the same code with the same draws. Expensive work
is shared out by batches, and every process gets all results in the order in which one process would have made them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from segp_ext.runtime.progress import first_line

T = TypeVar("T")


class Processes:
    """This process among the processes of its run; alone unless `join` says otherwise.

    Attributes:
        rank: number of this process, 0 for the main one.
        count: number of processes on all hosts.
        local_rank: number of this process on its host.
        local_count: number of processes on its host.
    """

    def __init__(self, rank: int = 0, count: int = 1, local_rank: int = 0, local_count: int = 1) -> None:
        self.rank, self.count, self.local_rank, self.local_count = rank, count, local_rank, local_count

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def mine(self, items: Sequence[T]) -> Sequence[T]:
        """This process's share of a list of equal pieces of work: every `count`-th piece."""
        return items[self.rank :: self.count]

    def in_order(self, own: Iterable[tuple[Tensor, ...]], total: int) -> Iterator[tuple[Tensor, ...]]:
        """Yields the results of all `total` pieces of work, in order and on every process.

        Args:
            own: yields the results of this process's pieces, as `mine` picks them; each is made when asked for. All tensors must be on one
                device.
            total: number of pieces over all processes.
        """
        if self.count == 1:
            yield from own
            return
        results = iter(own)
        for first in range(0, total, self.count):
            # Every process works on its piece of the round before it waits for the others.
            made = next(results) if first + self.rank < total else None
            for owner in range(min(self.count, total - first)):
                with self._exchange():
                    described: list[list[tuple[torch.Size, torch.dtype, str]] | None] = [None]
                    if owner == self.rank and made is not None:
                        described = [[(tensor.shape, tensor.dtype, tensor.device.type) for tensor in made]]
                    dist.broadcast_object_list(described, src=owner)
                    if owner == self.rank and made is not None:
                        received = tuple(tensor.contiguous() for tensor in made)
                    else:
                        assert described[0] is not None
                        received = tuple(torch.empty(s, dtype=d, device=device) for s, d, device in described[0])
                    for tensor in received:
                        dist.broadcast(tensor, src=owner)
                yield received

    def sum(self, tensor: Tensor) -> Tensor:
        """Adds `tensor` up over all processes, in place, and returns it; every process gets the same bits."""
        if self.count > 1:
            with self._exchange():
                dist.all_reduce(tensor)
        return tensor

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Returns the tensors of all processes by rank; they must have one shape."""
        if self.count == 1:
            return [tensor]
        parts = [torch.empty_like(tensor) for _ in range(self.count)]
        with self._exchange():
            dist.all_gather(parts, tensor.contiguous())
        return parts

    def wait(self) -> None:
        """Waits until every process has come here."""
        if self.count > 1:
            with self._exchange():
                dist.barrier()

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Lets the main process run the block before the others run it."""
        if not self.is_main:
            self.wait()
        yield
        if self.is_main:
            self.wait()

    @contextmanager
    def _exchange(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise ConnectionError(
                f"process {self.rank + 1} of {self.count} lost another one: it stopped or cannot be reached. Its own message says why; "
                f"tasks that were finished are in the run's folder. ({first_line(error)})"
            ) from error


def cores() -> int:
    """Number of the machine's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_cores(processes: Processes, threads: int | None) -> None:
    """Sets how many threads torch uses.

    If several processes share a host and no number is given, each takes its share of the cores, unless OMP_NUM_THREADS is set. Under
    `torchrun` a 1 there does not count, as `torchrun` itself sets it.

    Args:
        processes: this process among the processes of its run.
        threads: number of threads, or None.
    """
    by_launcher = "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("OMP_NUM_THREADS") == "1"
    if threads is None and processes.local_count > 1 and ("OMP_NUM_THREADS" not in os.environ or by_launcher):
        threads = max(1, cores() // processes.local_count)
    if threads is not None:
        torch.set_num_threads(threads)


def join(device: str) -> tuple[Processes, str]:
    """Joins the processes that `torchrun` or `accelerate launch` started, if any (accelerate reads their environment).

    Args:
        device: the setting model.device.

    Returns:
        This process among them, and the device that it must use: `device` itself when alone, one device each otherwise.

    Raises:
        ValueError: if `device` names one CUDA device for several processes.
    """
    if os.environ.get("WORLD_SIZE", "") in ("", "1"):
        return Processes(), device
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(
            f"model.device must be auto, cpu or cuda with {os.environ['WORLD_SIZE']} processes, which take one device each; got {device!r}"
        )
    from accelerate import PartialState

    # The others wait while one downloads or reads a large data set.
    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available(), timeout=timedelta(hours=2))
    local_count = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return Processes(state.process_index, state.num_processes, state.local_process_index, local_count), str(
        state.device
    )


def leave() -> None:
    """Leaves the group of processes, if this process is in one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
