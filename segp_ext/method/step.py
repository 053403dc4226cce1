"""One step of a task's training: forward, backward, and the optimiser's move.

A step's images, anchors and prompts are shared out over processes and parts; gradients are the whole step's.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from segp_ext.clip.backbone import Backbone
from segp_ext.config import MethodConfig
from segp_ext.method.inputs import TaskInputs
from segp_ext.method.losses import Samples, TaskLosses
from segp_ext.method.prompts import Prompts
from segp_ext.method.training_state import TrainingState
from segp_ext.runtime.processes import Processes

Pixels = Iterator[tuple[Tensor, Tensor]]
"""Indices and pixels of images, part by part."""


class Step:
    """The steps of one task, one at a time.

    Args:
        backbone: the model with its adapter, which is changed in place.
        task: what the task is trained on.
        config: the method's settings.
        state: the parameters in training and their optimiser.
        processes: the processes that share each step.

    Attributes:
        losses: the terms of the loss.
        gradients: gradients of the last step, of all parameters in one row.
        terms: values of the last step's terms `[terms]`.
    """

    def __init__(
        self,
        backbone: Backbone,
        task: TaskInputs,
        config: MethodConfig,
        state: TrainingState,
        processes: Processes,
    ) -> None:
        self.backbone, self.task, self.config = backbone, task, config
        self.state, self.processes = state, processes
        self.losses = TaskLosses(config, backbone.logit_scale, task)
        self.prompts = Prompts(backbone, config.training.prompts_per_pass, processes)
        self._classes = task.images.labels.to(backbone.device)
        # One buffer holds all that processes add up in a step: the gradients of all parameters, then the terms of the loss.
        parameters, terms = state.parameters, len(self.losses.names)
        sizes = [parameter.numel() for parameter in parameters]
        self._sums = torch.zeros(sum(sizes) + terms, device=parameters[0].device, dtype=parameters[0].dtype)
        self.gradients, self.terms = self._sums[:-terms], self._sums[-terms:]
        for parameter, part in zip(parameters, self.gradients.split(sizes), strict=True):
            parameter.grad = part.view_as(parameter)

    def take(self, batch: Tensor, read: Pixels) -> None:
        """Takes one step.

        Args:
            batch: indices of the step's images, int64 `[B]`.
            read: gives the pixels of this process's parts of `batch` next.
        """
        drawn = self._drawn(batch)
        self._sums.zero_()
        classes = self.losses.classes_of_step(drawn)
        read_text = self.prompts.encode(self.task.tokens[classes])
        text = self._of_all_classes(read_text, classes)
        for images, samples in zip(self.parts(batch), self.parts(drawn), strict=True):
            shares = len(images) / len(batch), len(samples) / max(len(drawn), 1)
            self._pass(images, samples, text, shares, read)
        if self.processes.is_main:
            self._add(self.losses.of_text(text))
        gradient = text.grad
        if text is not read_text and gradient is not None:
            gradient = gradient[classes.to(gradient.device)]
        self.prompts.backward(torch.zeros_like(read_text) if gradient is None else gradient)
        self.processes.sum(self._sums)
        self.state.step()

    def _of_all_classes(self, read_text: Tensor, classes: Tensor) -> Tensor:
        """The text embeddings of all classes `[C, De]`, as a leaf that takes gradients; zero for classes that no term reads."""
        if len(classes) == len(self.task.tokens):
            return read_text
        text = read_text.new_zeros(len(self.task.tokens), read_text.shape[1])
        text[classes.to(text.device)] = read_text.detach()
        return text.requires_grad_()

    def parts(self, whole: Tensor) -> tuple[Tensor, ...]:
        """Returns this process's parts of a step's samples; some may be empty."""
        settings = self.config.training
        count = min(settings.accumulate, settings.batch_size)
        first = self.processes.rank * count
        return whole.tensor_split(self.processes.count * count)[first : first + count]

    def _drawn(self, batch: Tensor) -> Tensor:
        """The anchors of a step: a draw of them, the images themselves (LwF), or none."""
        anchors = self.task.anchors
        if anchors is None or not self.losses.draws_anchors:
            return batch[:0]
        if anchors.pixels is None:
            return batch
        order = torch.randperm(len(anchors), generator=self.state.generator, device="cpu")
        return order[: self.config.distillation.batch_size]

    def _pass(self, images: Tensor, drawn: Tensor, text: Tensor, shares: tuple[float, float], read: Pixels) -> None:
        """Forward and backward of one part of a step."""
        anchors = self.task.anchors
        inputs = [self.backbone.to_unit(next(read)[1])] if len(images) else []
        if anchors is not None and anchors.pixels is not None and len(drawn):
            inputs.append(anchors.take(anchors.pixels, drawn))
        if not inputs:
            return
        outputs = self.backbone.encode_image(torch.cat(inputs))
        embedding, feature = leaves = [output.detach().requires_grad_() for output in outputs]
        first, last = slice(len(images)), slice(len(embedding) - len(drawn), None)
        of_images = Samples(embedding[first], feature[first], images, self._classes, self.task.image_teacher)
        of_anchors = Samples(embedding[last], feature[last], drawn, self.task.anchor_classes, anchors)
        self._add(self.losses.of_samples(of_images, of_anchors, text, shares))
        reached = [
            (output, leaf.grad)
            for output, leaf in zip(outputs, leaves, strict=True)
            if output.requires_grad and leaf.grad is not None
        ]
        if reached:  # side by side, as the two share all layers but the last
            self.backbone.backward(*(torch.cat(tensors, dim=1) for tensors in zip(*reached, strict=True)))

    def _add(self, terms: Tensor | None) -> None:
        """Goes back from terms of the loss, and adds them up."""
        if terms is None:
            return
        if terms.requires_grad:  # a loss of one's own may be constant
            self.state.scaler.scale(terms.sum()).backward()
        self.terms += terms.detach()
