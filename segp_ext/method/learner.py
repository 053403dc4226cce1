"""The learner: one CLIP classifier that takes up new classes task after task (SeGP-CL, arXiv 2603.12055).

Every method that this package compares is a configuration of this class (`segp_ext.config.methods.METHODS`).
"""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segp_ext import ops
from segp_ext.clip.backbone import Backbone, out_of_inference_mode, without_autocast
from segp_ext.clip.own_files import WEIGHTS
from segp_ext.config import MethodConfig, ScorePath, from_dict, with_method
from segp_ext.data.images import Images, Reader
from segp_ext.data.items import SizedDataset
from segp_ext.method.anchors import Anchors, check_folder, make_anchors
from segp_ext.method.classifier import Classifier, Prediction
from segp_ext.method.fit import fit
from segp_ext.method.heads import Head
from segp_ext.method.inputs import TaskInputs
from segp_ext.method.parts import check_parts, head_of, source_of
from segp_ext.method.prototypes import ClassMeans, transfer
from segp_ext.method.sources import Source, Teacher
from segp_ext.report.result import TaskReport
from segp_ext.runtime.forked import one_thread_if_forked
from segp_ext.runtime.processes import Processes
from segp_ext.runtime.progress import progress
from segp_ext.runtime.timing import Timer
from segp_ext.storage.checkpoint import NOT_SAVED, LearnerState, SavedLearner, read_learner, save_learner
from segp_ext.storage.saved_backbone import load_backbone
from segp_ext.storage.task_progress import TaskProgress

_ANCHOR_DRAWS, _TRAINING_DRAWS = range(2)


def _give_back_memory() -> None:
    """Hands the memory that a task has freed back to the system; the C library keeps it otherwise, more with every task."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None  # glibc has it
    if trim is not None:
        trim(0)


_BUSY = "this learner is learning a task, and what it is made of changes; ask for its classifier() before, and predict with that meanwhile"


def listed(class_names: Any) -> list[Any]:
    """Class names as a list.

    Raises:
        TypeError: for one string, which would be taken apart into letters, and for what has no order.
    """
    if isinstance(class_names, (str, bytes)):
        raise TypeError(f"class_names must be a list of names; got the string {class_names!r}: write [{class_names!r}]")
    if isinstance(class_names, (set, frozenset, Mapping)) or not isinstance(class_names, Iterable):
        raise TypeError(
            f"class_names must be a list of names in the order of their labels; got a {type(class_names).__name__}, which has no such order"
        )
    return [str(name) if isinstance(name, np.str_) else name for name in class_names]


def check_labels(labels: Tensor, names: Sequence[str], least: int) -> None:
    """Refuses a task's labels, int64 `[N]`, that are out of range or leave one of its classes `names` with fewer than `least` images.

    Raises:
        ValueError: naming the image or the class.
    """
    wrong = ((labels < 0) | (labels >= len(names))).nonzero().flatten()
    if len(wrong):
        index = int(wrong[0])
        raise ValueError(
            f"label of image {index} must be from 0 to {len(names) - 1}, an index into class_names; got {int(labels[index])}"
        )
    for name, count in zip(names, torch.bincount(labels, minlength=len(names)).tolist(), strict=True):
        if count < least:
            raise ValueError(
                f"class {name!r} has {count} training image(s); at least {least} are needed (setting min_images_per_class)"
            )


def prompts(backbone: Backbone, template: str, names: Sequence[str]) -> Tensor:
    """Token ids of the classes' prompts, `[C, L]`.

    Raises:
        TypeError: for what is no list of names.
        ValueError: for a prompt that does not fit the text context, or two names that differ only in what the tokenizer ignores (case,
            say): they would be one class to the text encoder.
    """
    names = listed(names)
    tokens = backbone.tokenize([template.replace("{}", name) for name in names])
    first: dict[tuple[int, ...], int] = {}
    for index, (name, row) in enumerate(zip(names, tokens.tolist(), strict=True)):
        other = first.setdefault(tuple(row), index)
        if other != index:
            raise ValueError(
                f"class names {names[other]!r} and {name!r} read the same to the text encoder; they need different words"
            )
    return tokens


class SeGPCL:
    """A CLIP classifier that learns classes in tasks, without old images.

    Args:
        backbone: from `segp_ext.load_clip`; the learner puts its adapter on it and owns it from then on.
        config: the method's settings; the paper's by default. Those of learning, inference and the template may be changed later, and hold
            from then on; the adapter and the head are as they were made, and a learner whose settings say otherwise is not saved.
        processes: those that learn together (`segp_ext.runtime.processes.join`); this one alone by default.

    Attributes:
        class_names: all classes learnt, in order; a tuple, as prompts, prototypes and heads follow it.
        task_sizes: number of classes of each task learnt.
        prototypes: raw-space prototypes μ `[C, Dr]`: unit, or means of raw features where `prototypes.features` says raw.
        untransferred: the old classes' prototypes before the last task's transfer, for inspection; None if none took place.
        weights_from: where `load` took the backbone's weights from, a path or a tag; None for a learner that was not loaded.
    """

    @torch.inference_mode(False)
    @without_autocast()
    def __init__(
        self, backbone: Backbone, config: MethodConfig | None = None, processes: Processes | None = None
    ) -> None:
        if not isinstance(backbone, Backbone):
            raise TypeError(f"backbone must be what segp_ext.load_clip gives; got {type(backbone).__name__}")
        if config is not None and not isinstance(config, MethodConfig):
            raise TypeError(f"config must be a segp_ext.MethodConfig; got {type(config).__name__}")
        self.backbone = backbone
        self.config = with_method(MethodConfig() if config is None else config)
        check_parts(self.config)
        self.processes = Processes() if processes is None else processes
        self.weights_from: str | None = None
        self._names: tuple[str, ...] = ()
        self.task_sizes: list[int] = []
        self.prototypes = torch.zeros(0, backbone.raw_dim, device=backbone.device, dtype=backbone.dtype)
        self.untransferred: Tensor | None = None
        self._forget_what_predicts()
        self._head = self._new_head(backbone.device)
        if self.config.training.epochs > 0:
            backbone.adapt(self.config.lora, self.config.seed)

    def _forget_what_predicts(self) -> None:
        """Puts what is made from the state, and what guards it, to the start."""
        self._state = threading.RLock()  # held while the state is read as a whole, and when it begins to change
        self._learning = False
        self._reader: tuple[Any, Reader] | None = None  # with what it was made from
        self._source: tuple[Any, Source | None] | None = None  # the same
        self._text: tuple[Any, Tensor] | None = None  # with the state that it was encoded in
        self._classifier: tuple[Any, Classifier] | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._names

    @class_names.setter
    def class_names(self, names: Any) -> None:
        raise AttributeError(
            "class_names cannot be set: prompts and prototypes were learnt under these names. Learn anew under others, or replace names in "
            "what predict returns"
        )

    @property
    def reader(self) -> Reader:
        """How images are read; the same one as long as the settings of `loading` and the device are."""
        made_from = dataclasses.replace(self.config.loading), self.backbone.transform, self.backbone.device
        if self._reader is None or self._reader[0] != made_from:
            self._reader = (
                made_from,
                Reader(self.backbone.transform, made_from[0], self.backbone.device, self.processes.local_count),
            )
        return self._reader[1]

    @property
    def _tokens(self) -> Tensor:
        """Token ids of the prompts of all classes learnt, `[C, L]`; that they differ was checked when they were learnt."""
        return self.backbone.tokenize([self.config.template.replace("{}", name) for name in self._names])

    def __repr__(self) -> str:
        model = f"{self.backbone.name} ({self.backbone.pretrained})" if self.backbone.pretrained else self.backbone.name
        learnt = f"{len(self._names)} classes in {len(self.task_sizes)} tasks"
        source = "" if self.weights_from is None else f", weights from {self.weights_from}"
        return f"SeGPCL({self.config.method} on {model}, {self.backbone.device}: {learnt}{source})"

    def __getstate__(self) -> dict[str, Any]:
        with self._reading():
            made_anew = ("_state", "_learning", "_reader", "_source", "_text", "_classifier")
            return {name: value for name, value in self.__dict__.items() if name not in made_anew}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(out_of_inference_mode(state))
        self._forget_what_predicts()

    def _check_settings(self) -> None:
        """They may have been changed since the learner was made.

        Raises:
            ValueError: naming one that cannot be as it is.
        """
        check_parts(from_dict(type(self.config), dataclasses.asdict(self.config)))

    def _new_head(self, device: torch.device) -> Head:
        return head_of(self.config)(self.backbone.raw_dim, device, self.config)

    @property
    def source(self) -> Source | None:
        """Where anchors come from; the same one as long as the settings of `anchors` and the device are. None where there are none."""
        kind = source_of(self.config)
        made_from = kind, dataclasses.replace(self.config.anchors), self.backbone.device
        if self._source is None or self._source[0] != made_from:
            self._source = made_from, None if kind is None else kind(made_from[1])
        return self._source[1]

    # -- learning --------------------------------------------------------------------------------------------------------------

    @torch.inference_mode(False)  # which lets gradients be, too
    def learn_task(
        self, dataset: SizedDataset | Images, class_names: Sequence[str], kept: TaskProgress | None = None
    ) -> TaskReport:
        """Learns new classes from their images.

        Args:
            dataset: map-style dataset of (image, label), images as `segp_ext.data.decoding.to_pil` takes them; labels index
                `class_names`. One with an attribute `labels` or `targets` is not read twice. Random augmentation gives each image one
                view (`segp_ext.data.images.Images`). Hugging Face's dicts with the keys image and
                label do as well, or `Images` with such a dataset, to be used again by the caller.
            class_names: a list of the new classes' names, none of them seen before.
            kept: where the task's progress is kept, and where learning goes on if there is some.

        Raises:
            TypeError: for what is no such dataset or list, saying what to pass.
            ValueError: for a repeated or known name, a label out of range, a class with fewer images than
                `min_images_per_class`, or a prompt that does not fit the text context. Nothing is changed then.
            FloatingPointError: if the loss stops being finite. The learner is as it was before the task.
            RuntimeError: if another thread has it learn.
        """
        with self._learns(), without_autocast():
            return self._learn_task(dataset, class_names, kept)

    def _learn_task(
        self, dataset: SizedDataset | Images, class_names: Sequence[str], kept: TaskProgress | None
    ) -> TaskReport:
        self._check_settings()
        if self.config.training.joint and self.class_names:
            raise ValueError(
                "training.joint takes the images of all tasks together: call forget, then learn_task with all of them"
            )
        names = listed(class_names)
        self._check_names(names)
        images = dataset if isinstance(dataset, Images) else Images(dataset, self.reader)
        check_labels(images.labels, names, self.config.min_images_per_class)
        tokens = prompts(self.backbone, self.config.template, [*self.class_names, *names])
        old = len(self.class_names)
        new = range(old, old + len(names))
        if self.config.uses_anchors:
            check_folder(self.config.anchors)
        trains = self.config.training.epochs > 0
        if trains and not self.backbone.trained_parameters():
            raise ValueError(
                f"training.epochs must stay 0, as it was when this learner was made without an adapter; got {self.config.training.epochs}. "
                "Make another learner to train"
            )
        if trains and len(names) == 1 and self.config.training.classes == "new":
            warnings.warn(
                f"{names[0]!r} is its task's only class, over which cross-entropy is zero: the adapter takes no step, and the class "
                "is learnt by its prototype alone. Put more classes into a task, or use training.classes seen",
                RuntimeWarning,
                stacklevel=4,
            )
            trains = False
        report = TaskReport(names, len(images))
        timer = Timer(self.backbone.stopwatch, self.backbone.device)

        with self._restored_on_failure(), ops.eager() if self.config.ops == "eager" else nullcontext():
            anchors = None
            teacher_text = self.prototypes.new_zeros(0, self.backbone.embed_dim)
            source = self.source if old and trains and self.config.uses_anchors else None
            if source is not None:
                with timer.phase("text"):
                    teacher_text = self._own_text()
                found = None if kept is None else kept.load_anchors()
                anchors = None if found is None else Anchors.of(found, self.backbone.device)
                if anchors is None:
                    anchors = self._make_anchors(source, images, teacher_text, timer)
                    if (
                        kept is not None and not anchors.mapped
                    ):  # those that are too many for memory are made again instead
                        kept.keep_anchors(anchors.tensors)
                self._check_anchors(anchors)
                report.anchors = len(anchors)
            if trains:
                reference = None
                if self.config.text_geometry.weight > 0:
                    with timer.phase("text"), self.backbone.reference():
                        reference = self._encode_text(self.backbone, tokens)
                with timer.phase("training"):
                    task = TaskInputs(len(self.task_sizes) + 1, images, tokens, new, anchors, teacher_text, reference)
                    report.losses = fit(
                        self.backbone, task, self.config, self._generator(_TRAINING_DRAWS), self.processes, kept
                    )
                batch_size, epochs = self.config.training.batch_size, self.config.training.epochs
                report.steps = -(-len(images) // batch_size) * epochs
            with self.backbone.merged():
                with timer.phase("transfer"):
                    moved = self._transferred_prototypes(anchors, images)
                with timer.phase("prototypes"):
                    means = self._class_means(images, len(names))
            self._check_finite(means, moved)
            prototypes = torch.cat([moved, means])
            self._head.finish(self.processes)
        report.phases = timer.phases
        self.untransferred = None if moved is self.prototypes else self.prototypes
        self.prototypes = prototypes
        self._names = (*self._names, *names)
        self.task_sizes = [*self.task_sizes, len(names)]
        del anchors
        _give_back_memory()
        return report

    @torch.inference_mode(False)
    def forget(self) -> None:
        """Makes it a learner of no class again, its adapter as at the start."""
        with self._changing():
            with torch.no_grad():
                for parameter in self.backbone.trained_parameters():
                    parameter.zero_()
            self._names, self.task_sizes = (), []
            self.prototypes, self.untransferred = self.prototypes[:0], None
            self._head = self._new_head(self.backbone.device)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Keeps the state as it is: learning that begins meanwhile waits.

        Raises:
            RuntimeError: if the learner is learning.
        """
        one_thread_if_forked()
        with self._state:
            if self._learning:
                raise RuntimeError(_BUSY)
            yield

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Changes the state within a moment: whoever wants to read or to change it meanwhile waits.

        Raises:
            RuntimeError: if the learner is learning.
        """
        with self._reading():
            self._classifier = None  # who predicts with it goes on
            yield

    @contextmanager
    def _learns(self) -> Iterator[None]:
        """Changes the state for a long time: whoever wants to read or to change it meanwhile is refused.

        Raises:
            RuntimeError: if the learner is learning already.
        """
        with self._changing():
            self._learning = True
        try:
            yield
        finally:
            self._learning = False

    def _check_names(self, names: list[str]) -> None:
        if not names:
            raise ValueError("class_names must hold at least one name; got none")
        known = set(self.class_names)
        for name in names:
            if not isinstance(name, str) or not name.strip():
                raise ValueError(f"class names must be texts that are not empty; got {name!r}")
            if name in known:
                where = "learnt already" if name in self.class_names else "given twice"
                raise ValueError(f"class name {name!r} is {where}; every class needs a name of its own")
            known.add(name)

    def _check_finite(self, *prototypes: Tensor) -> None:
        for what, tensors in (("adapter", self.backbone.trained_parameters()), ("prototypes", prototypes)):
            if not all(bool(tensor.isfinite().all()) for tensor in tensors):
                raise FloatingPointError(
                    f"the {what} stopped being finite in task {len(self.task_sizes) + 1}; a lower training.learning_rate may help"
                )

    def _check_anchors(self, anchors: Anchors) -> None:
        for tensor in (anchors.embedding, anchors.feature):
            wrong = (~tensor.sum(dim=1).isfinite()).nonzero().flatten()
            if len(wrong):
                raise FloatingPointError(
                    f"the teacher's features of anchor {int(wrong[0])} are not finite in task {len(self.task_sizes) + 1} ({len(wrong)} of "
                    f"{len(anchors)} anchors); with model.precision fp16, bf16 or fp32 may help"
                )

    def _generator(self, purpose: int) -> torch.Generator:
        """A CPU generator for one purpose within one task, so that no phase's draws depend on another's."""
        entropy = np.random.SeedSequence((self.config.seed, len(self.task_sizes), purpose))
        return torch.Generator("cpu").manual_seed(int(entropy.generate_state(1, np.uint64)[0]))

    @contextmanager
    def _restored_on_failure(self) -> Iterator[None]:
        """Puts the adapter back as it was if learning a task fails or is interrupted."""
        trained = self.backbone.trained_parameters()
        before = [parameter.detach().clone() for parameter in trained]
        try:
            yield
        except BaseException:
            self.backbone.unmerge()  # again, as an interrupt may have come in the middle of it
            with torch.no_grad():
                for parameter, value in zip(trained, before, strict=True):
                    parameter.copy_(value)
            raise

    def _make_anchors(self, source: Source, images: Images, text: Tensor, timer: Timer) -> Anchors:
        # `text` was encoded before the adapter is merged: merging rounds, and what was predicted before must not change what is learnt.
        config = self.config
        doubt = source.doubt(len(images))
        if doubt is not None:
            warnings.warn(f"task {len(self.task_sizes) + 1} {doubt}", RuntimeWarning, stacklevel=5)
        with self.backbone.merged():
            return make_anchors(
                source,
                Teacher(self.backbone, text, self.prototypes),
                source.images(images, self.reader),
                config.inference.batch_size,
                self._generator(_ANCHOR_DRAWS),
                self.processes,
                timer,
            )

    def _class_means(self, images: Images, classes: int) -> Tensor:
        """Prototypes of the task's classes `[classes, Dr]`; the head takes the features too."""
        unit = self.config.prototypes.features == "unit"
        means = ClassMeans(classes, self.backbone, unit)
        self._head.begin(classes)
        for indices, _, feature in self._encode(self.backbone, images):
            label = images.labels[indices].to(feature.device)
            means.add(feature, label)
            self._head.add(feature, label, indices)
        return means.read(self.processes)

    @torch.no_grad()
    def _transferred_prototypes(self, anchors: Anchors | None, images: Images) -> Tensor:
        """Old prototypes moved along the drift of the anchors, or as they are where there is nothing to move them by."""
        settings = self.config.prototypes
        if anchors is None or settings.transfer == "none":
            return self.prototypes
        pieces = torch.arange(len(anchors), device="cpu").split(self.config.inference.batch_size)
        if anchors.pixels is None:
            own = ((feature,) for _, _, feature in self._encode(self.backbone, images))
        else:
            pixels = anchors.pixels
            taken = (anchors.take(pixels, piece) for piece in self.processes.mine(pieces))
            own = ((self.backbone.encode_image(x)[1],) for x in taken)
        for piece, (feature,) in zip(pieces, self.processes.in_order(own, len(pieces)), strict=True):
            if anchors.writes:
                anchors.after[piece[0] : piece[-1] + 1] = feature
        self.processes.wait()
        before, after = (tensor.to(self.backbone.device) for tensor in (anchors.feature, anchors.after))
        return transfer(self.prototypes, before, after, settings)

    # -- inference -------------------------------------------------------------------------------------------------------------

    @without_autocast()
    def classifier(self) -> Classifier:
        """What predicts, of the present state; it stays as it is while this learner goes on to learn.

        It is kept until the state changes. Weights that no adapter changes are shared. Who changes weights or the adapter from outside
        does so under `torch.no_grad()`, as optimisers do: torch counts no change through `.data`, and the classifier kept would stay.

        Raises:
            RuntimeError: while the learner learns, in another thread; ask before, and predict with the answer meanwhile.
            ValueError: naming a setting that was changed to what it cannot be.
        """
        kept = self._classifier
        if kept is not None and not self._learning and kept[0] == self._mark() and kept[1].config == self.config:
            return kept[1]
        with self._reading(), torch.inference_mode(False), torch.no_grad():
            mark, kept = self._mark(), self._classifier
            self._check_settings()
            if kept is None or kept[0] != mark:
                expected = [len(self._names), self.backbone.raw_dim]
                if list(self.prototypes.shape) != expected:
                    raise ValueError(
                        f"prototypes must be {expected}, a row for each class learnt; got {list(self.prototypes.shape)}"
                    )
                text = self._own_text()  # before merging, which rounds: the next task starts from the same
                backbone, head = self.backbone.to_predict(), copy.deepcopy(self._head)
                made = Classifier(backbone, text, self.prototypes, head, self._names, copy.deepcopy(self.config))
            elif kept[1].config != self.config:  # the model stays, however large
                made = dataclasses.replace(kept[1], text=self._own_text(), config=copy.deepcopy(self.config))
            else:
                return kept[1]
            self._classifier = mark, made
            return made

    def _mark(self) -> Any:
        """What differs between two states in which this learner predicts otherwise, its settings left out."""
        return self.backbone.version(), id(self.prototypes), self.prototypes._version, self._names

    def encode(self, images: Images) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yields (indices int64 `[B]`, embeddings v `[B, De]`, raw features z `[B, Dr]`) for this process's share of the images."""
        return self._encode(self.classifier().backbone, images)

    @torch.no_grad()
    def _encode(self, backbone: Backbone, images: Images) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        chunks = self.processes.mine(images.batches(self.config.inference.batch_size))
        for indices, pixels in progress(images.read(chunks), "encoding", total=len(chunks)):
            yield indices, *backbone.encode_image(backbone.to_unit(pixels))

    def encode_names(self, names: Sequence[str]) -> Tensor:
        """Text embeddings of any class names in the learner's prompt, `[C, De]`.

        Raises:
            TypeError: for what is no list of names.
            ValueError: for a prompt that does not fit the text context, or two names that read the same.
        """
        backbone = self.classifier().backbone
        return self._encode_text(backbone, prompts(backbone, self.config.template, names))

    @torch.no_grad()
    def _encode_text(self, backbone: Backbone, tokens: Tensor) -> Tensor:
        return torch.cat([backbone.encode_text(part) for part in tokens.split(self.config.training.prompts_per_pass)])

    def text_embeddings(self) -> Tensor:
        """Text embeddings u of all classes learnt `[C, De]`."""
        return self.classifier().text

    def _own_text(self) -> Tensor:
        """The same from the model as it is, which must not be merged; kept while it stays as it is."""
        if not self._names:
            return torch.zeros(0, self.backbone.embed_dim, device=self.backbone.device, dtype=self.backbone.dtype)
        mark = self._mark(), self.config.template
        if self._text is None or self._text[0] != mark:
            self._text = mark, self._encode_text(self.backbone, self._tokens)
        return self._text[1]

    def scores(self, embedding: Tensor, feature: Tensor, path: ScorePath | None = None) -> Tensor:
        """Logits over all classes learnt `[B, C]`; see `Classifier.scores`."""
        return self.classifier().scores(embedding, feature, path)

    def logits(self, pixels: Tensor, path: ScorePath | None = None) -> Tensor:
        """Scores of preprocessed images `[B, 3, S, S]`, float in [0, 1], on the backbone's device: `scores` of what they encode to."""
        return self.classifier().logits(pixels, path)

    def predict(self, images: Any, topk: int | None = 5, path: ScorePath | None = None) -> list[list[Prediction]]:
        """Names the classes of images. Any number of threads may call it at a time.

        It follows every change of the learner, its model and its settings, but no change of weights through `.data`, which
        `torch.nn.utils.vector_to_parameters` makes too: see `classifier`.

        Args:
            images: one image or a list of them: PIL image, path, bytes of an image file, open file, or pixels
                (`segp_ext.data.decoding.to_pil`). A `[B, 3, H, W]` tensor is a list of its rows.
            topk: how many classes to name, best first; at most all of them, which None asks for.
            path: text, visual or dual; the configuration's by default.

        Returns:
            For every image its `topk` predictions.

        Raises:
            ValueError: if nothing has been learnt, or `topk` or `path` is not valid, or a file cannot be read.
            FloatingPointError: if an image's scores are not finite.
            RuntimeError: if the learner is learning; `classifier`, asked before, gives what predicts meanwhile.
        """
        return self.classifier().predict(images, topk, path)

    @torch.inference_mode(False)
    def copy(self) -> SeGPCL:
        """A learner of its own with the present state, which may learn another way on. Weights that no adapter changes are shared.

        Raises:
            RuntimeError: while the learner learns, in another thread.
        """
        with self._reading():
            twin = copy.copy(self)
            twin.backbone, twin._head = self.backbone.copy(), copy.deepcopy(self._head)
            twin.config = copy.deepcopy(self.config)
        return twin

    @torch.inference_mode(False)
    def to(self, device: str | torch.device | int) -> SeGPCL:
        """Moves all of the learner to a device, as `load_clip` takes it, and returns it. Classifiers asked before stay where they are.

        Raises:
            ValueError: for another device, or one that is not usable here; and where several processes learn together.
            RuntimeError: while the learner learns, in another thread.
        """
        from segp_ext.clip.pretrained import usable_device

        chosen = usable_device(f"cuda:{device}" if isinstance(device, int) else str(device), "device")
        count = self.processes.count
        if count > 1:
            raise ValueError(
                f"device must stay as it is for a learner of {count} processes, which have one each; got {device!r}"
            )
        with self._changing():
            backbone, head = self.backbone.copy().to(chosen), self._new_head(chosen)
            backbone.stopwatch = self.backbone.stopwatch
            head.restore(self._head.state())
            untransferred = None if self.untransferred is None else self.untransferred.to(chosen)
            self.prototypes = self.prototypes.to(chosen)
            self.backbone, self._head, self.untransferred = backbone, head, untransferred
            self._text = None
        return self

    def eval(self) -> SeGPCL:
        """Returns the learner, which is always ready to predict: its encoders are in evaluation mode, also while it learns."""
        return self

    def train(self, mode: bool = True) -> SeGPCL:
        """Refuses a training mode, which there is none of: `learn_task` trains.

        Raises:
            TypeError: unless `mode` is false, which is `eval`.
        """
        if mode:
            raise TypeError(
                "a learner has no training mode; learn_task(dataset, class_names) has it learn, and predict needs no eval()"
            )
        return self

    # -- keeping ---------------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str], *, with_weights: bool | None = None) -> None:
        """Writes the learner to the folder `path`, whole or not at all (`segp_ext.storage.checkpoint`).

        Args:
            path: the folder; a checkpoint that is there is replaced.
            with_weights: whether to put the backbone's weights there too, so that `load` needs nothing else. By default they go where
                this learner was loaded from a folder that holds them, and else stay where they are.

        Raises:
            FileExistsError: if `path` exists and is neither a checkpoint nor an empty folder.
            ValueError: if it could not be loaded again.
            RuntimeError: while the learner learns, in another thread.
        """
        if with_weights is None:
            with_weights = self.weights_from is not None and Path(self.weights_from).name == WEIGHTS
        self.write(Path(os.path.expanduser(path)), {}, with_weights)

    def write(self, path: Path, extra: Mapping[str, bytes], with_weights: bool = False) -> None:
        """Does what `save` does, with more files sealed along."""
        with self._reading():
            state = LearnerState(self.backbone, self.config, self.class_names, self.task_sizes, self.tensors())
            save_learner(state, path, self._check_saved, extra, with_weights)

    def _check_saved(self, saved: SavedLearner) -> None:
        """Refuses what would not be read as this learner.

        Raises:
            ValueError: saying why.
        """
        made = self._remade(self.backbone.without_adapter(), saved)
        if made.backbone.adapter_config() != self.backbone.adapter_config():
            raise ValueError(f"{NOT_SAVED} as it is: its adapter is not as config.lora says")
        kinds = [(type(head), head.settings) for head in (made._head, self._head)]
        if kinds[0] != kinds[1]:
            raise ValueError(
                f"{NOT_SAVED} as it is: its head was made with other settings than config.prototypes and config.seed"
            )

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        device: str = "auto",
        pretrained: str | os.PathLike[str] | None = None,
        *,
        compile: bool = False,
    ) -> SeGPCL:
        """Reads a learner back from a folder that `save` wrote; the backbone is loaded by its recorded name.

        Args:
            path: the folder.
            device: a torch device; "auto" takes CUDA where it is usable.
            pretrained: where the backbone's weights are: a file, a folder for `local-dir:` models, or a tag. By default they are those in
                the folder (`save` with weights), or else looked for beside the learner, where they were, and in the usual caches.
            compile: compile the encoders with `torch.compile`. Like the device this is of the machine, and not kept in the folder.

        Returns:
            The learner; its attribute `weights_from` and its repr say where the weights were.

        Raises:
            FileNotFoundError: if there is no checkpoint at `path`, or its weights are nowhere.
            ValueError: naming the file, if one is damaged or does not fit.
        """
        with torch.inference_mode(False):
            saved = read_learner(Path(os.path.expanduser(path)))
            backbone, place = load_backbone(
                saved, device, None if pretrained is None else os.fspath(pretrained), compile
            )
            learner = cls._remade(backbone, saved)
        learner.weights_from = place
        return learner

    @classmethod
    @torch.inference_mode(False)
    def _remade(cls, backbone: Backbone, saved: SavedLearner) -> SeGPCL:
        """The learner that was saved, on its backbone.

        Raises:
            ValueError: if they do not fit together.
        """
        try:
            learner = cls(backbone, saved.config)
            learner.restore(saved.class_names, saved.task_sizes, saved.tensors)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"cannot load the checkpoint {saved.path}: {error}") from error
        return learner

    def tensors(self) -> dict[str, Tensor]:
        """What the learner has learnt beside its adapter, by name: prototypes, and a head's tensors in float64."""
        return {
            "prototypes": self.prototypes,
            **{f"head.{name}": tensor for name, tensor in self._head.state().items()},
        }

    @torch.inference_mode(False)
    def restore(self, class_names: list[str], task_sizes: list[int], tensors: dict[str, Tensor]) -> None:
        """Takes over a saved state: names, task sizes, and tensors as `tensors` gives them, with those of the adapter."""
        prototypes = tensors["prototypes"]
        expected = [len(class_names), self.backbone.raw_dim]
        if list(prototypes.shape) != expected or sum(task_sizes) != len(class_names):
            raise ValueError(
                f"prototypes must be {expected} for tasks of {task_sizes} classes; got {list(prototypes.shape)}"
            )
        of_head = {name.removeprefix("head."): t for name, t in tensors.items() if name.startswith("head.")}
        expects = self._head.state()
        if of_head.keys() != expects.keys():
            raise ValueError(f"the head's tensors must be {sorted(expects)}; got {sorted(of_head)}")
        prompts(self.backbone, self.config.template, class_names)  # refuses names that read the same
        others = ("prototypes", *(f"head.{name}" for name in of_head))
        with self._changing():
            self.backbone.load_adapter_state({name: t for name, t in tensors.items() if name not in others})
            self._head.restore(of_head)
            self.prototypes = prototypes.to(self.backbone.device, self.backbone.dtype)
            self._names, self.task_sizes = tuple(class_names), list(task_sizes)
            self._text = None
