"""Fitting the adapter to one task: L = L_cls + λ_ACGD·L_ACGD + λ_GR·L_GR (README, method step 5).

A step's images, anchors and prompts are shared out over processes and parts; gradients are those of the whole step.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from segp_ext import ops
from segp_ext.anchors import Anchors
from segp_ext.backbone import Backbone
from segp_ext.config import MethodConfig, TrainingConfig
from segp_ext.data.images import Images
from segp_ext.losses import classification_loss, text_geometry_loss, text_neighbours
from segp_ext.processes import Processes
from segp_ext.progress import progress

TERMS = ("classification", "acgd", "tsgr")
CHECK_EVERY = 50
"""Steps between looks at the losses: each look waits for the device."""


class Prompts:
    """The text embeddings of one step: each process encodes its share of the prompts, all have all embeddings.

    Args:
        backbone: the model in training.
        tokens: of all classes, `[C, L]`.
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
                empty = torch.empty(0, self.backbone.embed_dim, device=self.backbone.device)
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


class LossRecord:
    """The losses of an epoch's steps, looked at now and then: their means, and an error once they stop being finite."""

    def __init__(self, processes: Processes, where: str) -> None:
        self.processes, self.where = processes, where
        self.total = torch.zeros(len(TERMS), dtype=torch.float64)
        self.steps = 0
        self._waiting: list[tuple[int, Tensor, Tensor]] = []

    def add(self, step: int, terms: Tensor, indices: Tensor) -> None:
        """Notes this process's share of the losses of step number `step`, made from the images `indices`."""
        self._waiting.append((step, terms, indices))
        if len(self._waiting) == CHECK_EVERY:
            self.look()

    def look(self) -> None:
        """Reads what has been noted.

        Raises:
            FloatingPointError: naming the first step whose loss is not finite.
        """
        if not self._waiting:
            return
        values = self.processes.sum(torch.stack([terms for _, terms, _ in self._waiting])).double().cpu()
        for (step, _, indices), row in zip(self._waiting, values, strict=True):
            if not math.isfinite(float(row.sum())):
                terms = ", ".join(f"{name} {value}" for name, value in zip(TERMS, row.tolist(), strict=True) if value)
                raise FloatingPointError(
                    f"the loss is not finite in {self.where}, step {step}: {terms}; images {indices.tolist()}. "
                    "A lower training.learning_rate may help."
                )
        self.total += values.sum(dim=0)
        self.steps += len(values)
        self._waiting.clear()


def _optimizer(parameters: list[torch.nn.Parameter], settings: TrainingConfig) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=decay)
    return torch.optim.AdamW(parameters, rate, weight_decay=decay)


def _flat_gradients(parameters: list[torch.nn.Parameter]) -> Tensor:
    """One buffer whose parts are the gradients of all parameters, so that processes add them up at once."""
    flat = torch.zeros(sum(p.numel() for p in parameters), device=parameters[0].device)
    for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.grad = part.view_as(parameter)
    return flat


def fit(
    backbone: Backbone,
    images: Images,
    tokens: Tensor,
    new: range,
    anchors: Anchors | None,
    teacher_text: Tensor,
    reference: Tensor,
    config: MethodConfig,
    generator: torch.Generator,
    processes: Processes,
    task: int,
) -> dict[str, float]:
    """Trains the adapter on one task.

    Args:
        backbone: with its adapter, which is changed in place.
        images: the task's training images, labels counted from 0.
        tokens: prompts of all classes, old ones first, `[C, L]`.
        new: which of them the task brings.
        anchors: what is distilled on; none for plain fine-tuning.
        teacher_text: the teacher's text embeddings of the old classes `[C_old, De]`.
        reference: the pre-trained model's text embeddings of all classes `[C, De]`.
        config: the method's settings.
        generator: CPU generator of sample orders and anchor draws; the same on every process.
        processes: those that share each step.
        task: number of the task, for messages.

    Returns:
        The mean over the last epoch of every loss term in use, weighted as it enters the loss.

    Raises:
        FloatingPointError: if the loss stops being finite.
    """
    settings, scale, old = config.training, backbone.logit_scale, new.start
    labels = images.labels.to(backbone.device)
    first_class = 0 if settings.classes == "seen" else old
    acgd_weight = config.distillation.weight * 100 / scale if anchors is not None else 0.0
    neighbours = text_neighbours(reference, new, config.text_geometry.neighbours)
    tsgr_weight = config.text_geometry.weight if neighbours.shape[1] > 1 else 0.0

    parameters = backbone.trained_parameters()
    optimizer = _optimizer(parameters, settings)
    scheduler_steps = -(-len(images) // settings.batch_size) * settings.epochs
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=scheduler_steps)
    gradients = _flat_gradients(parameters)
    prompts = Prompts(backbone, tokens, settings.prompts_per_pass, processes)
    scaler = torch.amp.GradScaler(backbone.device.type, init_scale=1024, enabled=backbone.precision == "fp16")

    def parts(whole: Tensor) -> tuple[Tensor, ...]:
        """This process's parts of a step's samples."""
        first = processes.rank * settings.accumulate
        return whole.tensor_split(processes.count * settings.accumulate)[first : first + settings.accumulate]

    bar = progress(range(scheduler_steps), "training")
    record = LossRecord(processes, "")
    for epoch in range(settings.epochs):
        record = LossRecord(processes, f"task {task}, epoch {epoch + 1}")
        batches = torch.randperm(len(images), generator=generator).split(settings.batch_size)
        read = images.read([part for batch in batches for part in parts(batch) if len(part)])
        for step, batch in enumerate(batches):
            drawn = torch.empty(0, dtype=torch.int64)
            if anchors is not None and anchors.pixels is not None:
                count = min(config.distillation.batch_size, len(anchors))
                drawn = torch.randperm(len(anchors), generator=generator)[:count]
            gradients.zero_()
            terms = torch.zeros(len(TERMS), device=backbone.device)
            text = prompts.encode()
            for part, samples in zip(parts(batch), parts(drawn), strict=True):
                inputs = []
                if len(part):
                    inputs.append(backbone.to_unit(next(read)[1]))
                if anchors is not None and anchors.pixels is not None and len(samples):
                    inputs.append(anchors.take(anchors.pixels, samples))
                if not inputs:
                    continue
                output, _ = backbone.encode_image(torch.cat(inputs))
                embedding = output.detach().requires_grad_()
                losses: dict[str, Tensor] = {}
                if len(part):
                    target = labels[part.to(labels.device)] + (old - first_class)
                    mean = classification_loss(embedding[: len(part)], text[first_class:], target, scale)
                    losses["classification"] = mean * (len(part) / len(batch))
                if anchors is not None and anchors.pixels is None:
                    samples, share = part, len(part) / len(batch)
                else:
                    share = len(samples) / max(len(drawn), 1)
                if anchors is not None and acgd_weight > 0 and len(samples):
                    mean = ops.geometry_distill(
                        embedding[-len(samples) :],
                        text[:old],
                        anchors.take(anchors.embedding, samples),
                        teacher_text,
                        logit_scale=scale,
                        temperature=config.distillation.temperature,
                    )
                    losses["acgd"] = acgd_weight * mean * share
                scaler.scale(torch.stack(list(losses.values())).sum()).backward()
                for name, value in losses.items():
                    terms[TERMS.index(name)] += value.detach()
                if output.requires_grad and embedding.grad is not None:
                    backbone.backward(output, embedding.grad)
            if tsgr_weight > 0 and processes.is_main:
                loss = tsgr_weight * text_geometry_loss(
                    text, reference, new, neighbours, config.text_geometry.temperature
                )
                scaler.scale(loss).backward()
                terms[TERMS.index("tsgr")] = loss.detach()
            prompts.backward(torch.zeros_like(text) if text.grad is None else text.grad)
            processes.sum(gradients)
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
            record.add(step + 1, terms, batch)
            bar.update()
        record.look()
    bar.close()
    optimizer.zero_grad(set_to_none=True)
    means = (record.total / max(record.steps, 1)).tolist()
    used = {"classification": True, "acgd": acgd_weight > 0, "tsgr": tsgr_weight > 0}
    return {name: mean for name, mean in zip(TERMS, means, strict=True) if used[name]}
