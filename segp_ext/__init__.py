"""Continual learning with CLIP through semantic-geometry preservation (SeGP-CL, arXiv 2603.12055).

Each public name loads its module on first use, so `import segp_ext` costs little beyond the import of torch.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.3.0.dev0"

COMMANDS = {
    "train": "learn a data set task after task, and see the table",
    "compare": "run several methods and seeds, and compare them",
    "new": "make a learner, and let it learn the classes of a folder",
    "learn": "let a learner learn the new classes of a folder",
    "predict": "name the classes of images with what was learnt",
    "classes": "list, rename, remove and merge the classes of a learner",
    "evaluate": "measure what was learnt on a folder of labelled images",
    "suspects": "list images of a folder whose labels may be wrong",
    "serve": "answer over HTTP, with a page for people",
    "export": "write what was learnt for use without this package",
    "doctor": "look for what is wrong with an installation or a data set",
}
"""Sub-commands of `segp`, each with its meaning. The module `segp_ext.NAME` holds its `main(argv) -> exit status`."""

WAIT_POLICY = "OMP_WAIT_POLICY", "PASSIVE"
"""Variable that commands set before torch is imported. Threads that wait by spinning slow other processes on the same cores a lot."""

if sys.argv[:1] == ["-m"]:  # `python -m` begins, and torch is not there yet
    os.environ.setdefault(*WAIT_POLICY)
    _asked = "".join(sys.orig_argv[-len(sys.argv) :][:1])  # the name that stood after -m
    if _asked.startswith(f"{__name__}.") and _asked.removeprefix(f"{__name__}.") not in [*COMMANDS, "__main__"]:
        _listed = "".join(f"\n  python -m {__name__}.{name:9} {meaning}" for name, meaning in COMMANDS.items())
        print(f"error: {_asked} is no command; commands:{_listed}", file=sys.stderr)
        sys.exit(2)

if TYPE_CHECKING:
    from . import ops, reference
    from .clip.pretrained import load_clip
    from .clip.wording import Wording
    from .config import Config, MethodConfig
    from .config.methods import add_method
    from .method.learner import SeGPCL
    from .ops._native import build_info
    from .run.run import run_config
    from .run.settings import load_config
    from .serving.exporting import export_learner

# Public name -> the module that defines it; None if the name is a module itself.
_LAZY: dict[str, str | None] = {
    "ops": None,
    "reference": None,
    "build_info": "ops._native",
    "export_learner": "serving.exporting",
    "Config": "config",
    "MethodConfig": "config",
    "SeGPCL": "method.learner",
    "Wording": "clip.wording",
    "add_method": "config.methods",
    "load_clip": "clip.pretrained",
    "load_config": "run.settings",
    "run_config": "run.run",
}

__all__ = [
    "Config",
    "MethodConfig",
    "SeGPCL",
    "Wording",
    "__version__",
    "add_method",
    "build_info",
    "export_learner",
    "load_clip",
    "load_config",
    "ops",
    "reference",
    "run_config",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = _LAZY[name]
    if module is None:
        value: Any = importlib.import_module(f".{name}", __name__)
    else:
        value = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
