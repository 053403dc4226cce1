"""TorchScript archives, as OpenAI published its weights: the tensors are read, and the code in them is not run.

`torch.jit.load` runs what an archive says. Here a pickle may use the few names that tensors need, and no others.
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

from segp_ext.runtime.foreign_pickle import Known, refuse_name

_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's archives keep beside their weights."""
_SMALL = 16_000_000
"""Most bytes, unpacked, of one entry of code or of the pickle."""


def is_archive(path: Path) -> bool:
    """Whether a file is a TorchScript archive, which holds code beside its tensors, as a state dict does not."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def read_archive(path: Path) -> dict[str, Tensor]:
    """Reads the parameters and buffers of an archive by their dotted names, in float32.

    Raises:
        Exception: of many kinds, for a damaged file and for one that asks for more than a model's tensors.
    """
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
    # Not every attribute is a weight: OpenAI's archives keep an attention mask, say.
    return {
        name: tensor.float()
        for name, tensor in found.items()
        if name not in _NOT_WEIGHTS and (not declared or name.rpartition(".")[2] in declared)
    }


class _Module:
    """Stands for any class that an archive names: keeps the attributes that a pickle sets, and does nothing."""

    def __init__(self) -> None:
        self.attributes: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise pickle.UnpicklingError("a module whose state is no dict by name")
        self.attributes = state


_DTYPES = {
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
"""The dtype of a storage's numbers, by the name of its class."""


def _tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], requires_grad: bool, hooks: Any
) -> Tensor:
    """Makes a tensor; refuses one that asks for more numbers than its storage has, before memory is taken."""
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
    ("collections", "OrderedDict"): _nothing,  # a tensor's hooks, of which there are none
    **{
        ("torch.jit._pickle", name): _first
        for name in ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")
    },
}
"""The functions that a pickle may call, by module and name."""


# Python's own unpickler, as the one in C takes memory for any memo index.
class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined]
    """Reads an archive's pickle, and the storages that it asks for."""

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
    """Reads an entry that may be compressed, and is small in every sound archive: code, or the pickle without its tensors."""
    entry = archive.getinfo(name)
    if entry.file_size > _SMALL:
        raise pickle.UnpicklingError(f"{name} has {entry.file_size / 1e6:.0f} MB, where {_SMALL / 1e6:.0f} are plenty")
    return archive.read(entry)


def _stored(archive: zipfile.ZipFile, name: str) -> bytes:
    """Reads an entry with numbers, which sound archives do not compress: it takes no more memory than the file's size."""
    entry = archive.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED:
        raise pickle.UnpicklingError(f"{name} is compressed")
    return archive.read(entry)


def _tensors(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of a module and of the modules in it, by dotted names that begin with `prefix`."""
    if not isinstance(module, _Module):
        raise ValueError(f"it holds a {type(module).__name__}, not a model")
    for name, value in module.attributes.items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
