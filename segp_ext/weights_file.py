"""Weights files of any kind that people have, into an open_clip model; none of them can run anything.

Safetensors, state dicts (`torch.load(weights_only=True)`), NumPy archives of Big Vision, and TorchScript archives as OpenAI published
them. `torch.jit.load` runs what such an archive says; here its tensors are read and its code is not.
"""

from __future__ import annotations

import io
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segp_ext.foreign_pickle import Known, refuse_name
from segp_ext.progress import first_line

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


def is_archive(path: Path) -> bool:
    """Whether a file is a TorchScript archive, which holds code beside its tensors, as a state dict does not."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


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
        raise ValueError(
            f"could not read {str(path)!r} as weights of {name}: {first_line(error)}. Is the file whole, and a checkpoint?"
        ) from error
    fits = _why_not(clip, state)
    if fits is not None:
        raise ValueError(f"the weights {str(path)!r} do not fit {name}: {fits}")
    try:
        if archive:
            clip.load_state_dict(state)
        else:
            load_checkpoint(clip, str(path))
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        shown = (
            "; ".join(lines[1:4]).rstrip(".") + ("; ..." if len(lines) > 4 else "")
            if len(lines) > 1
            else first_line(error)
        )
        raise ValueError(f"the weights {str(path)!r} do not fit {name}: {shown}. Are they another model's?") from error


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
    if isinstance(content, dict) and "state_dict" in content:
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not tensors by name")
    named = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not named:
        raise ValueError("it holds no tensors by name")
    return {key.removeprefix("module."): value for key, value in named.items()}


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
