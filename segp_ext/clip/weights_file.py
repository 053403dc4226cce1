"""Weights files of any kind that people have, into an open_clip model; none of them can run anything.

Safetensors, state dicts (`torch.load(weights_only=True)`), NumPy archives of Big Vision, and TorchScript archives as OpenAI published
them. `torch.jit.load` runs what such an archive says; here its tensors are read and its code is not. Names may be open_clip's, also behind
what training scripts put in front of them, or those of a CLIP in transformers.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segp_ext.runtime import git_lfs
from segp_ext.runtime.foreign_pickle import Known, refuse_name
from segp_ext.runtime.progress import first_line

_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's archives keep beside their weights."""
_SMALL = 16_000_000
"""Bytes that one entry of code, or the pickle, may have unpacked."""
_POSITIONS = {
    "visual.positional_embedding": ("images of another size", 0),
    "positional_embedding": ("texts of another length", 0),
    "text.positional_embedding": ("texts of another length", 0),
}
"""Embeddings per place, which open_clip would stretch without a word to the number of places that the model has."""
_WRAPPERS = ("state_dict", "model")
"""Entries in which training scripts keep the weights among other things."""
_TRANSFORMERS = "text_model.embeddings.token_embedding.weight"
"""The name that tells a CLIP of transformers."""
_OF_TRANSFORMERS = {
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding": "conv1",
    "pre_layrnorm": "ln_pre",  # as transformers spells it
    "post_layernorm": "ln_post",
    "final_layer_norm": "ln_final",
    "encoder.layers": "transformer.resblocks",
}
"""open_clip's names of what a tower of transformers holds, by the beginnings of names there."""
_OF_BLOCKS = {
    "self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
}  # fmt: skip
"""The same within one of its blocks."""


def is_archive(path: Path) -> bool:
    """Whether a file is a TorchScript archive, which holds code beside its tensors, as a state dict does not."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def needs_quick_gelu(path: Path) -> bool | None:
    """Whether a file's weights were trained with QuickGELU; None if that is not known.

    OpenAI's archives were, and transformers' `config.json` beside a file says it.
    """
    if is_archive(path):
        return True
    try:
        settings = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
        if settings["model_type"] != "clip":
            return None
        towers = [settings.get(key) or {} for key in ("text_config", "vision_config")]
        return any(tower.get("hidden_act", "quick_gelu") == "quick_gelu" for tower in towers)  # transformers' default
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return None


def load_file(clip: torch.nn.Module, name: str, path: Path) -> None:
    """Loads a weights file into a model.

    Args:
        clip: an open_clip model; changed in place.
        name: its name, for messages.
        path: the file.

    Raises:
        ValueError: for a file that is damaged, holds no weights, or another model's.
    """
    from open_clip.factory import load_checkpoint

    archive = is_archive(path)
    try:
        if path.suffix in (".npz", ".npy"):
            load_checkpoint(clip, str(path))
            return
        state = _read_archive(path) if archive else _read_state(path)
    except Exception as error:  # damaged files fail in more ways than can be listed
        # What torch says of other pickles is that reading them all the same, with what they would run, is likely to succeed.
        torchs = isinstance(error, pickle.UnpicklingError) and not archive
        reason = "it is no file of tensors alone" if torchs else first_line(error)
        raise ValueError(
            f"could not read {str(path)!r} as weights of {name}: {reason}. Is the file whole, and a checkpoint?{git_lfs.hint_for(path)}"
        ) from error
    try:
        state = _with_own_names(state)
        fits = _why_not(clip, state)
    except (RuntimeError, ValueError) as error:
        fits = first_line(error)
    if fits is not None:
        raise ValueError(f"the weights {str(path)!r} do not fit {name}: {fits}")
    try:
        _load_state(clip, state)
    except Exception as error:
        lines = [_cut(line.strip()) for line in str(error).splitlines() if line.strip()]
        shown = (
            "; ".join(lines[1:4]).rstrip(".") + ("; ..." if len(lines) > 4 else "")
            if len(lines) > 1
            else first_line(error)
        )
        raise ValueError(f"the weights {str(path)!r} do not fit {name}: {shown}. Are they another model's?") from error


def _cut(line: str) -> str:
    """A line of `load_state_dict`'s complaint, which names every tensor, with the first three names."""
    head, colon, names = line.partition("state_dict: ")
    listed = names.rstrip(". ").split(", ")
    return line if len(listed) <= 3 else f"{head}{colon}{', '.join(listed[:3])} and {len(listed) - 3} more"


def _load_state(clip: Any, state: dict[str, Tensor]) -> None:
    """Loads a state dict as open_clip does a file's, but that nothing is stretched."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    state = convert_state_dict(clip, state)
    if "positional_embedding" in state and not hasattr(clip, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    state.pop("text.transformer.embeddings.position_ids", None)  # of older versions of transformers
    if getattr(clip, "logit_bias", None) is not None:
        state.setdefault("logit_bias", torch.zeros_like(clip.logit_bias))
    own = clip.state_dict()
    for key, tensor in state.items():
        if key in own and own[key].is_floating_point() and not tensor.is_floating_point():
            raise ValueError(f"{key} is {tensor.dtype}, as quantised weights are; floating-point ones are needed")
    for key in ("logit_scale", "logit_bias"):  # a number, or a vector of one
        if key in state and key in own and state[key].numel() == own[key].numel():
            state[key] = state[key].reshape(own[key].shape)
    clip.load_state_dict(state)


def _with_own_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a CLIP by open_clip's names, without what wrappers put in front of them.

    Raises:
        ValueError: if there are two models, or one of transformers that open_clip has no such model for.
    """
    state = {key.replace("_orig_mod.", ""): value for key, value in state.items()}  # torch.compile's, at any depth
    scales = ("logit_scale", "logit_bias")
    # A loss may have a scale too, with no model about it.
    weights = [key for key in state if key.split(".")[-1] not in scales]
    found = {key.removesuffix(scales[0]) for key in state if key.split(".")[-1] == scales[0]}
    found = {front for front in found if any(key.startswith(front) for key in weights)}
    # Attention may have a scale of its own, within the model.
    fronts = [front for front in found if not any(front.startswith(other) for other in found - {front})]
    if len(fronts) > 1:
        raise ValueError(
            f"they are of {len(fronts)} models, {', '.join(sorted(fronts))}; write the tensors of one to a file of their own"
        )
    for front in fronts:
        state = {key.removeprefix(front): value for key, value in state.items() if key.startswith(front)}
    return _from_transformers(state) if _TRANSFORMERS in state else state


def _from_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a `CLIPModel` of transformers by open_clip's names, in open_clip's layout."""
    named: dict[str, Tensor] = {}
    unknown = []
    for key, value in state.items():
        tower, _, rest = key.partition(".")
        front = {"text_model": "", "vision_model": "visual."}.get(tower)
        beginning = next((name for name in _OF_TRANSFORMERS if rest == name or rest.startswith(f"{name}.")), None)
        if key == "logit_scale":
            named[key] = value
        elif key in ("text_projection.weight", "visual_projection.weight"):
            named["text_projection" if tower == "text_projection" else "visual.proj"] = value.T
        elif rest == "embeddings.position_ids":
            continue  # 0, 1, 2, ...
        elif front is None or beginning is None:
            unknown.append(key)
        elif beginning == "encoder.layers":
            number, _, part = rest.removeprefix("encoder.layers.").partition(".")
            block = f"{front}transformer.resblocks.{number}."
            inner = next((name for name in _OF_BLOCKS if part.startswith(f"{name}.")), None)
            kind = part.rpartition(".")[2]
            if inner is not None:
                named[f"{block}{_OF_BLOCKS[inner]}.{kind}"] = value
            elif part == f"self_attn.q_proj.{kind}":
                parts = [state.get(f"{tower}.encoder.layers.{number}.self_attn.{one}_proj.{kind}") for one in "qkv"]
                if any(one is None for one in parts):
                    unknown.append(key)
                else:
                    named[f"{block}attn.in_proj_{kind}"] = torch.cat(parts)  # type: ignore[arg-type]
            elif part not in (f"self_attn.k_proj.{kind}", f"self_attn.v_proj.{kind}"):
                unknown.append(key)
        else:
            named[front + _OF_TRANSFORMERS[beginning] + rest.removeprefix(beginning)] = value
    if unknown:
        raise ValueError(
            f"they have the names of transformers, and {len(unknown)} of them no place in a CLIP of open_clip, as {unknown[0]}; give its "
            "weights in open_clip's own layout"
        )
    return named


def _why_not(clip: Any, state: dict[str, Tensor]) -> str | None:
    """What open_clip would pass over in silence, or stumble on without a reason, when it loads `state`."""
    if "logit_bias" in state and getattr(clip, "logit_bias", None) is None:
        return "they have a logit_bias, so a sigmoid loss trained them (SigLIP and its like); name such a model"
    own = clip.state_dict()
    for key, (what, axis) in _POSITIONS.items():
        if key in state and key in own and state[key].shape[axis] != own[key].shape[axis]:
            return (
                f"they are for {what} ({key} has {state[key].shape[axis]} places, the model's {own[key].shape[axis]}); name the model "
                "that they belong to"
            )
    return None


def _read_state(path: Path) -> dict[str, Tensor]:
    """A state dict's tensors, mapped into memory where the format allows it."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not tensors by name")
    if named := _named(content):
        return named
    within = [key for key, value in content.items() if isinstance(value, dict) and _named(value)]
    if len(within) == 1:
        return _named(content[within[0]])
    if within:
        raise ValueError(
            f"it holds {len(within)} sets of tensors, {', '.join(map(str, within))}; write one of them to a file of its own"
        )
    raise ValueError(f"it holds no tensors by name{f', only {_listed(content)}' if content else ''}")


def _named(content: dict[Any, Any]) -> dict[str, Tensor]:
    return {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}


def _listed(content: dict[Any, Any]) -> str:
    """The first names of a dict's entries."""
    return ", ".join(map(str, list(content)[:5])) + (", ..." if len(content) > 5 else "")


# -- TorchScript archives ------------------------------------------------------------------------------------------------------


class _Module:
    """Any class that an archive names: keeps what a pickle sets on it, and does nothing."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise pickle.UnpicklingError("a module whose state is no dict by name")
        self.attributes = state


_DTYPES = {  # by the class of storage that holds such numbers
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def _tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], requires_grad: bool, hooks: Any
) -> Tensor:
    """A tensor of an archive; one that asks for more numbers than its storage has is refused before memory is taken."""
    count = 1
    for length in size:
        count *= length
    if count > storage.numel():
        raise pickle.UnpicklingError(f"a tensor of {count} numbers in a storage of {storage.numel()}")
    return storage.as_strided(size, stride, offset)


def _first(value: Any, *_: Any) -> Any:
    return value


def _nothing(*_: Any) -> None:
    return None


_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("collections", "OrderedDict"): _nothing,  # a tensor's hooks, never any
    **{
        ("torch.jit._pickle", name): _first
        for name in ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")
    },
}


class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined]  # the one in C takes memory for any memo index
    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(_small(archive, f"{folder}/data.pkl")))
        self.archive, self.folder = archive, folder
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Module
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) not in _NAMES:
            raise refuse_name(module, name, "part of a model")
        return Known(_NAMES[module, name])

    def persistent_load(self, pid: Any) -> Tensor:
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"it asks for a {kind!r}")
        if key not in self._storages:
            name = f"{self.folder}/data/{key}"
            if self.archive.getinfo(name).file_size != count * dtype.itemsize:
                raise pickle.UnpicklingError(f"{name} does not hold {count} numbers of {dtype}")
            self._storages[key] = torch.frombuffer(bytearray(_stored(self.archive, name)), dtype=dtype)
        if self._storages[key].dtype != dtype:
            raise pickle.UnpicklingError(f"{key} is asked for as numbers of two types")
        return self._storages[key]


def _small(archive: zipfile.ZipFile, name: str) -> bytes:
    """An entry that may be compressed, and is small in every such archive: code, and the pickle without its tensors."""
    entry = archive.getinfo(name)
    if entry.file_size > _SMALL:
        raise pickle.UnpicklingError(f"{name} has {entry.file_size / 1e6:.0f} MB, where {_SMALL / 1e6:.0f} are plenty")
    return archive.read(entry)


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """An entry with numbers, which are not compressed in such archives: it takes no more memory than the file's size."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise pickle.UnpicklingError(f"{name} is compressed")
    return archive.read(entry)


def _read_archive(path: Path) -> dict[str, Tensor]:
    """Parameters and buffers of an archive by their dotted names, in float32."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        folder = names[0].split("/")[0]
        root = _Unpickler(archive, folder).load()
        sources = [_small(archive, entry).decode() for entry in names if "/code/" in entry and entry.endswith(".py")]
    lists = [text for source in sources for text in re.findall(r"__(?:parameters|buffers)__ = \[(.*?)\]", source)]
    declared = {name for text in lists for name in re.findall(r'"([^"]+)"', text)}
    found = dict(_tensors(root, ""))
    if sum(tensor.numel() for tensor in found.values()) > path.stat().st_size:
        raise pickle.UnpicklingError("its tensors share storages, and are more numbers than the file has bytes")
    # An attention mask, say, is an attribute of OpenAI's and no weight.
    return {
        name: tensor.float()
        for name, tensor in found.items()
        if name not in _NOT_WEIGHTS and (not declared or name.rpartition(".")[2] in declared)
    }


def _tensors(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if not isinstance(module, _Module):
        raise ValueError(f"it holds a {type(module).__name__}, not a model")
    for name, value in module.attributes.items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
