"""Learning one task: anchors, training, and prototypes (SeGP-CL, arXiv 2603.12055, section III)."""

from __future__ import annotations

import copy
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from segp_ext import ops
from segp_ext.clip.wording import ClassTokens
from segp_ext.data.images import Images, PartOfImages
from segp_ext.method.anchors import Anchors, encoded_by_teacher, make_anchors
from segp_ext.method.checks import check_anchors, check_finite
from segp_ext.method.class_statistics import ClassStatistics
from segp_ext.method.encoding import encode_images, encode_prompts
from segp_ext.method.fit import fit
from segp_ext.method.held_back import HeldBack, choose_held_back
from segp_ext.method.inputs import TaskInputs
from segp_ext.method.losses import Loss
from segp_ext.method.named_parts import loss_of, source_of
from segp_ext.method.prototypes import Means, transfer
from segp_ext.method.sources import Source, Teacher
from segp_ext.method.state import State
from segp_ext.report.result import TaskReport
from segp_ext.runtime.timing import Timer
from segp_ext.storage.task_progress import TaskProgress

_ANCHOR_DRAWS, _TRAINING_DRAWS, _HELD_BACK_DRAWS, _PROMPT_DRAWS = range(4)


@dataclass(frozen=True)
class NewTask:
    """A task to learn, checked.

    Attributes:
        number: number of the task, from 1.
        names: names of its new classes.
        images: its training images.
        classes: class of every image, int64 `[N]`, a place among all classes.
        tokens: prompts of all classes, old ones first.
        trains: whether the adapter is trained; otherwise the task gives prototypes alone.
    """

    number: int
    names: list[str]
    images: Images
    classes: Tensor
    tokens: ClassTokens
    trains: bool

    @property
    def new(self) -> range:
        """Places of the new classes among all classes."""
        return range(len(self.tokens) - len(self.names), len(self.tokens))

    @property
    def counts(self) -> list[int]:
        """Number of the task's images of every class, old classes first."""
        return torch.bincount(self.classes, minlength=len(self.tokens)).tolist()


class Learnt(NamedTuple):
    """What a task leaves.

    Attributes:
        statistics: statistics of all classes in the trained model, old ones first.
        frozen: the same in the pre-trained model; None without `prototypes.frozen_head`.
        held: features of all images held back.
        unmoved: the old classes' prototypes before their transfer `[C_old, Dr]`; None where nothing moved them.
    """

    statistics: ClassStatistics
    frozen: ClassStatistics | None
    held: HeldBack
    unmoved: Tensor | None


class Counted(NamedTuple):
    """What a pass over the task's images gave in one model.

    Attributes:
        statistics: a copy of the statistics, with the new classes begun.
        new: means of the new classes.
        held: raw features of the images held back `[N, Dr]`.
        known: raw features of the images of classes that were known before `[M, Dr]`.
    """

    statistics: ClassStatistics
    new: Means
    held: Tensor
    known: Tensor


class TaskLearning:
    """Learns one task, phase by phase.

    Args:
        state: the learner before the task. Its model is changed in place, the rest is left alone.
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
        new = task.classes >= task.new.start
        self.held = new & choose_held_back(
            torch.where(new, task.classes, -1), self.config.calibration, self._generator(_HELD_BACK_DRAWS)
        )
        trained = ~self.held if self.config.known_classes == "train" else new & ~self.held
        chosen = trained.nonzero().flatten()
        self.images = PartOfImages(task.images, chosen, task.classes[chosen])
        drawn = self.config.training.prompts == "drawn"
        self.tokens = task.tokens.drawn(self._generator(_PROMPT_DRAWS)) if drawn else task.tokens.plain()

    def learn(self) -> Learnt:
        """Learns the task. If that fails or is interrupted, the model is changed; the caller puts it back.

        Raises:
            FloatingPointError: if a loss, a gradient, the adapter or a prototype stops being finite.
        """
        with ops.eager() if self.config.ops == "eager" else nullcontext():
            task, config = self.task, self.config
            source = self.state.source if task.trains and task.new.start > 0 and config.uses_anchors else None
            loss = loss_of(config) if task.trains and config.extra_loss.used else None
            anchors, teacher_text = None, self.state.prototypes.new_zeros(0, self.backbone.embed_dim)
            if source is not None or (loss is not None and task.new.start > 0):
                with self.timer.phase("text"):  # before the adapter is merged, which rounds
                    teacher_text = self._teacher_text()
            if source is not None:
                anchors = self._anchors(source, teacher_text)
            if task.trains:
                self._train(self._inputs(anchors, teacher_text, loss))
            with self.backbone.merged():
                with self.timer.phase("transfer"):
                    old = self._transferred(anchors)
                with self.timer.phase("prototypes"):
                    counted = self._counted(self.state.statistics)
            check_finite("adapter", self.backbone.trained_parameters(), task.number)
            check_finite("prototypes", (counted.new.prototypes, old), task.number)
            unmoved = self.state.prototypes
            held = self.state.held.moved(unmoved, old, counted.statistics.unit)
            self._finish(counted, old)
            frozen, frozen_features = None, counted.held[:0]
            if self.state.frozen is not None:
                with self.timer.phase("prototypes"), self.backbone.reference():
                    of_frozen = self._counted(self.state.frozen)
                self._finish(of_frozen, self.state.frozen.prototypes)
                frozen, frozen_features = of_frozen.statistics, of_frozen.held
            label = task.classes[self.held].to(self.backbone.device)
            more = HeldBack(label, counted.held, frozen_features)
            self.report.held_back = len(more)
            return Learnt(counted.statistics, frozen, held.with_more(more), None if old is unmoved else unmoved)

    def _teacher_text(self) -> Tensor:
        """Text embeddings of the old classes in the prompts that this task is trained with `[C_old, De]`."""
        if self.task.tokens.are_single:
            return self.state.own_text()
        limit = self.config.training.prompts_per_pass
        return encode_prompts(self.backbone, self.tokens[: self.task.new.start], limit)

    def _anchors(self, source: Source, teacher_text: Tensor) -> Anchors:
        """The task's anchors: those kept on disk, or new ones, which are then kept."""
        found = None if self.kept is None else self.kept.load_anchors()
        if found is not None:
            anchors = Anchors.of(found, self.backbone.device)
        else:
            doubt = source.doubt(len(self.images))
            if doubt is not None:
                warnings.warn(f"task {self.task.number} {doubt}", RuntimeWarning, stacklevel=5)
            with self.backbone.merged():
                anchors = make_anchors(
                    source,
                    Teacher(self.backbone, teacher_text, self.state.prototypes),
                    source.images(self.images, self.state.reader),
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
                reference = encode_prompts(self.backbone, self.tokens, config.training.prompts_per_pass)
        source = source_of(config)
        if anchors is not None and source is not None and source.of_classes:
            old = torch.arange(task.new.start, device=self.backbone.device)
            anchor_classes = old.repeat_interleave(len(anchors) // task.new.start)
        if loss is not None and loss.teacher_of_images:
            image_teacher = anchors if anchors is not None and anchors.pixels is None else self._image_teacher()
        facts = task.number, self.images, self.tokens, task.new
        return TaskInputs(*facts, anchors, teacher_text, reference, anchor_classes, image_teacher)

    def _image_teacher(self) -> Anchors:
        """The teacher's outputs for the task's images."""
        with self.timer.phase("teacher"), self.backbone.merged():
            settings, batch_size = self.config.anchors, self.config.inference.batch_size
            return encoded_by_teacher(self.backbone, self.images, batch_size, settings, self.processes)

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
            encoded = encode_images(self.backbone, self.images, batch_size, self.processes)
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

    def _counted(self, before: ClassStatistics) -> Counted:
        """Encodes all images of the task in the model of the moment, and counts the new classes' images that are not held back.

        Args:
            before: statistics before the task, which stay as they are.
        """
        statistics, task = copy.deepcopy(before), self.task
        new = task.classes >= task.new.start
        counts, known = new & ~self.held, ~new
        statistics.begin(len(task.names))
        number = counts.cumsum(0) - 1  # among the images that count
        kept = {"held": self.held, "known": known}
        like = before.prototypes
        rows = {name: like.new_zeros(int(chosen.sum()), like.shape[1]) for name, chosen in kept.items()}
        places = {name: chosen.cumsum(0) - 1 for name, chosen in kept.items()}
        for indices, _, feature in encode_images(
            self.backbone, task.images, self.config.inference.batch_size, self.processes
        ):
            chosen = counts[indices]
            own = indices[chosen]
            if len(own):
                label = (task.classes[own] - task.new.start).to(feature.device)
                statistics.add(feature[chosen.to(feature.device)], label, number[own])
            for name, mask in kept.items():
                part = mask[indices]
                at = places[name][indices[part]].to(feature.device)
                rows[name][at] = feature[part.to(feature.device)]
        held, of_known = (self.processes.sum(rows[name]) for name in ("held", "known"))
        return Counted(statistics, statistics.means(self.processes), held, of_known)

    def _finish(self, counted: Counted, old: Tensor) -> None:
        """Takes the task's images up into its statistics, the images held back last.

        Args:
            counted: what the images gave; its statistics are changed in place.
            old: prototypes of the old classes after their transfer.
        """
        statistics, task, device = counted.statistics, self.task, self.backbone.device
        statistics.finish(old, counted.new, self.processes)
        statistics.update(counted.known, task.classes[task.classes < task.new.start].to(device))
        if statistics.takes_held_back():
            statistics.update(counted.held, task.classes[self.held].to(device))

    def _generator(self, purpose: int) -> torch.Generator:
        """A CPU generator for one purpose within one task, so that no phase's draws depend on another's."""
        entropy = np.random.SeedSequence((self.config.seed, self.task.number - 1, purpose))
        return torch.Generator("cpu").manual_seed(int(entropy.generate_state(1, np.uint64)[0]))
