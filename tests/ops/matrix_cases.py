"""The three ops on matrices as cases for tests: their arguments, their numbers, their tolerances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from op_samples import MatrixSample, generator, matrix_samples
from torch import Tensor

import segp_ext

needs_native = pytest.mark.skipif(
    segp_ext.build_info()["ops_path"] != "native", reason="the native library is not loaded; the eager path runs"
)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
SAMPLES = [sample.name for sample in matrix_samples()]


@dataclass(frozen=True)
class Op:
    """An op on a sample.

    Attributes:
        arguments: a sample's tensors in the op's order; the first `differentiable` of them have gradients.
        settings: its numbers.
    """

    name: str
    arguments: Callable[[MatrixSample], tuple[Tensor, ...]]
    settings: dict[str, float]
    differentiable: int

    def outputs(self, module: Any, arguments: tuple[Tensor, ...], **settings: float) -> tuple[Tensor, ...]:
        result = getattr(module, self.name)(*arguments, **{**self.settings, **settings})
        return result if isinstance(result, tuple) else (result,)

    def everything(self, module: Any, arguments: tuple[Tensor, ...], **settings: float) -> list[Tensor]:
        """Outputs and gradients; the incoming gradient is not 1 and differs from row to row."""
        places = self.places
        arguments = tuple(t.clone().requires_grad_() if i in places else t for i, t in enumerate(arguments))
        outputs = self.outputs(module, arguments, **settings)
        if not places:
            return list(outputs)
        (loss,) = outputs
        weight = torch.linspace(0.5, 2, loss.numel(), dtype=loss.dtype, device=loss.device).reshape(loss.shape)
        return [loss.detach(), *torch.autograd.grad((loss * weight).sum(), [arguments[i] for i in places])]

    @property
    def places(self) -> range:
        return range(self.differentiable)


OPS = [
    Op("dual_target_loss", lambda s: (s.rows, s.other_rows, s.classes, s.other_classes, s.target),
       {"logit_scale": 30.0, "visual_weight": 0.7}, 2),
    Op("geometry_distill", lambda s: (s.rows, s.classes, s.other_rows, s.other_classes),
       {"logit_scale": 30.0, "temperature": 3.0}, 2),
    Op("prototype_drift", lambda s: (s.classes, s.rows, s.other_rows), {"temperature": 0.1}, 0),
]  # fmt: skip
each_op = pytest.mark.parametrize("op", OPS, ids=[op.name for op in OPS])


def sample(name: str, dtype: torch.dtype, device: str = "cpu") -> MatrixSample:
    s = next(s for s in matrix_samples(dtype) if s.name == name)
    fields = ("rows", "other_rows", "classes", "other_classes", "target")
    return MatrixSample(name, *(getattr(s, field).to(device) for field in fields))


def larger(op: Op, dtype: torch.dtype, device: str = "cpu", *, is_even: bool = True) -> tuple[Tensor, ...]:
    """Arguments of sizes that CUDA gives to matrix products, as of no other sample.

    If not `is_even`, rows are no whole vectors, one is zero and, where the dtype has room, two have squares beyond it.
    """
    counts = (1200, 1200, 40, 40) if op.name == "prototype_drift" else (40, 40, 1200, 1200)
    random = generator(11)
    made = [torch.randn(n, 64 if is_even else 63, generator=random) for n in counts]
    if not is_even:
        made[0][3] = 0
        for matrix in (made[0], made[2]):
            matrix[5] *= 1e2 if dtype == torch.float16 else 1e25
    target = torch.randint(counts[2], (counts[0],), generator=random).to(device)
    return op.arguments(MatrixSample("larger", *(matrix.to(device, dtype) for matrix in made), target))


def exact(arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(t.cpu().double() if t.is_floating_point() else t.cpu() for t in arguments)


def distance(got: Tensor, wanted: Tensor) -> float:
    """Relative L2 distance: rounding of entries that happen to vanish does not count."""
    if wanted.numel() == 0:
        return 0.0
    return float((got.cpu().double() - wanted).norm() / wanted.norm().clamp_min(1e-30))


# Logits of 30 times (a tenth, a third of) a cosine in float32: some ten units in the last place. Half types compute
# in float32 and round the gradients once, to half a unit in the last place, and on CUDA the weights before them.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-9, torch.float16: 2**-11 + 2e-5, torch.bfloat16: 2**-8 + 2e-5}
