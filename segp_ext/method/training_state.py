"""The state of a task's training: everything that it needs to go on from a step as if it had never stopped."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from segp_ext.clip.backbone import Backbone
from segp_ext.config import TrainingConfig
from segp_ext.method.loss_record import LossRecord

_FIRST_SCALE = 1024.0
"""The first factor of the loss in half precision. Every step whose gradients overflow halves it."""


class TrainingState:
    """Parameters in training, their optimiser, and the random numbers still to come.

    Args:
        backbone: the model in training.
        settings: the configuration's section `training`.
        steps: number of steps of the whole task.
        generator: CPU generator of sample orders and anchor draws.

    Attributes:
        order: order of the task's images in the present epoch, int64 `[N]`.
    """

    def __init__(self, backbone: Backbone, settings: TrainingConfig, steps: int, generator: torch.Generator) -> None:
        self.parameters = backbone.trained_parameters()
        self.optimizer = _optimizer(self.parameters, settings)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=steps)
        in_half = backbone.precision == "fp16"
        self.scaler = torch.amp.GradScaler(backbone.device.type, init_scale=_FIRST_SCALE, enabled=in_half)
        self.generator = generator
        self.order = torch.zeros(0, dtype=torch.int64, device="cpu")

    def step(self) -> None:
        """Moves the parameters along their gradients; a step that overflows half precision is left out."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()

    def check_scale(self, where: str, steps: int) -> None:
        """Refuses a loss scale that `steps` steps reach only if they all overflow half precision.

        Args:
            where: names the epoch in the message.
            steps: number of steps done in this task.

        Raises:
            FloatingPointError: naming the epoch.
        """
        if not self.scaler.is_enabled():
            return
        scale = self.scaler.get_scale()
        if scale < 1 or scale <= _FIRST_SCALE * 0.5**steps:
            raise FloatingPointError(
                f"the gradients overflow half precision at every loss scale down to {scale:g} in {where}, so that no step is taken; "
                "with model.precision bf16 or fp32 they may not"
            )

    def read(self, step: int, record: LossRecord) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Returns the state after `step` steps: plain values, and tensors by name."""
        tensors = {"order": self.order, "generator": self.generator.get_state(), "losses": record.total}
        for index, parameter in enumerate(self.parameters):
            tensors[f"parameter.{index}"] = parameter
            for name, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{index}.{name}"] = value
        facts = {
            "step": step,
            "recorded": record.steps,
            "rates": [group["lr"] for group in self.optimizer.param_groups],
        }
        return {**facts, "scheduler": self.scheduler.state_dict(), "scaler": self.scaler.state_dict()}, tensors

    def restore(self, facts: dict[str, Any], tensors: dict[str, Tensor], record: LossRecord) -> int:
        """Takes over a state that `read` gave.

        Returns:
            The number of steps done.

        Raises:
            ValueError: if the state belongs to other parameters or other losses.
        """
        for index, parameter in enumerate(self.parameters):
            self._check(f"parameter {index}", tensors.get(f"parameter.{index}"), parameter)
        self._check("sums of losses", tensors.get("losses"), record.total)
        for index, parameter in enumerate(self.parameters):
            with torch.no_grad():
                parameter.copy_(tensors[f"parameter.{index}"])
            prefix = f"optimizer.{index}."
            values = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
            self.optimizer.state[parameter] = {
                name: value.clone() if value.ndim == 0 else value.to(parameter.device) for name, value in values.items()
            }
        for group, rate in zip(self.optimizer.param_groups, facts["rates"], strict=True):
            group["lr"] = rate
        self.scheduler.load_state_dict(facts["scheduler"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(facts["scaler"])
        self.generator.set_state(tensors["generator"])
        self.order = tensors["order"]
        record.total, record.steps = tensors["losses"], facts["recorded"]
        return int(facts["step"])

    @staticmethod
    def _check(what: str, found: Tensor | None, expected: Tensor) -> None:
        if found is None or found.shape != expected.shape:
            got = "none" if found is None else str(list(found.shape))
            raise ValueError(
                f"the position kept of this task does not fit: {what} must be {list(expected.shape)}; got {got}"
            )


def _optimizer(parameters: list[torch.nn.Parameter], settings: TrainingConfig) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=decay)
    return torch.optim.AdamW(parameters, rate, weight_decay=decay)
