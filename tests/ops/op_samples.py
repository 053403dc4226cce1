"""Inputs for the ops' tests: realistic, tiny, prime-sized, empty, non-contiguous, extreme, tied, duplicate, zero."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import segp_ext

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")),
]
EMULATED = segp_ext.build_info()["cuda_reason"] == "the emulation"
"""Whether the CUDA code runs in place of the processor's (tests/native/test_emulated_ops.py)."""


def is_cuda(device: str) -> bool:
    """Whether the CUDA kernels run."""
    return device == "cuda" or EMULATED


NORMALISED = {  # pixels in [0, 1] after CLIP's normalisation: the bounds differ by channel and are not round
    "step_size": [0.0056, 0.0057, 0.0054],
    "epsilon": [0.1168, 0.1200, 0.1138],
    "lower": [-1.7922625, -1.7520971, -1.4802198],
    "upper": [1.9303361, 2.0748837, 2.1458971],
}
PAPER = {"step_size": 1.5e-3, "epsilon": 4 / 255}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass
class DpgdSample:
    name: str
    x: Tensor
    grad: Tensor
    seed: Tensor
    bounds: dict[str, Any] = field(default_factory=lambda: dict(PAPER))

    def to(self, device: str) -> DpgdSample:
        return DpgdSample(self.name, self.x.to(device), self.grad.to(device), self.seed.to(device), self.bounds)

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.x, self.grad, self.seed


def images(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A walk under way: x near the seed, some pixels on the ball, some on the range; a gradient with zeros."""
    random = generator(seed)
    start = torch.rand(shape, generator=random, dtype=torch.float64)
    x = (start + 0.05 * torch.randn(shape, generator=random, dtype=torch.float64)).clamp(-0.1, 1.1)
    grad = torch.randn(shape, generator=random, dtype=torch.float64)
    grad[torch.rand(shape, generator=random) < 0.1] = 0.0
    return x.to(dtype), grad.to(dtype), start.to(dtype)


def dpgd_samples(dtype: torch.dtype) -> Iterator[DpgdSample]:
    """Every layout and size that the kernels treat differently."""
    yield DpgdSample("realistic", *images((2, 3, 64, 64), dtype))
    yield DpgdSample("per_channel", *images((2, 3, 32, 32), dtype), dict(NORMALISED))
    yield DpgdSample("tiny", *images((1, 1, 1, 1), dtype))
    yield DpgdSample("one_channel", *images((3, 1, 5, 7), dtype), {**PAPER, "step_size": [0.25]})
    yield DpgdSample("prime", *images((3, 5, 7, 11), dtype), {"step_size": 0.07, "epsilon": [0.1, 0.2, 0, 0.3, 1]})
    yield DpgdSample("empty_batch", *images((0, 3, 8, 8), dtype), dict(NORMALISED))
    yield DpgdSample("empty_width", *images((2, 3, 8, 0), dtype))
    yield DpgdSample("many_channels", *images((2, 131, 3, 3), dtype), {
        "step_size": torch.linspace(0, 0.2, 131), "epsilon": 0.1, "lower": torch.linspace(-0.2, 0.4, 131).tolist(),
    })  # fmt: skip

    last = [t.to(memory_format=torch.channels_last) for t in images((2, 3, 17, 13), dtype)]
    yield DpgdSample("channels_last", *last)
    yield DpgdSample("channels_last_per_channel", *last, dict(NORMALISED))
    wide = [t.to(memory_format=torch.channels_last) for t in images((2, 600, 3, 5), dtype)]
    yield DpgdSample("channels_last_wide", *wide, {"step_size": torch.linspace(0, 0.1, 600), "epsilon": 0.07})

    x, grad, seed = images((2, 3, 12, 10), dtype)
    mixed = grad.to(memory_format=torch.channels_last)
    yield DpgdSample("mixed_layouts", x, mixed, seed, dict(NORMALISED))
    yield DpgdSample("transposed", *(t.transpose(2, 3) for t in (x, grad, seed)), dict(NORMALISED))
    yield DpgdSample("sliced", x[:, :, 1:-1, 2:9], grad[:, :, 1:-1, 2:9], seed[:, :, 1:-1, 2:9], dict(NORMALISED))
    yield DpgdSample("strided", *(t[:, :, ::2, ::3] for t in (x, grad, seed)), dict(NORMALISED))
    yield DpgdSample("batch_inside", *(t.permute(3, 1, 2, 0) for t in (x, grad, seed)), dict(NORMALISED))
    yield DpgdSample("channels_sliced", *(t[:, :, :, :2] for t in last), dict(NORMALISED))
    yield DpgdSample("expanded_seed", x, grad, seed[:1].expand(2, -1, -1, -1), dict(NORMALISED))
    flat = [torch.cat([t.new_zeros(1), t.flatten()])[1:].view_as(t) for t in (x, grad, seed)]
    yield DpgdSample("unaligned", *flat)


@dataclass
class MatrixSample:
    """Rows that embed images (`rows`) and classes (`classes`), with a second set of each, and a target."""

    name: str
    rows: Tensor
    other_rows: Tensor
    classes: Tensor
    other_classes: Tensor
    target: Tensor


def matrix_samples(dtype: torch.dtype = torch.float64) -> Iterator[MatrixSample]:
    def sample(name: str, n: int, c: int, width: int, seed: int = 0) -> MatrixSample:
        random = generator(seed)
        draw = [torch.randn(k, width, generator=random, dtype=torch.float64) for k in (n, n, c, c)]
        target = torch.randint(c, (n,), generator=random) if c else torch.zeros(n, dtype=torch.int64)
        return MatrixSample(name, *(matrix.to(dtype) for matrix in draw), target)

    yield sample("realistic", 16, 10, 64)
    yield sample("tiny", 1, 1, 1)
    yield sample("prime", 7, 5, 13)
    yield sample("empty_rows", 0, 4, 8)
    strided = sample("non_contiguous", 6, 5, 8)
    yield MatrixSample(
        "non_contiguous", strided.rows[::2, ::2], strided.other_rows[::2, ::2], strided.classes[:, ::2],
        strided.other_classes[:, ::2], strided.target[::2],
    )  # fmt: skip
    extreme = sample("extreme_logits", 5, 6, 8)
    extreme.rows[0] = extreme.classes[2] * 1e3
    yield extreme
    twins = sample("duplicate_rows_and_ties", 6, 4, 8)
    twins.rows[1] = twins.rows[0]
    twins.classes[1] = twins.classes[0]
    twins.other_classes[1] = twins.other_classes[0]
    yield twins
    zero = sample("zero_vectors", 4, 3, 8)
    zero.rows[2] = 0
    zero.classes[1] = 0
    zero.other_rows[0] = 0
    yield zero


@dataclass
class TransferSample:
    """Prototypes, anchors' features in teacher and student, and the class of each anchor."""

    name: str
    prototypes: Tensor
    before: Tensor
    after: Tensor
    target: Tensor

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.prototypes, self.before, self.after, self.target


def transfer_samples(dtype: torch.dtype = torch.float64) -> Iterator[TransferSample]:
    """Every size, layout and spread of anchors over classes that the kernels treat differently."""

    def sample(name: str, target: list[int] | Tensor, classes: int, width: int, seed: int = 0) -> TransferSample:
        """Anchors near their prototypes, as adversarial ones are, of norms around 10."""
        random = generator(seed)
        target = torch.as_tensor(target, dtype=torch.int64)
        prototypes = torch.randn(classes, width, generator=random, dtype=torch.float64)
        before = 10 * prototypes[target] + 5 * torch.randn(len(target), width, generator=random, dtype=torch.float64)
        after = before + 3 * torch.randn(before.shape, generator=random, dtype=torch.float64)
        return TransferSample(name, *(t.to(dtype) for t in (prototypes, before, after)), target)

    in_turns = torch.arange(450) % 90
    yield sample("realistic", in_turns.sort().values, 90, 768)
    yield sample("unsorted", in_turns, 90, 64)
    yield sample("tiny", [0], 1, 1)
    yield sample("prime", [4, 0, 4, 2, 2, 4, 0], 5, 13)  # classes 1 and 3 have no anchors
    yield sample("no_anchors", [], 4, 8)
    yield sample("no_classes", [], 0, 8)
    yield sample("no_width", [1, 0, 1], 2, 0)
    yield sample("one_class", [0] * 700, 1, 24)  # several pieces, the last of them not full
    yield sample("piece_borders", [0] * 64 + [1] * 65 + [2] * 128 + [3] * 63, 5, 16)
    yield sample("unaligned_width", [2, 1, 0, 1], 3, 9)
    p, b, a, target = sample("", [3, 1, 1, 0, 3, 1], 4, 16).tensors
    yield TransferSample("non_contiguous", p[:, ::2], b.T.contiguous().T[::2, ::2], a[::2, 1::2], target[::2])
    yield TransferSample("expanded", p[:1].expand(4, -1), b[:1].expand(6, -1), a, target[:1].expand(6))
    flat = [torch.cat([t.new_zeros(1), t.flatten()])[1:].view_as(t) for t in (p, b, a)]
    yield TransferSample("unaligned", *flat, target)
    zero = sample("zero_vectors", [0, 1, 2, 3, 0, 2], 4, 8)
    zero.prototypes[1] = 0
    zero.before[2] = 0
    zero.after[0] = 0
    yield zero
    twins = sample("duplicate_rows", [0, 0, 1, 1, 2, 2], 3, 8)
    twins.before[1] = twins.before[0]
    twins.after[1] = twins.after[0]
    twins.prototypes[1] = twins.prototypes[0]
    twins.after[2:4] = twins.before[2:4]
    yield twins
