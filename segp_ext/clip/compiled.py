"""Encoders under `torch.compile`: each kind of pass compiled by itself, and a count of the passes that ran so."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor


@dataclass
class Passes:
    """How many passes of compiled encoders there were.

    Attributes:
        total: all of them.
        eager: those that torch ran as they are, because it could not, or would not any more, compile them.
    """

    total: int = 0
    eager: int = 0


def _run(tower: Any, passes: Passes, inputs: Tensor) -> Any:
    if not torch.compiler.is_compiling():  # this line itself runs, so nothing is compiled
        passes.eager += 1
    return tower(inputs)


class Compiler:
    """Compiles a tower's passes.

    torch keeps at most 8 variants of a function's code and runs what comes after them as it is. Here every kind of pass (with a gradient
    or not, adapter merged or not, ...) has code of its own, whose variants differ by the batch alone: one image, or any number.

    Copies of a model pass through the code that was compiled for the first of them, as weights are among its inputs.

    Args:
        axes: how many leading axes of the inputs change from pass to pass.
    """

    def __init__(self, axes: int) -> None:
        self._axes = axes
        self._by_kind: dict[Hashable, Callable[..., Any]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Compiler, (self._axes,)  # what is compiled stays in its process

    def run(self, tower: Any, passes: Passes, inputs: Tensor, view: str) -> Any:
        """Passes `inputs` through `tower`, of which `view` says what it is made of; counted in `passes`."""
        kind = (view, torch.is_grad_enabled(), inputs.requires_grad)
        function = self._by_kind.get(kind)
        if function is None:
            own = FunctionType(_run.__code__.replace(), _run.__globals__)  # torch's cache belongs to a code object
            function = self._by_kind.setdefault(kind, torch.compile(own))
        torch._dynamo.maybe_mark_dynamic(inputs, tuple(range(self._axes)))
        passes.total += 1
        return function(tower, passes, inputs)
