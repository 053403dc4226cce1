"""What a learner is made of: its model, settings, classes, prototypes and head, and how they are copied, moved and restored."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor

from segp_ext.clip.backbone import Backbone
from segp_ext.clip.wording import ClassTokens, Wording, tokenized
from segp_ext.config import MethodConfig, from_dict, with_method
from segp_ext.data.images import Reader
from segp_ext.method.calibration import Calibration, calibrate, calibration_of, measured_again
from segp_ext.method.checks import alike_rows, prompts
from segp_ext.method.class_statistics import ClassStatistics
from segp_ext.method.encoding import encode_classes
from segp_ext.method.heads import Head
from segp_ext.method.held_back import HeldBack
from segp_ext.method.made_once import MadeOnce
from segp_ext.method.named_parts import check_parts, source_of
from segp_ext.method.saved_tensors import check_prototypes, named, taken_apart
from segp_ext.method.sources import Source
from segp_ext.method.state_lock import StateLock
from segp_ext.method.text_scores import first_alike, text_scores
from segp_ext.method.unknown import background_of, left_out_fit_scores
from segp_ext.runtime.device import usable_device
from segp_ext.runtime.process_state import out_of_inference_mode, without_autocast
from segp_ext.runtime.processes import Processes
from segp_ext.storage.class_records import ClassRecord, sizes_of_tasks


class State:
    """The state of a learner; `segp_ext.SeGPCL`, which learns and predicts with it, documents arguments and attributes."""

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
        self.records: tuple[ClassRecord, ...] = ()
        self.task_sizes: list[int] = []
        self.untransferred: Tensor | None = None
        self._reset_what_was_made()
        self._begin_statistics(backbone.device)
        if self.config.training.epochs > 0:
            backbone.adapt(self.config.lora, self.config.seed)

    def _reset_what_was_made(self) -> None:
        """Resets the objects made from the state, and the lock that guards the state."""
        self._lock = StateLock()
        self._reader, self._source, self._text = MadeOnce[Reader](), MadeOnce[Source | None](), MadeOnce[Tensor]()
        self._classifier: Any = None  # the classifier of the present state, with what it was made from

    def __getstate__(self) -> dict[str, Any]:
        with self._lock.held():
            made_anew = ("_lock", "_reader", "_source", "_text", "_classifier")
            return {name: value for name, value in self.__dict__.items() if name not in made_anew}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(out_of_inference_mode(state))
        self._reset_what_was_made()

    def _begin_statistics(self, device: torch.device) -> None:
        """Begins with the statistics of no class."""
        self.statistics = self._new_statistics(device, self.config)
        self.frozen = self._new_frozen(device)
        self.held = HeldBack.none(self.statistics.prototypes)
        self.calibration: Calibration | None = None

    def _new_statistics(self, device: torch.device, config: MethodConfig) -> ClassStatistics:
        return ClassStatistics(self.backbone.raw_dim, device, self.backbone.dtype, config)

    def _new_frozen(self, device: torch.device) -> ClassStatistics | None:
        """Statistics in the pre-trained model; None where the settings ask for none.

        Their head is the trained model's own if that is mahalanobis, else the head of method rda.
        """
        config = self.config
        if not config.prototypes.frozen_head:
            return None
        if config.prototypes.score != "mahalanobis":
            config = with_method(dataclasses.replace(config, method="rda"))
        return self._new_statistics(device, config)

    @property
    def prototypes(self) -> Tensor:
        """Prototypes μ of all classes in the trained model `[C, Dr]`."""
        return self.statistics.prototypes

    @prototypes.setter
    def prototypes(self, prototypes: Tensor) -> None:
        self.statistics.prototypes = prototypes

    @property
    def head(self) -> Head:
        """The head that scores the visual path."""
        return self.statistics.head

    @property
    def class_names(self) -> tuple[str, ...]:
        """All classes learnt, in order."""
        return tuple(record.name for record in self.records)

    @class_names.setter
    def class_names(self, names: Any) -> None:
        raise AttributeError(
            "class_names cannot be set: prompts, prototypes and heads follow them. rename_class(old, new) gives a class another name"
        )

    # -- made from the state ---------------------------------------------------------------------------------------------------

    @property
    def reader(self) -> Reader:
        """Reads images; the same object as long as the settings of `loading` and the device stay."""
        settings, transform = dataclasses.replace(self.config.loading), self.backbone.transform
        device, count = self.backbone.device, self.processes.local_count
        return self._reader.get((settings, transform, device), lambda: Reader(transform, settings, device, count))

    @property
    def source(self) -> Source | None:
        """Where anchors come from; the same object as long as the settings of `anchors` and the device stay. None without anchors."""
        kind, settings = source_of(self.config), dataclasses.replace(self.config.anchors)
        made_from = kind, settings, self.backbone.device
        return self._source.get(made_from, lambda: None if kind is None else kind(settings))

    @property
    def tokens(self) -> ClassTokens:
        """Prompts of all classes learnt; that they differ was checked when they were learnt."""
        return tokenized(self.backbone, [record.sentences(self.config.template) for record in self.records])

    @property
    def wording(self) -> dict[str, Wording]:
        """How the text encoder reads the classes learnt, by name."""
        return {record.name: record.wording for record in self.records}

    def own_text(self) -> Tensor:
        """Encodes the prompts of all classes learnt with the model in training, whose adapter must not be merged: `[C, De]`."""
        if not self.records:
            return torch.zeros(0, self.backbone.embed_dim, device=self.backbone.device, dtype=self.backbone.dtype)
        limit = self.config.training.prompts_per_pass
        made_from = self.mark(), self.config.template
        return self._text.get(
            made_from, lambda: alike_rows(encode_classes(self.backbone, self.tokens, limit), self.tokens)
        )

    @torch.no_grad()
    def held_back_scores(self) -> dict[str, Tensor]:
        """Scores the images held back as if their classes had not learnt them at last, by path, float64 `[N, C]` each."""
        held, scale = self.held, self.backbone.logit_scale
        own = self.own_text()
        text = text_scores(self.backbone.project(held.feature), own, first_alike(own), scale).double()
        visual = self.statistics.held_back_scores(held.feature, held.label, scale)
        scores = {"text": text, "visual": visual, "dual": text + self.config.inference.beta * visual}
        if self.frozen is not None:
            scores["frozen"] = self.frozen.held_back_scores(held.frozen, held.label, scale)
        return scores

    @torch.no_grad()
    def _calibrated(self, before: Calibration | None = None) -> Calibration | None:
        """Measures the state on the images held back; None if there are none.

        Args:
            before: What was found before the learner lost classes; its temperatures and its weights of the path auto stay.
        """
        if not len(self.held):
            return None if before is None else dataclasses.replace(before, images=0, fit=())
        scores = self.held_back_scores()
        statistics, feature, visual = self.statistics, self.held.feature, scores["visual"]
        if self.frozen is not None:
            statistics, feature, visual = self.frozen, self.held.frozen, scores["frozen"]
        fit = left_out_fit_scores(statistics, feature, visual, background_of(statistics))
        measured = scores, self.held.label, fit
        return calibrate(*measured) if before is None else measured_again(*measured, before)

    def mark(self) -> Any:
        """Returns a value that differs between two states in which the learner predicts otherwise, its settings left out."""
        wording = [(record.name, record.wording) for record in self.records]
        return self.backbone.version(), id(self.prototypes), self.prototypes._version, wording

    def check_settings(self) -> None:
        """Refuses settings that were changed, since the learner was made, to values that they cannot have.

        Raises:
            ValueError: naming the setting.
        """
        check_parts(from_dict(type(self.config), dataclasses.asdict(self.config)))

    # -- changed as a whole ----------------------------------------------------------------------------------------------------

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Changes the state within a moment; others wait."""
        with self._lock.held():
            self._classifier = None  # who predicts with it goes on
            yield

    @contextmanager
    def _as_before_on_failure(self) -> Iterator[None]:
        """Puts back what a learner has learnt, its adapter included, if the block fails or is interrupted."""
        names = ("statistics", "frozen", "held", "untransferred", "records", "task_sizes", "calibration")
        before = {name: getattr(self, name) for name in names}
        with restored_on_failure(self.backbone):
            try:
                yield
            except BaseException:
                self.__dict__.update(before)
                raise

    @torch.inference_mode(False)
    def forget(self) -> None:
        """Makes it a learner of no class again, its adapter as at the start.

        Raises:
            RuntimeError: while the learner learns, in another thread.
        """
        with self._changing():
            with torch.no_grad():
                for parameter in self.backbone.trained_parameters():
                    parameter.zero_()
            self.records, self.task_sizes, self.untransferred = (), [], None
            self._begin_statistics(self.backbone.device)

    @torch.inference_mode(False)
    def copy(self) -> Self:
        """Returns a learner of its own with the present state. Both share weights that no adapter changes.

        Raises:
            RuntimeError: while the learner learns, in another thread.
        """
        with self._lock.held():
            twin = copy.copy(self)
            twin.backbone, twin.config = self.backbone.copy(), copy.deepcopy(self.config)
            twin.statistics, twin.frozen = copy.deepcopy((self.statistics, self.frozen))
        return twin

    @torch.inference_mode(False)
    def to(self, device: str | torch.device | int) -> Self:
        """Moves all of the learner to a device, as `load_clip` takes it, and returns it. Classifiers asked before stay where they are.

        Raises:
            ValueError: for a device that does not exist or is not usable here, and where several processes learn together.
            RuntimeError: while the learner learns, in another thread.
        """
        chosen = usable_device(f"cuda:{device}" if isinstance(device, int) else str(device), "device")
        count = self.processes.count
        if count > 1:
            raise ValueError(
                f"device must stay as it is for a learner of {count} processes, which have one each; got {device!r}"
            )
        with self._changing():
            backbone = self.backbone.copy().to(chosen)
            backbone.stopwatch = self.backbone.stopwatch
            statistics, frozen = self._new_statistics(chosen, self.config), self._new_frozen(chosen)
            statistics.restore(self.statistics.tensors())
            if frozen is not None and self.frozen is not None:
                frozen.restore(self.frozen.tensors())
            held = HeldBack.of(self.held.tensors(), len(self.records), statistics.prototypes)
            untransferred = None if self.untransferred is None else self.untransferred.to(chosen)
            self.backbone, self.statistics, self.frozen = backbone, statistics, frozen
            self.held, self.untransferred = held, untransferred
            self._text = MadeOnce()
        return self

    def tensors(self) -> dict[str, Tensor]:
        """Returns the learner's tensors beside its adapter by name; see `segp_ext.method.saved_tensors`."""
        frozen = {} if self.frozen is None else self.frozen.tensors()
        return named(self.statistics.tensors(), frozen, self.held.tensors() if len(self.held) else {})

    @torch.inference_mode(False)
    def restore(
        self,
        records: Sequence[ClassRecord],
        task_sizes: list[int],
        tensors: dict[str, Tensor],
        measured: dict[str, Any] | None = None,
    ) -> None:
        """Takes over a saved state.

        Args:
            records: all classes learnt, in order.
            task_sizes: number of classes of each task learnt.
            tensors: the tensors that `tensors` gave, and the adapter's tensors.
            measured: plain values of `calibration`; None without one.

        Raises:
            KeyError: if there are no prototypes.
            ValueError: if they do not fit together, or two names read the same.
            RuntimeError: while the learner learns, in another thread.
        """
        saved = taken_apart(tensors)
        names = [record.name for record in records]
        device, width = self.backbone.device, self.backbone.raw_dim
        check_prototypes(saved.statistics["prototypes"], names, width)
        if (self.frozen is not None) != bool(saved.frozen):
            raise ValueError(
                f"prototypes.frozen_head is {str(self.frozen is not None).lower()}, but tensors of such a head are "
                f"{'there' if saved.frozen else 'missing'}"
            )
        if sum(task_sizes) != len(names):
            raise ValueError(f"task_sizes must add up to {len(names)} classes; got {task_sizes}")
        if (counted := sizes_of_tasks(records, len(task_sizes))) != list(task_sizes):
            raise ValueError(f"task_sizes must be {counted}, as the classes name their tasks; got {task_sizes}")
        prompts(self.backbone, self.config.template, names, {record.name: record.wording for record in records})
        statistics, frozen = self._new_statistics(device, self.config), self._new_frozen(device)
        statistics.restore(saved.statistics)
        if frozen is not None:
            check_prototypes(saved.frozen["prototypes"], names, width)
            frozen.restore(saved.frozen)
        held = HeldBack.of(saved.held, len(names), statistics.prototypes)
        calibration = calibration_of(measured)
        with self._changing():
            self.backbone.load_adapter_state(saved.adapter)
            self.statistics, self.frozen, self.held = statistics, frozen, held
            self.records, self.task_sizes = tuple(records), list(task_sizes)
            self.calibration = calibration
            self._text = MadeOnce()


@contextmanager
def restored_on_failure(backbone: Backbone) -> Iterator[None]:
    """Puts the adapter back as it was if a change of the learner fails or is interrupted."""
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
