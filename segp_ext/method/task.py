"""Learning one task: anchors, training, and prototypes (SeGP-CL, arXiv 2603.12055, section III)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from segp_ext import ops
from segp_ext.clip.backbone import Backbone
from segp_ext.data.images import Images
from segp_ext.method.anchors import Anchors, encoded_by_teacher, make_anchors
from segp_ext.method.checks import check_anchors, check_finite
from segp_ext.method.encoding import encode_images, encode_prompts
from segp_ext.method.fit import fit
from segp_ext.method.inputs import TaskInputs
from segp_ext.method.losses import Loss
from segp_ext.method.named_parts import loss_of, source_of
from segp_ext.method.own_parts import naming
from segp_ext.method.prototypes import ClassMeans, transfer
from segp_ext.method.sources import Source, Teacher
from segp_ext.method.state import State
from segp_ext.report.result import TaskReport
from segp_ext.runtime.timing import Timer
from segp_ext.storage.task_progress import TaskProgress

_ANCHOR_DRAWS, _TRAINING_DRAWS = range(2)


@dataclass(frozen=True)
class NewTask:
    """A task to learn, checked.

    Attributes:
        number: number of the task, from 1.
        names: names of its classes.
        images: its training images; labels index `names`.
        tokens: prompts of all classes, old ones first, `[C, L]`.
        trains: whether the adapter is trained; otherwise the task gives prototypes alone.
    """

    number: int
    names: list[str]
    images: Images
    tokens: Tensor
    trains: bool

    @property
    def new(self) -> range:
        """Indices of the task's classes among all classes."""
        return range(len(self.tokens) - len(self.names), len(self.tokens))


class Prototypes(NamedTuple):
    """Prototypes after a task.

    Attributes:
        moved: prototypes of all classes `[C, Dr]`, old ones first.
        unmoved: the old classes' prototypes before their transfer `[C_old, Dr]`; None where nothing moved them.
    """

    moved: Tensor
    unmoved: Tensor | None


class TaskLearning:
    """Learns one task, phase by phase.

    Args:
        state: the learner before the task. Its model and head are changed in place, the rest is left alone.
        task: the task.
        kept: keeps the task's progress on disk; learning goes on from the progress found there.

    Attributes:
        report: what learning took and showed.
    """

    def __init__(self, state: State, task: NewTask, kept: TaskProgress | None) -> None:
        self.state, self.task, self.kept = state, task, kept
        self.backbone, self.config, self.processes = state.backbone, state.config, state.processes
        self.timer = Timer(self.backbone.stopwatch, self.backbone.device)
        self.report = TaskReport(task.names, len(task.images), phases=self.timer.phases)

    def learn(self) -> Prototypes:
        """Learns the task. If that fails or is interrupted, the adapter is as before.

        Raises:
            FloatingPointError: if a loss, a gradient, the adapter or a prototype stops being finite.
        """
        with restored_on_failure(self.backbone), ops.eager() if self.config.ops == "eager" else nullcontext():
            task, config = self.task, self.config
            source = self.state.source if task.trains and task.new.start > 0 and config.uses_anchors else None
            loss = loss_of(config) if task.trains and config.extra_loss.used else None
            anchors, teacher_text = None, self.state.prototypes.new_zeros(0, self.backbone.embed_dim)
            if source is not None or (loss is not None and task.new.start > 0):
                with self.timer.phase("text"):  # before the adapter is merged, which rounds
                    teacher_text = self.state.own_text()
            if source is not None:
                anchors = self._anchors(source, teacher_text)
            if task.trains:
                self._train(self._inputs(anchors, teacher_text, loss))
            with self.backbone.merged():
                with self.timer.phase("transfer"):
                    old = self._transferred(anchors)
                with self.timer.phase("prototypes"):
                    new = self._class_means()
            check_finite("adapter", self.backbone.trained_parameters(), task.number)
            check_finite("prototypes", (new, old), task.number)
            moved = torch.cat([old, new])
            with naming("prototypes.score", self.state.head):
                self.state.head.finish(self.processes)
            return Prototypes(moved, None if old is self.state.prototypes else self.state.prototypes)

    def _anchors(self, source: Source, teacher_text: Tensor) -> Anchors:
        """The task's anchors: those kept on disk, or new ones, which are then kept."""
        found = None if self.kept is None else self.kept.load_anchors()
        if found is not None:
            anchors = Anchors.of(found, self.backbone.device)
        else:
            doubt = source.doubt(len(self.task.images))
            if doubt is not None:
                warnings.warn(f"task {self.task.number} {doubt}", RuntimeWarning, stacklevel=5)
            with self.backbone.merged():
                anchors = make_anchors(
                    source,
                    Teacher(self.backbone, teacher_text, self.state.prototypes),
                    source.images(self.task.images, self.state.reader),
                    self.config.inference.batch_size,
                    self._generator(_ANCHOR_DRAWS),
                    self.processes,
                    self.timer,
                )
            if self.kept is not None and not anchors.mapped:  # anchors too many for memory are made again instead
                self.kept.keep_anchors(anchors.tensors)
        check_anchors(anchors, self.task.number)
        self.report.anchors = len(anchors)
        return anchors

    def _inputs(self, anchors: Anchors | None, teacher_text: Tensor, loss: type[Loss] | None) -> TaskInputs:
        """What the adapter is trained on; `loss` is a term of one's own, which may need more than the terms of this package."""
        task, config = self.task, self.config
        reference = anchor_classes = image_teacher = None
        if config.text_geometry.weight > 0 or loss is not None:
            with self.timer.phase("text"), self.backbone.reference():
                reference = encode_prompts(self.backbone, task.tokens, config.training.prompts_per_pass)
        source = source_of(config)
        if anchors is not None and source is not None and source.of_classes:
            old = torch.arange(task.new.start, device=self.backbone.device)
            anchor_classes = old.repeat_interleave(len(anchors) // task.new.start)
        if loss is not None and loss.teacher_of_images:
            image_teacher = anchors if anchors is not None and anchors.pixels is None else self._image_teacher()
        facts = task.number, task.images, task.tokens, task.new
        return TaskInputs(*facts, anchors, teacher_text, reference, anchor_classes, image_teacher)

    def _image_teacher(self) -> Anchors:
        """The teacher's outputs for the task's images."""
        with self.timer.phase("teacher"), self.backbone.merged():
            settings, batch_size = self.config.anchors, self.config.inference.batch_size
            return encoded_by_teacher(self.backbone, self.task.images, batch_size, settings, self.processes)

    def _train(self, inputs: TaskInputs) -> None:
        """Trains the adapter."""
        generator, settings = self._generator(_TRAINING_DRAWS), self.config.training
        with self.timer.phase("training"):
            self.report.losses = fit(self.backbone, inputs, self.config, generator, self.processes, self.kept)
        self.report.steps = -(-len(inputs.images) // settings.batch_size) * settings.epochs

    @torch.no_grad()
    def _transferred(self, anchors: Anchors | None) -> Tensor:
        """Old prototypes moved along the drift of the anchors, or as they are where there is nothing to move them by."""
        settings, batch_size = self.config.prototypes, self.config.inference.batch_size
        if anchors is None or settings.transfer == "none":
            return self.state.prototypes
        pieces = torch.arange(len(anchors), device="cpu").split(batch_size)
        if anchors.pixels is None:
            encoded = encode_images(self.backbone, self.task.images, batch_size, self.processes)
            own = ((feature,) for _, _, feature in encoded)
        else:
            pixels = anchors.pixels
            taken = (anchors.take(pixels, piece) for piece in self.processes.mine(pieces))
            own = ((self.backbone.encode_image(x)[1],) for x in taken)
        for piece, (feature,) in zip(pieces, self.processes.in_order(own, len(pieces)), strict=True):
            if anchors.writes:
                anchors.after[piece[0] : piece[-1] + 1] = feature
        self.processes.wait()
        before, after = (tensor.to(self.backbone.device) for tensor in (anchors.feature, anchors.after))
        return transfer(self.state.prototypes, before, after, settings)

    def _class_means(self) -> Tensor:
        """Prototypes of the task's classes `[C_new, Dr]`; the head takes the features too."""
        images, classes = self.task.images, len(self.task.names)
        means = ClassMeans(classes, self.backbone, self.config.prototypes.features == "unit")
        head = self.state.head
        with naming("prototypes.score", head):
            head.begin(classes)
        batch_size = self.config.inference.batch_size
        for indices, _, feature in encode_images(self.backbone, images, batch_size, self.processes):
            label = images.labels[indices].to(feature.device)
            means.add(feature, label)
            with naming("prototypes.score", head):
                head.add(feature, label, indices)
        return means.read(self.processes)

    def _generator(self, purpose: int) -> torch.Generator:
        """A CPU generator for one purpose within one task, so that no phase's draws depend on another's."""
        entropy = np.random.SeedSequence((self.config.seed, self.task.number - 1, purpose))
        return torch.Generator("cpu").manual_seed(int(entropy.generate_state(1, np.uint64)[0]))


@contextmanager
def restored_on_failure(backbone: Backbone) -> Iterator[None]:
    """Puts the adapter back as it was if learning a task fails or is interrupted."""
    trained = backbone.trained_parameters()
    before = [parameter.detach().clone() for parameter in trained]
    try:
        yield
    except BaseException:
        backbone.unmerge()  # again, as an interrupt may have come in the middle of it
        with torch.no_grad():
            for parameter, value in zip(trained, before, strict=True):
                parameter.copy_(value)
        raise
