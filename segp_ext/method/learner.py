"""The learner: one CLIP classifier that takes up new classes task after task (SeGP-CL, arXiv 2603.12055).

Every method that this package compares is a configuration of this class (`segp_ext.config.methods.METHODS`).
"""

from __future__ import annotations

import copy
import dataclasses
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segp_ext.clip.backbone import Backbone
from segp_ext.clip.own_files import WEIGHTS
from segp_ext.clip.wording import Wordings, check_wording
from segp_ext.config import ScorePath
from segp_ext.data.images import Images
from segp_ext.data.items import SizedDataset
from segp_ext.method.anchors import check_folder
from segp_ext.method.answers import Prediction
from segp_ext.method.checks import alike_rows, check_labels, check_new_names, listed, prompts
from segp_ext.method.class_editing import ClassEditing
from segp_ext.method.classifier import Classifier
from segp_ext.method.encoding import encode_classes, encode_images
from segp_ext.method.saved_tensors import check_prototypes
from segp_ext.method.scores import FrozenModel
from segp_ext.method.task import NewTask, TaskLearning
from segp_ext.report.result import TaskReport
from segp_ext.runtime.memory import give_back_memory
from segp_ext.runtime.process_state import without_autocast
from segp_ext.storage.checkpoint import NOT_SAVED, LearnerState, SavedLearner, read_learner, save_learner
from segp_ext.storage.class_records import updated_records
from segp_ext.storage.saved_backbone import load_backbone
from segp_ext.storage.task_progress import TaskProgress


class SeGPCL(ClassEditing):
    """A CLIP classifier that learns classes in tasks, without old images.

    Args:
        backbone: from `segp_ext.load_clip`; the learner puts its adapter on it and owns it from then on.
        config: the method's settings; the paper's by default. Settings of learning, inference and the template may be changed later, and
            hold from then on. The adapter and the head stay as they were made; a learner whose settings say otherwise cannot be saved.
        processes: the processes that learn together (`segp_ext.runtime.processes.join`); this one alone by default.

    Attributes:
        class_names: all classes learnt, in order; a tuple, as prompts, prototypes and heads follow it.
        task_sizes: number of classes of each task learnt that are there; 0 for a task that brought none, or whose classes were all removed.
        prototypes: raw-space prototypes μ `[C, Dr]`: unit vectors, or means of raw features where `prototypes.features` is raw.
        untransferred: the old classes' prototypes before the last task's transfer, for inspection; None if none took place.
        weights_from: where `load` took the backbone's weights from, a path or a tag; None for a learner that was not loaded.

    Raises:
        TypeError: if `backbone` or `config` is of another type.
        ValueError: naming a setting that does not go with the others.
    """

    def __repr__(self) -> str:
        model = f"{self.backbone.name} ({self.backbone.pretrained})" if self.backbone.pretrained else self.backbone.name
        learnt = f"{len(self.records)} classes in {len(self.task_sizes)} tasks"
        source = "" if self.weights_from is None else f", weights from {self.weights_from}"
        return f"SeGPCL({self.config.method} on {model}, {self.backbone.device}: {learnt}{source})"

    # -- learning --------------------------------------------------------------------------------------------------------------

    @torch.inference_mode(False)  # which allows gradients, too
    def learn_task(
        self,
        dataset: SizedDataset | Images,
        class_names: Sequence[str],
        kept: TaskProgress | None = None,
        wording: Wordings | None = None,
    ) -> TaskReport:
        """Learns new classes from their images.

        Args:
            dataset: map-style dataset of (image, label), images as `segp_ext.data.decoding.to_pil` takes them; labels index
                `class_names`. A dataset with an attribute `labels` or `targets` is not read twice. Random augmentation gives each image
                one view (`segp_ext.data.images.Images`). Hugging Face's dicts with the keys image and label are taken too. So is an
                `Images` of such a dataset, which the caller may use again.
            class_names: a list of the new classes' names, none of them seen before.
            kept: keeps the task's progress on disk; learning goes on from the progress found there.
            wording: prompts of new classes, by name (`segp_ext.Wording`); other new classes have the setting `template`. A class that is
                learnt already keeps its own.

        Returns:
            What learning took and showed.

        Raises:
            TypeError: if `dataset`, `class_names` or `wording` has another type. The message says which types to pass.
            ValueError: if a name is repeated or already learnt. This error and the next four leave the learner as it was.
            ValueError: if a label is out of range.
            ValueError: if a class has fewer images than `min_images_per_class`.
            ValueError: if a prompt does not fit the text context, or two classes read the same.
            ValueError: if `wording` names a class that is none of the task.
            FloatingPointError: if the loss stops being finite. The learner is as it was before the task.
            RuntimeError: if another thread lets it learn.
        """
        with self._lock.learns(), without_autocast(), self._as_before_on_failure():
            self._classifier = None  # who predicts with it goes on
            task = self._checked_task(dataset, class_names, wording or {})
            learning = TaskLearning(self, task, kept)
            learnt = learning.learn()
            self.statistics, self.frozen, self.held, self.untransferred = learnt
            self.records = updated_records(self.records, task.names, task.number, task.counts, wording or {})
            self.task_sizes = [*self.task_sizes, len(task.names)]
            self.calibration = self._calibrated()
        give_back_memory()
        return learning.report

    def _checked_task(self, dataset: SizedDataset | Images, class_names: Sequence[str], wording: Wordings) -> NewTask:
        """The task to learn, after all checks that need no learning."""
        config = self.config
        self.check_settings()
        if config.training.joint and self.records:
            raise ValueError(
                "training.joint takes the images of all tasks together: call forget, then learn_task with all of them"
            )
        names, learnt = listed(class_names), self.class_names
        check_new_names(names, ())
        again = [name for name in names if name in {*learnt}]
        if again and config.known_classes == "refuse":
            raise ValueError(
                f"class name {again[0]!r} is learnt already; every class needs a name of its own. With the setting known_classes update or "
                "train, a learnt class takes more images"
            )
        images = dataset if isinstance(dataset, Images) else Images(dataset, self.reader)
        new = [name for name in names if name not in {*learnt}]
        check_labels(images.labels, names, [config.min_images_per_class if name in new else 1 for name in names])
        places = [learnt.index(name) for name in names if name in {*learnt}]
        known = torch.tensor(places, dtype=torch.int64, device="cpu")
        for statistics in (self.statistics, self.frozen):
            if len(known) and statistics is not None:
                statistics.check_updates(known)
        for name, own in wording.items():
            if name not in names:
                raise ValueError(f"wording names {name!r}, which is no class of this task")
            check_wording(name, own)
        everyone = [*learnt, *new]
        tokens = prompts(self.backbone, config.template, everyone, {**wording, **self.wording})
        classes = torch.tensor([everyone.index(name) for name in names], device="cpu")[images.labels]
        if config.uses_anchors:
            check_folder(config.anchors)
        trains = config.training.epochs > 0 and (bool(new) or config.known_classes == "train")
        if trains and not self.backbone.trained_parameters():
            raise ValueError(
                f"training.epochs must stay 0, as it was when this learner was made without an adapter; got {config.training.epochs}. "
                "Make another learner to train"
            )
        if trains and len(new) == 1 and config.training.classes == "new":
            warnings.warn(
                f"{new[0]!r} is its task's only class, over which cross-entropy is zero: the adapter takes no step, and the class "
                "is learnt by its prototype alone. Put more classes into a task, or use training.classes seen",
                RuntimeWarning,
                stacklevel=4,
            )
            trains = False
        return NewTask(len(self.task_sizes) + 1, new, images, classes, tokens, trains)

    # -- inference -------------------------------------------------------------------------------------------------------------

    @without_autocast()
    def classifier(self) -> Classifier:
        """Returns a classifier of the present state, which stays as it is while this learner goes on to learn.

        It is kept until the state changes, and shares weights that no adapter changes. To change weights or the adapter from outside,
        do so under `torch.no_grad()`, as optimisers do. Torch counts no change through `.data`: the classifier kept would stay.

        Raises:
            RuntimeError: while the learner learns, in another thread; ask before, and predict with the answer meanwhile.
            ValueError: naming a setting that was changed to a value that it cannot have.
        """
        kept = self._classifier
        if kept is not None and not self._lock.learning and kept[0] == self.mark() and kept[1].config == self.config:
            return kept[1]
        with self._lock.held(), torch.inference_mode(False), torch.no_grad():
            mark, kept = self.mark(), self._classifier
            self.check_settings()
            gate = self.config.inference.gate is not None
            if kept is None or kept[0] != mark or (gate and kept[1].untouched is None):
                check_prototypes(self.prototypes, self.class_names, self.backbone.raw_dim)
                text = self.own_text()  # before merging, which rounds: the next task starts from the same
                backbone, statistics = self.backbone.to_predict(), copy.deepcopy(self.statistics)
                frozen = None
                if self.frozen is not None:
                    frozen = FrozenModel(self.backbone.without_adapter(), copy.deepcopy(self.frozen))
                untouched = None
                if gate:
                    untouched = self.backbone.without_adapter() if frozen is None else frozen.backbone
                config = copy.deepcopy(self.config)
                made = Classifier(backbone, text, statistics, self.wording, config, frozen, self.calibration, untouched)
            elif kept[1].config != self.config:  # the model stays, however large
                untouched = kept[1].untouched if gate else None
                config = copy.deepcopy(self.config)
                made = dataclasses.replace(kept[1], text=self.own_text(), config=config, untouched=untouched)
            else:
                return kept[1]
            self._classifier = mark, made
            return made

    def encode(self, images: Images) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yields (indices int64 `[B]`, embeddings v `[B, De]`, raw features z `[B, Dr]`) for this process's share of the images."""
        return encode_images(self.classifier().backbone, images, self.config.inference.batch_size, self.processes)

    def encode_frozen(self, images: Images) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields (indices int64 `[B]`, raw features in the pre-trained model `[B, Dr]`) for this process's share of the images.

        Raises:
            ValueError: if the learner does not use that model (`prototypes.frozen_head`, `inference.gate`).
        """
        classifier = self.classifier()
        model = classifier.untouched if classifier.frozen is None else classifier.frozen.backbone
        if model is None:
            raise ValueError(
                "this learner does not use the pre-trained model; prototypes.frozen_head is false, and inference.gate null"
            )
        encoded = encode_images(model, images, self.config.inference.batch_size, self.processes)
        return ((indices, feature) for indices, _, feature in encoded)

    def encode_names(
        self, names: Sequence[str], wording: Wordings | None = None, model: Backbone | None = None
    ) -> Tensor:
        """Returns text embeddings of any class names, `[C, De]`.

        Args:
            names: the names.
            wording: how the text encoder reads some of them, by name; the others have the learner's template.
            model: encodes the names; the trained model by default.

        Raises:
            TypeError: if `names` is not a list of names.
            ValueError: for a prompt that does not fit the text context, or two names that read the same.
        """
        backbone = self.classifier().backbone if model is None else model
        tokens = prompts(backbone, self.config.template, names, wording)
        return alike_rows(encode_classes(backbone, tokens, self.config.training.prompts_per_pass), tokens)

    def text_embeddings(self) -> Tensor:
        """Returns text embeddings u of all classes learnt `[C, De]`."""
        return self.classifier().text

    def scores(
        self, embedding: Tensor, feature: Tensor, path: ScorePath | None = None, frozen: Tensor | None = None
    ) -> Tensor:
        """Returns logits over all classes learnt `[B, C]`; see `Classifier.scores`."""
        return self.classifier().scores(embedding, feature, path, frozen)

    def logits(self, pixels: Tensor, path: ScorePath | None = None) -> Tensor:
        """Scores preprocessed images `[B, 3, S, S]`, float in [0, 1], on the backbone's device; see `Classifier.logits`."""
        return self.classifier().logits(pixels, path)

    def predict(
        self,
        images: Any,
        topk: int | None = 5,
        path: ScorePath | None = None,
        others: Sequence[str] = (),
        unknown: float | None = None,
    ) -> list[list[Prediction]]:
        """Names the classes of images. Any number of threads may call it at a time.

        It follows every change of the learner, its model and its settings, except changes of weights through `.data`, as
        `torch.nn.utils.vector_to_parameters` makes them: see `classifier`.

        Args:
            images: one image or a list of them: PIL image, path, bytes of an image file, open file, or pixels
                (`segp_ext.data.decoding.to_pil`). A `[B, 3, H, W]` tensor is a list of its rows.
            topk: how many classes to name, best first; None names all.
            path: text, visual or dual; the configuration's by default.
            others: names that were never learnt, which compete by text alone (`Classifier.probabilities`).
            unknown: share of images of learnt classes that may be called unknown, between 0 and 1; None calls no image so.

        Returns:
            For every image its `topk` predictions, or all where there are fewer names. An image that is unknown has one prediction, whose
            name is None; not so if its best name is among `others`.

        Raises:
            TypeError: for images or `others` of another kind, saying what to pass.
            ValueError: if nothing has been learnt, or `topk`, `path` or `unknown` is not valid, or a file cannot be read. Also for
                `unknown` of a learner that held no images back, and for a name among `others` that is empty, learnt, given twice, too
                long, or read like another one by the text encoder.
            FloatingPointError: if an image's scores are not finite.
            RuntimeError: if the learner is learning; `classifier`, asked before, gives what predicts meanwhile.
        """
        return self.classifier().predict(images, topk, path, others, unknown)

    def eval(self) -> SeGPCL:
        """Returns the learner, which is always ready to predict: its encoders are in evaluation mode, also while it learns."""
        return self

    def train(self, mode: bool = True) -> SeGPCL:
        """Refuses a training mode, as a learner has none: `learn_task` trains.

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
            with_weights: whether to put the backbone's weights there too, so that `load` needs nothing else. By default they go there if
                this learner was loaded from a folder that holds them.

        Raises:
            FileExistsError: if `path` exists and is neither a checkpoint nor an empty folder.
            ValueError: if the learner could not be loaded again.
            RuntimeError: while the learner learns, in another thread.
        """
        if with_weights is None:
            with_weights = self.weights_from is not None and Path(self.weights_from).name == WEIGHTS
        self.write(Path(os.path.expanduser(path)), {}, with_weights)

    def write(self, path: Path, extra: Mapping[str, bytes], with_weights: bool = False) -> None:
        """Saves the learner as `save` does, and seals the files `extra`, contents by name, along with it."""
        with self._lock.held():
            measured = None if self.calibration is None else dataclasses.asdict(self.calibration)
            state = LearnerState(self.backbone, self.config, self.records, self.task_sizes, self.tensors(), measured)
            save_learner(state, path, self._check_saved, extra, with_weights)

    def _check_saved(self, saved: SavedLearner) -> None:
        """Refuses a checkpoint that would not be read as this learner."""
        made = self._remade(self.backbone.without_adapter(), saved)
        if made.backbone.adapter_config() != self.backbone.adapter_config():
            raise ValueError(f"{NOT_SAVED} as it is: its adapter is not as config.lora says")
        kinds = [(type(head), head.settings) for head in (made.head, self.head)]
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
            pretrained: where the backbone's weights are: a file, a folder for `local-dir:` models, or a tag. By default they are
                taken from the folder (`save` with weights), else looked for beside the learner, where they were, and in the usual caches.
            compile: whether to compile the encoders with `torch.compile`. Like the device, this is not kept in the folder.

        Returns:
            The learner; its attribute `weights_from` and its repr say where the weights were.

        Raises:
            FileNotFoundError: if there is no checkpoint at `path`, or its weights are not found.
            ValueError: naming the file, if a file is damaged or does not fit.
        """
        with torch.inference_mode(False):
            saved = read_learner(Path(os.path.expanduser(path)))
            weights = None if pretrained is None else os.fspath(pretrained)
            backbone, place = load_backbone(saved, device, weights, compile)
            learner = cls._remade(backbone, saved)
        learner.weights_from = place
        return learner

    @classmethod
    @torch.inference_mode(False)
    def _remade(cls, backbone: Backbone, saved: SavedLearner) -> SeGPCL:
        """Makes the learner that was saved, on its backbone.

        Raises:
            ValueError: if they do not fit together.
        """
        try:
            learner = cls(backbone, saved.config)
            learner.restore(saved.records, saved.task_sizes, saved.tensors, saved.measured)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"cannot load the checkpoint {saved.path}: {error}") from error
        return learner
