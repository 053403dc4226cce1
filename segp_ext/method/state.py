"""What a learner is made of: its model, settings, classes, prototypes and head, and how they are copied, moved and restored."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor

from segp_ext.clip.backbone import Backbone
from segp_ext.config import MethodConfig, from_dict, with_method
from segp_ext.data.images import Reader
from segp_ext.method.checks import prompts
from segp_ext.method.encoding import encode_prompts
from segp_ext.method.heads import Head
from segp_ext.method.made_once import MadeOnce
from segp_ext.method.named_parts import check_parts, head_of, source_of
from segp_ext.method.saved_tensors import check_prototypes, named, taken_apart
from segp_ext.method.sources import Source
from segp_ext.method.state_lock import StateLock
from segp_ext.runtime.device import usable_device
from segp_ext.runtime.process_state import out_of_inference_mode, without_autocast
from segp_ext.runtime.processes import Processes


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
        self._names: tuple[str, ...] = ()
        self.task_sizes: list[int] = []
        self.prototypes = torch.zeros(0, backbone.raw_dim, device=backbone.device, dtype=backbone.dtype)
        self.untransferred: Tensor | None = None
        self._reset_what_was_made()
        self.head = self._new_head(backbone.device)
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

    @property
    def class_names(self) -> tuple[str, ...]:
        """All classes learnt, in order."""
        return self._names

    @class_names.setter
    def class_names(self, names: Any) -> None:
        raise AttributeError(
            "class_names cannot be set: prompts and prototypes were learnt under these names. Learn anew under others, or replace names in "
            "what predict returns"
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
    def tokens(self) -> Tensor:
        """Prompts of all classes learnt, token ids `[C, L]`; that they differ was checked when they were learnt."""
        return self.backbone.tokenize([self.config.template.replace("{}", name) for name in self._names])

    def own_text(self) -> Tensor:
        """Encodes the prompts of all classes learnt with the model in training, whose adapter must not be merged: `[C, De]`."""
        if not self._names:
            return torch.zeros(0, self.backbone.embed_dim, device=self.backbone.device, dtype=self.backbone.dtype)
        limit = self.config.training.prompts_per_pass
        made_from = self.mark(), self.config.template
        return self._text.get(made_from, lambda: encode_prompts(self.backbone, self.tokens, limit))

    def mark(self) -> Any:
        """Returns a value that differs between two states in which the learner predicts otherwise, its settings left out."""
        return self.backbone.version(), id(self.prototypes), self.prototypes._version, self._names

    def _new_head(self, device: torch.device) -> Head:
        return head_of(self.config)(self.backbone.raw_dim, device, self.config)

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
            self._names, self.task_sizes = (), []
            self.prototypes, self.untransferred = self.prototypes[:0], None
            self.head = self._new_head(self.backbone.device)

    @torch.inference_mode(False)
    def copy(self) -> Self:
        """Returns a learner of its own with the present state. Both share weights that no adapter changes.

        Raises:
            RuntimeError: while the learner learns, in another thread.
        """
        with self._lock.held():
            twin = copy.copy(self)
            twin.backbone, twin.head = self.backbone.copy(), copy.deepcopy(self.head)
            twin.config = copy.deepcopy(self.config)
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
            backbone, head = self.backbone.copy().to(chosen), self._new_head(chosen)
            backbone.stopwatch = self.backbone.stopwatch
            head.restore(self.head.state())
            untransferred = None if self.untransferred is None else self.untransferred.to(chosen)
            self.prototypes = self.prototypes.to(chosen)
            self.backbone, self.head, self.untransferred = backbone, head, untransferred
            self._text = MadeOnce()
        return self

    def tensors(self) -> dict[str, Tensor]:
        """Returns the learner's tensors beside its adapter by name: prototypes, and the head's tensors in float64."""
        return named(self.prototypes, self.head)

    @torch.inference_mode(False)
    def restore(self, class_names: list[str], task_sizes: list[int], tensors: dict[str, Tensor]) -> None:
        """Takes over a saved state.

        Args:
            class_names: all classes learnt, in order.
            task_sizes: number of classes of each task learnt.
            tensors: the tensors that `tensors` gave, and the adapter's tensors.

        Raises:
            KeyError: if there are no prototypes.
            ValueError: if they do not fit together, or two names read the same.
            RuntimeError: while the learner learns, in another thread.
        """
        prototypes, of_head, adapter = taken_apart(tensors, self.head)
        check_prototypes(prototypes, class_names, self.backbone.raw_dim)
        if sum(task_sizes) != len(class_names):
            raise ValueError(f"task_sizes must add up to {len(class_names)} classes; got {task_sizes}")
        prompts(self.backbone, self.config.template, class_names)  # refuses names that read the same
        with self._changing():
            self.backbone.load_adapter_state(adapter)
            self.head.restore(of_head)
            self.prototypes = prototypes.to(self.backbone.device, self.backbone.dtype)
            self._names, self.task_sizes = tuple(class_names), list(task_sizes)
            self._text = MadeOnce()
