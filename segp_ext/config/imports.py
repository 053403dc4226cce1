"""Runs the Python files that `--import` names. They may add methods and hold parts of the user's own."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path


def import_files(files: Sequence[str]) -> None:
    """Runs Python files as modules under their own names: `mine.py` becomes `mine`. A file that ran before does not run again.

    A file's folder joins the end of `sys.path`, so that the file can import modules beside it, then and later.

    Args:
        files: paths of the files.

    Raises:
        ValueError: naming the file, if it is missing, fails, or has the name of another module.
    """
    for name in files:
        file = Path(name).resolve()
        module = file.stem
        if not file.is_file():
            raise ValueError(f"--import {name}: no such file")
        there = sys.modules.get(module)
        if there is not None and Path(getattr(there, "__file__", None) or "").resolve() == file:
            continue
        found = None if there is not None else importlib.util.find_spec(module)
        if there is not None or (found is not None and Path(found.origin or "").resolve() != file):
            raise ValueError(f"--import {name}: another module is named {module}; rename the file")
        spec = importlib.util.spec_from_file_location(module, file)
        if spec is None or spec.loader is None:
            raise ValueError(f"--import {name}: not a Python file")
        made = importlib.util.module_from_spec(spec)
        sys.modules[module] = made
        folder = str(file.parent)
        if folder not in sys.path:
            sys.path.append(folder)  # not first, or its files could hide installed modules
        try:
            spec.loader.exec_module(made)
        except Exception as error:
            del sys.modules[module]
            raise ValueError(f"--import {name}: {type(error).__name__}: {error}") from error
