"""Fitting the adapter to one task: the loop over its epochs and steps (SeGP-CL, arXiv 2603.12055, equations 15 to 22)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from segp_ext.clip.backbone import Backbone
from segp_ext.config import MethodConfig
from segp_ext.method.inputs import TaskInputs
from segp_ext.method.loss_record import LossRecord
from segp_ext.method.step import Step
from segp_ext.method.training_state import TrainingState
from segp_ext.runtime.processes import Processes
from segp_ext.runtime.progress import progress
from segp_ext.storage.task_progress import TaskProgress


class Training:
    """The training of one task, epoch by epoch.

    Args:
        backbone: the model with its adapter, which is changed in place.
        task: what the task is trained on.
        config: the method's settings.
        generator: CPU generator of sample orders and anchor draws; the same on every process.
        processes: the processes that share each step.
    """

    def __init__(
        self,
        backbone: Backbone,
        task: TaskInputs,
        config: MethodConfig,
        generator: torch.Generator,
        processes: Processes,
    ) -> None:
        self.task, self.config = task, config
        self.per_epoch = -(-len(task.images) // config.training.batch_size)
        self.steps = self.per_epoch * config.training.epochs
        self.state = TrainingState(backbone, config.training, self.steps, generator)
        self.step = Step(backbone, task, config, self.state, processes)
        self.record = LossRecord(self.step.losses.names)
        self.done = 0

    def run(self, kept: TaskProgress | None = None) -> dict[str, float]:
        """Trains all epochs; see `fit`."""
        if kept is not None and (position := kept.load()) is not None:
            self.done = self.state.restore(*position, self.record)
        bar = progress(range(self.steps), "training", initial=self.done)

        def after_step() -> None:
            bar.update()
            if kept is not None and kept.is_due(self.done, self.steps):
                self.record.look()
                kept.keep(self.done, *self.state.read(self.done, self.record))

        for number in range(self.done // self.per_epoch, self.config.training.epochs):
            self.epoch(number, self.done - number * self.per_epoch, after_step)
        bar.close()
        self.state.optimizer.zero_grad(set_to_none=True)
        means = self.record.means()
        return {name: means[name] for name in self.step.losses.used}

    def epoch(self, number: int, first: int, after_step: Callable[[], None]) -> None:
        """Trains epoch `number`, from 0, beginning with its step `first`, from 0; calls `after_step` after each step."""
        state, record, images = self.state, self.record, self.task.images
        record.where = f"task {self.task.number}, epoch {number + 1}"
        if first == 0:
            record.clear()
            state.order = torch.randperm(len(images), generator=state.generator, device="cpu")
        batches = state.order.split(self.config.training.batch_size)
        read = images.read([part for batch in batches[first:] for part in self.step.parts(batch) if len(part)])
        for step, batch in enumerate(batches[first:], start=first):
            self.step.take(batch, read)
            # In half precision the scaler leaves out steps whose gradients overflow, and lowers its scale.
            checked = self.step.terms if state.scaler.is_enabled() else self.step.gradients
            record.add(step + 1, self.step.terms, checked, batch)
            self.done += 1
            after_step()
        record.look()
        state.check_scale(record.where, self.done)


def fit(
    backbone: Backbone,
    task: TaskInputs,
    config: MethodConfig,
    generator: torch.Generator,
    processes: Processes,
    kept: TaskProgress | None = None,
) -> dict[str, float]:
    """Trains the adapter on one task.

    Args:
        backbone, task, config, generator, processes: as `Training` takes them.
        kept: keeps positions on disk; training goes on from the newest position that is there.

    Returns:
        The mean over the last epoch of every loss term in use, weighted as it enters the loss.

    Raises:
        FloatingPointError: if the loss or a gradient stops being finite.
    """
    return Training(backbone, task, config, generator, processes).run(kept)
