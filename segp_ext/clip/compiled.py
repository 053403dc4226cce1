"""Runs encoders under `torch.compile`: compiles each kind of pass by itself, and counts the passes that ran compiled."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import torch
from torch import Tensor


@dataclass
class Passes:
    """Counts passes of compiled encoders.

    Attributes:
        total: number of all passes.
        eager: number of passes that ran uncompiled, because torch could not compile them, or would not compile another variant.
    """

    total: int = 0
    eager: int = 0


def _run(tower: Any, passes: Passes, inputs: Tensor) -> Any:
    if not torch.compiler.is_compiling():  # compiled code does not contain this branch
        passes.eager += 1
    return tower(inputs)


class Compiler:
    """Compiles a tower's passes.

    torch keeps at most 8 variants of a function's code, and runs further ones uncompiled. So every kind of pass (with a gradient or not,
    adapter merged or not, ...) gets code of its own here. Its variants differ by the batch alone: one image, or any number.

    Copies of a model share the code that was compiled for the first of them, as weights are among the code's inputs.

    Args:
        axes: number of leading axes of the inputs whose length changes from pass to pass.
    """

    def __init__(self, axes: int) -> None:
        self._axes = axes
        self._by_kind: dict[Hashable, Callable[..., Any]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Compiler, (self._axes,)  # compiled code cannot leave its process

    def run(self, tower: Any, passes: Passes, inputs: Tensor, view: str) -> Any:
        """Runs a tower.

        Args:
            tower: the tower, a callable.
            passes: counts the pass.
            inputs: what the tower is called with.
            view: the state of the model's adapter; passes in another state are compiled anew.

        Returns:
            What the tower returns.
        """
        kind = (view, torch.is_grad_enabled(), inputs.requires_grad)
        function = self._by_kind.get(kind)
        if function is None:
            own = FunctionType(_run.__code__.replace(), _run.__globals__)  # torch's cache belongs to a code object
            function = self._by_kind.setdefault(kind, torch.compile(own))
        torch._dynamo.maybe_mark_dynamic(inputs, tuple(range(self._axes)))
        passes.total += 1
        return function(tower, passes, inputs)
