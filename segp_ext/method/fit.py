"""Fitting the adapter to one task: L = L_cls + λ_ACGD·L_ACGD + λ_GR·L_GR (SeGP-CL, arXiv 2603.12055, equations 15 to 22).

A step's images, anchors and prompts are shared out over processes and parts; gradients are those of the whole step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from segp_ext import ops
from segp_ext.clip.backbone import Backbone
from segp_ext.config import MethodConfig, TrainingConfig
from segp_ext.data.images import Images
from segp_ext.method.anchors import Anchors
from segp_ext.method.losses import classification_loss, text_geometry_loss, text_neighbours
from segp_ext.runtime.processes import Processes
from segp_ext.runtime.progress import progress
from segp_ext.storage.task_progress import TaskProgress

TERMS = ("classification", "acgd", "tsgr")
Pixels = Iterator[tuple[Tensor, Tensor]]
"""Indices and pixels of images, part by part."""


@dataclass(frozen=True)
class TaskInputs:
    """What one task is trained on.

    Attributes:
        number: of the task, for messages.
        images: its training images, labels counted from 0.
        tokens: prompts of all classes, old ones first, `[C, L]`.
        new: which of them the task brings.
        anchors: what is distilled on; none for plain fine-tuning.
        teacher_text: the teacher's text embeddings of the old classes `[C_old, De]`.
        reference: the pre-trained model's text embeddings of all classes `[C, De]`; none leaves TSGR out.
    """

    number: int
    images: Images
    tokens: Tensor
    new: range
    anchors: Anchors | None
    teacher_text: Tensor
    reference: Tensor | None


class Prompts:
    """The text embeddings of one step: each process encodes its share of the prompts, all have all embeddings.

    Args:
        backbone: the model in training.
        tokens: of the classes that the step needs, `[C, L]`.
        limit: prompts whose activations are kept at a time; with more in a process's share they are encoded again for the gradient.
        processes: those that share the prompts.
    """

    def __init__(self, backbone: Backbone, tokens: Tensor, limit: int, processes: Processes) -> None:
        self.backbone, self.processes = backbone, processes
        shares = tokens.tensor_split(processes.count)
        self.parts = [part for part in shares[processes.rank].split(limit) if len(part)]
        self.start = sum(len(share) for share in shares[: processes.rank])
        self.count = len(tokens)
        self._kept: Tensor | None = None

    def encode(self) -> Tensor:
        """Embeddings `[C, De]` as a leaf that takes gradients."""
        if len(self.parts) == 1:
            own = self._kept = self.backbone.encode_text(self.parts[0])
        else:
            with torch.no_grad():
                empty = torch.empty(0, self.backbone.embed_dim, device=self.backbone.device, dtype=self.backbone.dtype)
                own = torch.cat([empty, *(self.backbone.encode_text(part) for part in self.parts)])
        if self.processes.count == 1:
            return own.detach().requires_grad_()
        everyone = own.new_zeros(self.count, own.shape[1])
        everyone[self.start : self.start + len(own)] = own.detach()
        return self.processes.sum(everyone).requires_grad_()

    def backward(self, gradient: Tensor) -> None:
        """Hands the gradient of all embeddings `[C, De]`, summed here over processes, to the adapter."""
        place = self.start
        self.processes.sum(gradient)
        for part in self.parts:
            output = self.backbone.encode_text(part) if self._kept is None else self._kept
            if output.requires_grad:
                self.backbone.backward(output, gradient[place : place + len(part)])
            place += len(part)
        self._kept = None


_FIRST_SCALE = 1024.0
"""Of the loss in half precision; every step that overflows halves it."""


class LossRecord:
    """The losses of an epoch's steps: their means, and an error once they or the gradients stop being finite.

    Each step's are read when the next one has been asked for, so that a device never waits for the look at them.

    Attributes:
        where: names the epoch in messages.
        total, steps: sum of the terms over the steps read, float64 `[3]`, and how many these are.
    """

    def __init__(self) -> None:
        self.where = ""
        self._waiting: list[tuple[int, Tensor, torch.cuda.Event | None, Tensor]] = []
        self.clear()

    def clear(self) -> None:
        """Begins anew."""
        self.total = torch.zeros(len(TERMS), dtype=torch.float64, device="cpu")
        self.steps = 0

    def check_scale(self, scale: float, steps: int) -> None:
        """Refuses a loss scale of half precision to which only steps bring it, `steps` in all, that overflow time and again.

        Raises:
            FloatingPointError: naming the epoch.
        """
        if scale < 1 or scale <= _FIRST_SCALE * 0.5**steps:
            raise FloatingPointError(
                f"the gradients overflow half precision at every loss scale down to {scale:g} in {self.where}, so that no step is taken; "
                "with model.precision bf16 or fp32 they may not"
            )

    def add(self, step: int, terms: Tensor, gradients: Tensor, indices: Tensor) -> None:
        """Notes the losses of step number `step`, made from the images `indices`, and whether its `gradients` are finite.

        Raises:
            FloatingPointError: for the step before on CUDA, for this one on the CPU; see `look`.
        """
        self.look()
        values = torch.cat([terms, gradients.isfinite().all().to(terms.dtype)[None]])
        ready = None
        if values.is_cuda:
            values = torch.empty(values.shape, dtype=values.dtype, device="cpu", pin_memory=True).copy_(
                values, non_blocking=True
            )
            ready = torch.cuda.Event()
            ready.record()
        self._waiting.append((step, values, ready, indices))
        if ready is None:
            self.look()

    def look(self) -> None:
        """Reads what has been noted.

        Raises:
            FloatingPointError: naming the step whose loss or gradient is not finite.
        """
        while self._waiting:
            step, values, ready, indices = self._waiting.pop(0)
            if ready is not None:
                ready.synchronize()
            terms, sound = values[:-1].double(), bool(values[-1])
            if not terms.isfinite().all() or not sound:
                shown = ", ".join(f"{name} {value}" for name, value in zip(TERMS, terms.tolist(), strict=True) if value)
                what = "gradient" if terms.isfinite().all() else "loss"
                raise FloatingPointError(
                    f"the {what} is not finite in {self.where}, step {step}: {shown}; images {indices.tolist()}. "
                    "A lower training.learning_rate may help."
                )
            self.total += terms
            self.steps += 1


class TaskLosses:
    """The terms of one task's loss, each weighted as it enters.

    Args:
        config: the method's settings.
        logit_scale: s.
        task: what is learnt.

    Attributes:
        first_prompt: the first class whose prompt a term needs; the text embeddings given to the terms begin there.
    """

    def __init__(self, config: MethodConfig, logit_scale: float, task: TaskInputs) -> None:
        new, reference = task.new, task.reference
        self.config, self.scale, self.new = config, logit_scale, new
        self.labels = task.images.labels.to(task.teacher_text.device)
        self.anchors = task.anchors if config.distillation.weight > 0 else None
        self.teacher_text = task.teacher_text
        self.first_class = 0 if config.training.classes == "seen" else new.start
        self.tsgr_weight = 0.0
        if reference is not None:
            self.reference, self.neighbours = (
                reference,
                text_neighbours(reference, new, config.text_geometry.neighbours),
            )
            self.tsgr_weight = config.text_geometry.weight if self.neighbours.shape[1] > 1 else 0.0
        self.first_prompt = self.first_class if self.anchors is None and self.tsgr_weight == 0 else 0

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the terms that are not left out."""
        return (
            TERMS[0],
            *([TERMS[1]] if self.anchors is not None else []),
            *([TERMS[2]] if self.tsgr_weight > 0 else []),
        )

    def of_samples(
        self, embedding: Tensor, text: Tensor, images: Tensor, samples: Tensor, shares: Sequence[float]
    ) -> Tensor:
        """Classification and ACGD of a part of a step's samples, `[3]` in the order of `TERMS`.

        Args:
            embedding: of the images, then of the anchors, `[B, De]`.
            text: of the classes from `first_prompt` on `[C', De]`.
            images: indices of the images.
            samples: indices of the anchors; they follow the images, or are the images themselves (LwF).
            shares: how much of the step's images and of its anchors this part is.
        """
        old = self.new.start
        terms = [embedding.new_zeros(())] * 3
        if len(images):
            target = self.labels[images.to(self.labels.device)] + (old - self.first_class)
            fresh = embedding[: len(images)]
            terms[0] = shares[0] * classification_loss(
                fresh, text[self.first_class - self.first_prompt :], target, self.scale
            )
        if self.anchors is not None and len(samples):
            distil = partial(
                ops.geometry_distill, logit_scale=self.scale, temperature=self.config.distillation.temperature
            )
            student = embedding[len(embedding) - len(samples) :], text[:old]
            teacher = self.anchors.take(self.anchors.embedding, samples), self.teacher_text
            distilled = distil(*student, *teacher)
            if self.config.distillation.both_directions:
                distilled = distilled + distil(*student[::-1], *teacher[::-1])
            terms[1] = self.config.distillation.weight * 100 / self.scale * shares[1] * distilled
        return torch.stack(terms)

    def of_text(self, text: Tensor) -> Tensor:
        """TSGR, `[3]` in the order of `TERMS`."""
        temperature = self.config.text_geometry.temperature
        loss = text_geometry_loss(text, self.reference, self.new, self.neighbours, temperature)
        return torch.stack([loss.new_zeros(()), loss.new_zeros(()), self.tsgr_weight * loss])


class TrainingState:
    """All that training needs to go on from a step as if it had never stopped.

    Args:
        parameters: those in training.
        optimizer, scheduler, scaler: theirs.
        generator: of sample orders and anchor draws.

    Attributes:
        order: of the images in the present epoch.
    """

    def __init__(
        self,
        parameters: list[torch.nn.Parameter],
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
        scaler: torch.amp.GradScaler,
        generator: torch.Generator,
    ) -> None:
        self.parameters, self.optimizer, self.scheduler, self.scaler = parameters, optimizer, scheduler, scaler
        self.generator = generator
        self.order = torch.zeros(0, dtype=torch.int64, device="cpu")

    def read(self, step: int, record: LossRecord) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The state after so many steps: plain values and tensors."""
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
        """Takes over what `read` gave; returns the number of steps done.

        Raises:
            ValueError: if it belongs to other parameters.
        """
        for index, parameter in enumerate(self.parameters):
            own = tensors.get(f"parameter.{index}")
            if own is None or own.shape != parameter.shape:
                found = "none" if own is None else str(list(own.shape))
                raise ValueError(
                    f"the position kept of this task does not fit: parameter {index} must be {list(parameter.shape)}; got {found}"
                )
            with torch.no_grad():
                parameter.copy_(own)
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


def _optimizer(parameters: list[torch.nn.Parameter], settings: TrainingConfig) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=decay)
    return torch.optim.AdamW(parameters, rate, weight_decay=decay)


def _step_sums(parameters: list[torch.nn.Parameter]) -> tuple[Tensor, Tensor, Tensor]:
    """One buffer for all that processes add up in a step; and its parts: the gradients of all parameters, and the loss terms."""
    sizes = [p.numel() for p in parameters]
    flat = torch.zeros(sum(sizes) + len(TERMS), device=parameters[0].device, dtype=parameters[0].dtype)
    gradients, terms = flat[: -len(TERMS)], flat[-len(TERMS) :]
    for parameter, part in zip(parameters, gradients.split(sizes), strict=True):
        parameter.grad = part.view_as(parameter)
    return flat, gradients, terms


class Training:
    """The training of one task: a step, an epoch, all of them.

    Args:
        backbone: with its adapter, which is changed in place.
        task: what is learnt.
        config: the method's settings.
        generator: CPU generator of sample orders and anchor draws; the same on every process.
        processes: those that share each step.
    """

    def __init__(
        self,
        backbone: Backbone,
        task: TaskInputs,
        config: MethodConfig,
        generator: torch.Generator,
        processes: Processes,
    ) -> None:
        settings = config.training
        self.backbone, self.task, self.config, self.processes = backbone, task, config, processes
        self.losses = TaskLosses(config, backbone.logit_scale, task)
        self.pixels = None if self.losses.anchors is None else self.losses.anchors.pixels
        parameters = backbone.trained_parameters()
        self.per_epoch = -(-len(task.images) // settings.batch_size)
        self.steps = self.per_epoch * settings.epochs
        optimizer = _optimizer(parameters, settings)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=self.steps)
        self.sums, self.gradients, self.terms = _step_sums(parameters)
        self.prompts = Prompts(backbone, task.tokens[self.losses.first_prompt :], settings.prompts_per_pass, processes)
        scaler = torch.amp.GradScaler(
            backbone.device.type, init_scale=_FIRST_SCALE, enabled=backbone.precision == "fp16"
        )
        self.state = TrainingState(parameters, optimizer, scheduler, scaler, generator)
        self.record = LossRecord()
        self.done = 0

    def _parts(self, whole: Tensor) -> tuple[Tensor, ...]:
        """This process's parts of a step's samples."""
        settings = self.config.training
        count = min(settings.accumulate, settings.batch_size)
        first = self.processes.rank * count
        return whole.tensor_split(self.processes.count * count)[first : first + count]

    def _drawn(self, batch: Tensor) -> Tensor:
        """The anchors of a step: a draw of them, the images themselves (LwF), or none."""
        if self.losses.anchors is None:
            return batch[:0]
        if self.pixels is None:
            return batch
        return torch.randperm(len(self.pixels), generator=self.state.generator, device="cpu")[
            : self.config.distillation.batch_size
        ]

    def _pass(self, images: Tensor, samples: Tensor, text: Tensor, shares: tuple[float, float], read: Pixels) -> None:
        """Forward and backward of one part of a step."""
        inputs = [self.backbone.to_unit(next(read)[1])] if len(images) else []
        if self.pixels is not None and len(samples):
            assert self.losses.anchors is not None
            inputs.append(self.losses.anchors.take(self.pixels, samples))
        if not inputs:
            return
        output, _ = self.backbone.encode_image(torch.cat(inputs))
        embedding = output.detach().requires_grad_()
        self._add(self.losses.of_samples(embedding, text, images, samples, shares))
        if output.requires_grad and embedding.grad is not None:
            self.backbone.backward(output, embedding.grad)

    def _add(self, values: Tensor) -> None:
        """Goes back from terms of the loss, and adds them up."""
        self.state.scaler.scale(values.sum()).backward()
        self.terms += values.detach()

    def step(self, batch: Tensor, read: Pixels) -> None:
        """One step on the images `batch`, whose pixels come next in `read`."""
        state, drawn = self.state, self._drawn(batch)
        self.sums.zero_()
        text = self.prompts.encode()
        for images, samples in zip(self._parts(batch), self._parts(drawn), strict=True):
            self._pass(images, samples, text, (len(images) / len(batch), len(samples) / max(len(drawn), 1)), read)
        if self.losses.tsgr_weight > 0 and self.processes.is_main:
            self._add(self.losses.of_text(text))
        self.prompts.backward(torch.zeros_like(text) if text.grad is None else text.grad)
        self.processes.sum(self.sums)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.scheduler.step()

    def epoch(self, number: int, first: int, after_step: Callable[[], None]) -> None:
        """The steps of an epoch, numbered from 0, from its step `first` on."""
        state, record, images = self.state, self.record, self.task.images
        record.where = f"task {self.task.number}, epoch {number + 1}"
        if first == 0:
            record.clear()
            state.order = torch.randperm(len(images), generator=state.generator, device="cpu")
        batches = state.order.split(self.config.training.batch_size)
        read = images.read([part for batch in batches[first:] for part in self._parts(batch) if len(part)])
        for step, batch in enumerate(batches[first:], start=first):
            self.step(batch, read)
            # In half precision the scaler leaves out steps whose gradients overflow, and lowers its scale.
            record.add(step + 1, self.terms, self.terms if state.scaler.is_enabled() else self.gradients, batch)
            self.done += 1
            after_step()
        record.look()
        if state.scaler.is_enabled():
            record.check_scale(state.scaler.get_scale(), self.done)

    def run(self, kept: TaskProgress | None = None) -> dict[str, float]:
        """All epochs; see `fit`."""
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
        means = dict(zip(TERMS, (self.record.total / max(self.record.steps, 1)).tolist(), strict=True))
        return {name: means[name] for name in self.losses.used}


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
        kept: where positions are kept, and where training goes on if there is one.

    Returns:
        The mean over the last epoch of every loss term in use, weighted as it enters the loss.

    Raises:
        FloatingPointError: if the loss or a gradient stops being finite.
    """
    return Training(backbone, task, config, generator, processes).run(kept)
