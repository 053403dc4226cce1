"""Checkpoints of a learner: a sealed folder (`segp_ext.storage.sealed`) of safetensors and JSON. Nothing is ever unpickled.

With its backbone's weights (`backbone.safetensors`) it stands alone: `open_clip_config.json` and the tokenizer's files, where it has
any, say what model they are of. Only what transformers configures by name (text towers of Hugging Face) still comes from its cache.

Files: `learner.safetensors` (prototypes), `learner.json` (configuration, backbone, classes), and the adapter as PEFT writes it
(`adapter_model.safetensors`, `adapter_config.json`). `peft.PeftModel.from_pretrained(model, folder)` opens it on the open_clip model of
the same weights. Where `adapter_config.json` has the entry "segp_ext.clip.towers.make_adaptable", PEFT cannot adapt that model as it
is: call this function on the model first. Such are adapters of output projections in open_clip's transformers, of its custom
attention, and of EVA's packed projections.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import segp_ext
from segp_ext.clip.backbone import Backbone
from segp_ext.clip.model_names import LOCAL, OWN, brings_weights, check_loadable, model_in_words, names_file
from segp_ext.clip.own_files import WEIGHTS, load_own, own_files
from segp_ext.clip.pretrained import load_clip
from segp_ext.config import MethodConfig, Precision, ResizeMode, from_dict
from segp_ext.storage import sealed

FORMAT = 4
EARLIER_FORMAT = 3
"""That of segp_ext 0.1, whose method differed from the paper's."""
WEIGHTS_VARIABLE = "SEGP_EXT_WEIGHTS"
"""Environment variable: a file or folder of weights, or the folder that holds it, for learners whose weights were moved."""
OTHER_METHOD = (
    "whose method differed from the paper's: cross-entropy over all seen classes, other layers adapted, other prototypes and transfer. "
    "It cannot be read as the paper's method; use segp_ext 0.1.0 for it, or learn anew"
)
"""What sets apart what segp_ext 0.1 made, and what to do about it."""
NOT_SAVED = "this learner cannot be saved, as it could not be loaded again"
"""How an error of `save` begins."""
_TENSORS, _STATE, _ADAPTER, _ADAPTER_CONFIG = (
    "learner.safetensors",
    "learner.json",
    "adapter_model.safetensors",
    "adapter_config.json",
)


def _is_empty(path: Path) -> bool:
    """Whether a folder holds nothing but hidden files, as file managers leave them."""
    return path.is_dir() and all(entry.name.startswith(".") for entry in path.iterdir())


@dataclass(frozen=True)
class LearnerState:
    """What a checkpoint keeps of a learner.

    Attributes:
        backbone: with its adapter.
        config: its settings.
        class_names, task_sizes: of all tasks learnt.
        tensors: what it has learnt beside its adapter, by name.
    """

    backbone: Backbone
    config: MethodConfig
    class_names: tuple[str, ...]
    task_sizes: list[int]
    tensors: dict[str, Tensor]


def save_learner(
    learner: LearnerState,
    path: Path,
    check: Callable[[SavedLearner], None],
    extra: Mapping[str, bytes] | None = None,
    with_weights: bool = False,
) -> None:
    """Writes a learner to the folder `path`, replacing a checkpoint that is there; `extra` are files to be sealed along.

    Args:
        learner: its state.
        path: the folder.
        check: is given what would be read again, before it takes its place, and raises ValueError if no learner can be made of it.
        extra: more files, by name.
        with_weights: whether to put the backbone's weights there too.

    Raises:
        FileExistsError: if `path` exists and is neither a checkpoint nor an empty folder.
        ValueError: if what was written could not be read again, or the model not made again; a checkpoint that was there stays.
    """
    from safetensors.torch import save

    path = path.resolve()
    if path.exists() and path.samefile("."):
        raise FileExistsError(
            f"{path} is the folder that this process works in, and cannot be replaced; save under a name in it"
        )
    with sealed.alone_beside(
        path, to_read=True
    ):  # while another process puts its own there, it is not there for a moment
        taken = path.exists() and not (path / _STATE).is_file() and not _is_empty(path)
    if taken:
        raise FileExistsError(f"{path} exists and is not a checkpoint; choose another place")
    backbone = learner.backbone
    others = backbone.has_other_weights()
    if others and not with_weights:
        raise ValueError(
            f"{NOT_SAVED}: its backbone's weights are others than those of {model_in_words(backbone.name, backbone.pretrained)}, for which "
            "load would look. save(..., with_weights=True) puts them into the folder"
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
        "backbone": {
            "name": backbone.name,
            "pretrained": backbone.pretrained,
            "resize_mode": backbone.resize_mode,
            "precision": backbone.precision,
            "weights": backbone.weights_hash(),
            "place": backbone.place,
            "quick_gelu": backbone.quick_gelu,
            **({"others": True} if others else {}),
        },
        "config": dataclasses.asdict(MethodConfig(**config)),
        "class_names": learner.class_names,
        "task_sizes": learner.task_sizes,
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
    """Which backbone a learner stands on; the arguments of `load_clip`, and the hash of its weights."""

    name: str = ""
    pretrained: str | None = None
    resize_mode: ResizeMode = "shortest"
    precision: Precision = "fp32"
    weights: str = ""
    place: str | None = (
        None  # whole path of the local file or folder of weights when they were read; earlier versions may lack it
    )
    quick_gelu: bool | None = None  # weights at another place may lack what told
    others: bool = False  # than name and pretrained tell; they are in the folder then


@dataclass
class SavedLearner:
    """What a checkpoint says, read and checked.

    Attributes:
        path: the folder it was read from.
        files: checksums of the files in it, by name.
        backbone: what the learner stood on.
        config: its settings.
        class_names, task_sizes, tensors: arguments of `SeGPCL.restore`.
    """

    path: Path
    files: dict[str, str]
    backbone: BackboneFacts
    config: MethodConfig
    class_names: list[str]
    task_sizes: list[int]
    tensors: dict[str, Tensor]

    def check_weights(self, backbone: Backbone) -> None:
        """Raises ValueError if `backbone` has other weights than the learner's had."""
        if backbone.weights_hash() != self.backbone.weights:
            raise ValueError(
                f"cannot load the checkpoint {self.path}: {model_in_words(backbone.name, backbone.pretrained)} is not the model it was "
                "trained on; the weights differ"
            )


def read_learner(path: Path) -> SavedLearner:
    """Reads and checks the checkpoint in the folder `path`; no model is built.

    Raises:
        FileNotFoundError: if there is no checkpoint at `path`.
        ValueError: naming the file, if one is damaged or does not fit.
    """
    path = path.resolve()  # `latest` may point elsewhere while this reads
    with sealed.alone_beside(path, to_read=True):
        path = sealed.recovered(path)
        if not (path / _STATE).is_file():
            raise FileNotFoundError(f"no checkpoint at {path}: {_STATE} is not there")
        return _read_learner(path)


def is_earlier(path: Path) -> bool:
    """Whether segp_ext 0.1 saved the learner in this folder, whose method was another."""
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
        if state.get("format") != FORMAT:
            if state.get("format") == EARLIER_FORMAT:
                raise ValueError(f"it was made by segp_ext 0.1 (format {EARLIER_FORMAT}), {OTHER_METHOD}")
            made_by = f" of segp_ext {state['version']}" if "version" in state else ""
            raise ValueError(f"its format is {state.get('format')!r}{made_by}; this version reads {FORMAT}")
        tensors = {
            name: tensor
            for file in (_TENSORS, _ADAPTER)
            if file in files
            for name, tensor in load_file(path / file).items()
        }
        whole = torch.float64 if state["backbone"].get("precision") == "fp64" else torch.float32
        for name, tensor in tensors.items():
            expected = torch.float64 if name.startswith("head.") else whole
            if tensor.dtype != expected:
                raise ValueError(f"tensor {name} must be {expected}; got {tensor.dtype}")
            if not tensor.isfinite().all():
                raise ValueError(f"tensor {name} has values that are not finite")
        names, sizes = state["class_names"], state["task_sizes"]
        if (
            not isinstance(names, list)
            or not all(isinstance(name, str) for name in names)
            or len({*names}) < len(names)
        ):
            raise ValueError("class_names must be a list of different texts")
        if not isinstance(sizes, list) or not all(type(size) is int and size > 0 for size in sizes):
            raise ValueError("task_sizes must be a list of positive integers")
        backbone = from_dict(BackboneFacts, state["backbone"], "backbone.")
        return SavedLearner(path, files, backbone, from_dict(MethodConfig, state["config"]), names, sizes, tensors)
    except KeyError as error:
        raise ValueError(f"cannot load the checkpoint {path}: {_STATE} has no entry {error}") from error
    except (TypeError, ValueError, SafetensorError) as error:
        raise ValueError(f"cannot load the checkpoint {path}: {error}") from error


def _possible_places(facts: BackboneFacts, path: Path) -> Iterator[Path]:
    """Where the local weights of a learner saved in `path` may lie now, the likeliest place first."""
    given = facts.name.removeprefix(LOCAL) if facts.name.startswith(LOCAL) else facts.pretrained or ""
    recorded = Path(facts.place or given)
    named = recorded.name
    own = os.environ.get(WEIGHTS_VARIABLE)
    if own:
        yield from (Path(os.path.expanduser(own)) / named, Path(os.path.expanduser(own)))
    yield from (path / named, path.parent / named, recorded, Path(os.path.expanduser(given)))
    yield Path(torch.hub.get_dir()) / "checkpoints" / named
    yield (
        Path(os.path.expanduser("~/.cache/clip")) / named
    )  # Path's own way fails for a user without a home, as in containers


def load_backbone(
    saved: SavedLearner, device: str, pretrained: str | None, compile: bool
) -> tuple[Backbone, str | None]:
    """The backbone that a learner stands on, from wherever its weights are; and where that is.

    Raises:
        FileNotFoundError: if they are nowhere; says where it looked.
        ValueError: if what is there has other weights.
    """
    facts = saved.backbone
    settings: Any = {"resize_mode": facts.resize_mode, "precision": facts.precision, "compile": compile}
    is_folder = facts.name.startswith(LOCAL)
    if pretrained is None and WEIGHTS in saved.files:
        backbone = load_own(saved.path, facts.name, facts.pretrained, facts.others, device, **settings)
        backbone.quick_gelu, backbone.place = facts.quick_gelu, facts.place
        saved.check_weights(backbone)
        return backbone, str(saved.path / WEIGHTS)
    if pretrained is not None:
        found = [pretrained]
    elif (
        facts.place is None
        and not is_folder
        and (facts.pretrained in (None, OWN) or not names_file(str(facts.pretrained)))
    ):
        found = [facts.pretrained]  # type: ignore[list-item]
    else:
        places = list(dict.fromkeys(place.absolute() for place in _possible_places(facts, saved.path)))
        found = [str(place) for place in places if (place.is_dir() if is_folder else place.is_file())]
        if not found:
            raise FileNotFoundError(
                f"the checkpoint {saved.path} stands on {model_in_words(facts.name, facts.pretrained)}, which is not there. "
                f"Looked for: {', '.join(map(str, places))}. Put them beside the checkpoint, or say where they are: SeGPCL.load(..., "
                f"pretrained=PLACE), --pretrained PLACE of segp_ext.predict, or the environment variable {WEIGHTS_VARIABLE}"
            )
    for number, place in enumerate(found, start=1):
        arguments = (f"{LOCAL}{place}", OWN) if is_folder else (facts.name, place)
        backbone = load_clip(*arguments, device, **settings, quick_gelu=facts.quick_gelu)
        try:
            saved.check_weights(backbone)
            return backbone, backbone.pretrained if brings_weights(facts.name) and not is_folder else place
        except ValueError:
            if number == len(found):
                raise
    raise AssertionError("there is a place or an error")
