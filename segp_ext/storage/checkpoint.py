"""Writes and reads the checkpoint of a learner: a sealed folder (`segp_ext.storage.sealed`) of safetensors and JSON.

Nothing is ever unpickled.

- `learner.safetensors`: the prototypes; `learner.json`: configuration, backbone, classes.
- `adapter_model.safetensors`, `adapter_config.json`: the adapter as PEFT writes it. `peft.PeftModel.from_pretrained(model, folder)` opens
  it on the open_clip model of the same weights. Where `adapter_config.json` has the entry "segp_ext.clip.towers.make_adaptable", PEFT
  cannot adapt that model as it is: call this function on the model first. This holds for adapters of output projections in open_clip's
  transformers, of open_clip's custom attention, and of EVA's packed projections.
- `backbone.safetensors`, where the backbone's weights are saved along, so that the folder stands alone. `open_clip_config.json` and
  the tokenizer's files, where there are any, then say which model it is. Only a text tower that transformers configures by name still
  comes from the cache of Hugging Face.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import segp_ext
from segp_ext.clip.backbone import Backbone
from segp_ext.clip.model_names import check_loadable, model_in_words
from segp_ext.clip.own_files import own_files
from segp_ext.config import MethodConfig, Precision, ResizeMode, from_dict
from segp_ext.storage import sealed
from segp_ext.storage.class_records import ClassRecord, older_records, read_records

FORMAT = 6
"""The format that this version writes."""
READABLE = (4, 5, FORMAT)
"""The formats that this version reads. 4 (segp_ext 0.2) kept the names of classes alone; 5 had no wordings of classes."""
EARLIER_FORMAT = 3
"""The format of segp_ext 0.1, whose method differed from the paper's."""
OTHER_METHOD = (
    "whose method differed from the paper's: cross-entropy over all seen classes, other layers adapted, other prototypes and transfer. "
    "It cannot be read as the paper's method; use segp_ext 0.1.0 for it, or learn anew"
)
"""How the method of segp_ext 0.1 differed, and what to do about it; for messages."""
NOT_SAVED = "this learner cannot be saved, as it could not be loaded again"
"""The beginning of an error of `save`."""
_TENSORS, _STATE = "learner.safetensors", "learner.json"
_FLOAT64 = re.compile(r"(frozen\.)?(head\..*|lengths|counts)|held\.label")
"""Names of tensors that are float64 whatever the model computes in."""
_ADAPTER, _ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True)
class LearnerState:
    """The state of a learner, as a checkpoint keeps it.

    Attributes:
        backbone: the backbone, with its adapter.
        config: the learner's settings.
        records: the classes of all tasks learnt, in order.
        task_sizes: number of classes of each task, 0 for one whose classes were all removed.
        tensors: what the learner has learnt beside its adapter, by name.
        measured: what images held back tell, as plain values; None if none were.
    """

    backbone: Backbone
    config: MethodConfig
    records: tuple[ClassRecord, ...]
    task_sizes: list[int]
    tensors: dict[str, Tensor]
    measured: dict[str, Any] | None = None


def check_place(path: Path) -> None:
    """Refuses a folder that no learner can be saved in.

    Raises:
        FileExistsError: as `save_learner`.
    """
    sealed.check_replaceable(path, _STATE, "a checkpoint")


def save_learner(
    learner: LearnerState,
    path: Path,
    check: Callable[[SavedLearner], None],
    extra: Mapping[str, bytes] | None = None,
    with_weights: bool = False,
) -> None:
    """Writes a learner to a folder, and replaces a checkpoint that is there.

    Args:
        learner: the learner's state.
        path: the folder.
        check: is given what `read_learner` will read, before the new checkpoint takes its place. It raises ValueError if no learner can
            be made of it.
        extra: contents of more files to be sealed along, by name.
        with_weights: whether to save the backbone's weights too.

    Raises:
        FileExistsError: if `path` is neither a checkpoint nor an empty folder, or is the folder that this process works in.
        ValueError: if the learner could not be read again, or its model could not be made again. A checkpoint that was there stays.
    """
    from safetensors.torch import save

    path = path.resolve()
    check_place(path)
    backbone = learner.backbone
    others = backbone.has_other_weights()
    if others and not with_weights:
        raise ValueError(
            f"{NOT_SAVED}: its backbone's weights are others than those of {model_in_words(backbone.name, backbone.pretrained)}, which "
            "load would look for. save(..., with_weights=True) puts them into the folder"
        )
    if not with_weights:
        try:
            check_loadable(backbone.name, backbone.pretrained, backbone.place)
        except ValueError as error:
            raise ValueError(f"{NOT_SAVED}: {error}") from error
    config = {f.name: getattr(learner.config, f.name) for f in dataclasses.fields(MethodConfig)}
    state = {
        "format": FORMAT,
        "version": segp_ext.__version__,
        "backbone": _facts_of(backbone, others),
        "config": dataclasses.asdict(MethodConfig(**config)),
        "classes": [dataclasses.asdict(record) for record in learner.records],
        "task_sizes": learner.task_sizes,
        **({} if learner.measured is None else {"measured": learner.measured}),
    }
    files = {
        **(extra or {}),
        **(own_files(backbone) if with_weights else {}),
        _TENSORS: save({name: tensor.contiguous().cpu() for name, tensor in learner.tensors.items()}),
        _STATE: json.dumps(state, indent=1).encode(),
    }
    adapter = backbone.adapter_state()
    if adapter:
        files[_ADAPTER] = save({name: tensor.contiguous().cpu() for name, tensor in adapter.items()})
        files[_ADAPTER_CONFIG] = json.dumps(backbone.adapter_config(), indent=1, sort_keys=True).encode()

    def check_files(path: Path) -> None:
        try:
            check(_read_learner(path))
        except ValueError as error:
            text = str(error.__cause__ or error)
            raise ValueError(text if text.startswith(NOT_SAVED) else f"{NOT_SAVED}: {text}") from error

    sealed.seal(path, files, check_files)


@dataclass
class BackboneFacts:
    """What `learner.json` says of the backbone that a learner stands on.

    Attributes:
        name, pretrained, resize_mode, precision, quick_gelu: arguments of `load_clip`. Weights at another place may lack the file that
            told `quick_gelu`.
        weights: hash of the weights (`Backbone.weights_hash`).
        place: absolute path of the local file or folder from which the weights were read; None for others. Earlier versions did not
            write it.
        others: whether the weights differ from the named ones; the checkpoint then holds them.
    """

    name: str = ""
    pretrained: str | None = None
    resize_mode: ResizeMode = "shortest"
    precision: Precision = "fp32"
    weights: str = ""
    place: str | None = None
    quick_gelu: bool | None = None
    others: bool = False


def _facts_of(backbone: Backbone, others: bool) -> dict[str, Any]:
    """The entries of `BackboneFacts` as they are written."""
    return {
        "name": backbone.name,
        "pretrained": backbone.pretrained,
        "resize_mode": backbone.resize_mode,
        "precision": backbone.precision,
        "weights": backbone.weights_hash(),
        "place": backbone.place,
        "quick_gelu": backbone.quick_gelu,
        **({"others": True} if others else {}),
    }


@dataclass
class SavedLearner:
    """The content of a checkpoint, read and checked.

    Attributes:
        path: the folder that it was read from.
        files: checksums of the files in the folder, by name.
        backbone: which backbone the learner stands on.
        config: the learner's settings.
        records, task_sizes, tensors, measured: arguments of `SeGPCL.restore`.
    """

    path: Path
    files: dict[str, str]
    backbone: BackboneFacts
    config: MethodConfig
    records: tuple[ClassRecord, ...]
    task_sizes: list[int]
    tensors: dict[str, Tensor]
    measured: dict[str, Any] | None

    def check_weights(self, backbone: Backbone) -> None:
        """Raises ValueError if the weights of `backbone` differ from the weights that the learner was trained on."""
        if backbone.weights_hash() != self.backbone.weights:
            raise ValueError(
                f"cannot load the checkpoint {self.path}: {model_in_words(backbone.name, backbone.pretrained)} is not the model it was "
                "trained on; the weights differ"
            )


def read_learner(path: Path) -> SavedLearner:
    """Reads and checks the checkpoint in a folder; no model is built.

    Raises:
        FileNotFoundError: if there is no checkpoint at `path`.
        ValueError: naming the file, if one is damaged or does not fit.
    """
    path = path.resolve()  # the link `latest` may point elsewhere while this reads
    with sealed.alone_beside(path, to_read=True):
        path = sealed.recovered(path)
        if not (path / _STATE).is_file():
            raise FileNotFoundError(f"no checkpoint at {path}: {_STATE} is not there")
        return _read_learner(path)


def is_earlier(path: Path) -> bool:
    """Whether segp_ext 0.1, which had another method, saved the learner in this folder."""
    try:
        return sealed.read_json(path / _STATE)["format"] == EARLIER_FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _read_learner(path: Path) -> SavedLearner:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        files = sealed.check_seal(path)
        for name in (_STATE, _TENSORS):
            if name not in files:
                raise ValueError(f"{name} is no part of it: {sealed.SUMS} does not list it")
        state = sealed.read_json(path / _STATE)
        if state.get("format") not in READABLE:
            if state.get("format") == EARLIER_FORMAT:
                raise ValueError(f"it was made by segp_ext 0.1 (format {EARLIER_FORMAT}), {OTHER_METHOD}")
            made_by = f" of segp_ext {state['version']}" if "version" in state else ""
            raise ValueError(
                f"its format is {state.get('format')!r}{made_by}; this version reads {READABLE[0]} to {FORMAT}"
            )
        tensors = {
            name: tensor
            for file in (_TENSORS, _ADAPTER)
            if file in files
            for name, tensor in load_file(path / file).items()
        }
        whole = torch.float64 if state["backbone"].get("precision") == "fp64" else torch.float32
        for name, tensor in tensors.items():
            expected = torch.float64 if _FLOAT64.fullmatch(name) else whole
            if tensor.dtype != expected:
                raise ValueError(f"tensor {name} must be {expected}; got {tensor.dtype}")
            if not tensor.isfinite().all():
                raise ValueError(f"tensor {name} has values that are not finite")
        sizes = state["task_sizes"]
        if not isinstance(sizes, list) or not all(type(size) is int and size >= 0 for size in sizes):
            raise ValueError("task_sizes must be a list of whole numbers, none negative")
        records = read_records(state["classes"]) if state["format"] > 4 else older_records(state["class_names"], sizes)
        backbone = from_dict(BackboneFacts, state["backbone"], "backbone.")
        config = from_dict(MethodConfig, state["config"])
        return SavedLearner(path, files, backbone, config, records, sizes, tensors, state.get("measured"))
    except KeyError as error:
        raise ValueError(f"cannot load the checkpoint {path}: {_STATE} has no entry {error}") from error
    except (TypeError, ValueError, SafetensorError) as error:
        raise ValueError(f"cannot load the checkpoint {path}: {error}") from error
