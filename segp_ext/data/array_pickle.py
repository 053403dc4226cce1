"""Reads pickles of arrays, numbers, strings, lists and dicts, and runs nothing that a file asks for.

The unpickler knows a handful of names that NumPy writes, and maps each to a stand-in of this module. So a file's arguments are checked
before even NumPy's own reconstruction code sees them. Pickles of Python 2 (strings as bytes, `numpy.core`) and of NumPy 2
(`numpy._core`) both load.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from segp_ext.runtime.foreign_pickle import Known, refuse_name


class _DType:
    """A dtype as a pickle describes it: a code such as u1, then the byte order."""

    def __init__(self, code: str | bytes) -> None:
        self.code = _text(code)
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order, nested = _text(state[1]), state[2:5]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in nested):
            raise pickle.UnpicklingError(f"dtype state {state!r} does not describe plain numbers")
        self.order = order

    def numpy(self) -> np.dtype:
        dtype = np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]
        if dtype.kind not in "biuf":
            raise pickle.UnpicklingError(f"arrays of {dtype} are not read, only numbers")
        return dtype


class _Array:
    """An array as a pickle describes it: shape, dtype, memory order and bytes."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _filled(data, dtype, shape, "F" if fortran else "C").value

    def numpy(self) -> np.ndarray:
        if self.value is None:
            raise pickle.UnpicklingError("an array without contents")
        return self.value


def _text(value: str | bytes) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else value


def _refused(*arguments: Any) -> None:
    raise pickle.UnpicklingError("an array may not be made this way")


def _filled(data: Any, dtype: _DType, shape: tuple[int, ...], order: Any = "C") -> _Array:
    """Makes an array as pickles of protocol 5 do, and as the last step of older protocols does."""
    array = _Array()
    # A copy, because an array over a file's bytes cannot be written to.
    array.value = np.frombuffer(data, dtype.numpy()).reshape(shape, order=_text(order)).copy()  # type: ignore[call-overload]
    return array


def _latin1(text: str, encoding: str) -> bytes:
    """Decodes bytes as Python 3 writes them in protocol 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in encoding {encoding!r}")
    return text.encode("latin1")


_NAMES: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _refused,  # named as an argument of _reconstruct, never called
    ("numpy", "dtype"): lambda code, *flags: _DType(code),
    ("multiarray", "_reconstruct"): lambda kind, shape, code: _Array(),
    ("multiarray", "scalar"): lambda dtype, data: _filled(data, dtype, ()).numpy().item(),
    ("numeric", "_frombuffer"): _filled,
    ("_codecs", "encode"): _latin1,
}


class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined]  # the one in C takes memory for any memo index
    def find_class(self, module: str, name: str) -> Any:
        for package in ("numpy.core.", "numpy._core."):
            module = module.removeprefix(package)
        if (module, name) not in _NAMES:
            raise refuse_name(module, name, "part of an array")
        return Known(_NAMES[module, name])


def read_arrays(path: Path) -> dict[str, Any]:
    """Reads a pickled dict whose keys are strings, and whose values are arrays, numbers, strings and lists of these.

    Raises:
        OSError: if the file cannot be read.
        ValueError: naming the file, if it is damaged or holds anything else.
    """
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="bytes").load()
        if not isinstance(content, dict):
            raise pickle.UnpicklingError(f"it holds a {type(content).__name__}, not a dict")
        return {_text(key): _plain(value) for key, value in content.items()}
    except OSError:
        raise
    except Exception as error:  # a damaged pickle fails in more ways than can be listed
        raise ValueError(f"{path} is refused as a pickle of arrays: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, _Array):
        return value.numpy()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, (str, int, float)):
        return value
    raise pickle.UnpicklingError(f"it holds a {type(value).__name__}")
