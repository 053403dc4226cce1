"""Times `geometry_distill`, forward and backward.

It compares the fused op, its eager twin, torch.compile of the twin, and the op's four matrix products alone. On CUDA, Liger-Kernel takes
part where it is installed.

    python -m benchmarks.bench_distill [--device cuda] [--no-compile] [--quick]
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from segp_ext import ops, reference

from .harness import Candidate
from .matrix_ops import EMBEDDING_WIDTH, Products, agree, keeps_matrix, options, run

SETTINGS = {"logit_scale": 100.0, "temperature": 20.0}
F32, BF16 = torch.float32, torch.bfloat16
CASES = [("B 1, C 2", 1, 2, F32), ("B 32, C 10", 32, 10, F32), ("B 32, C 90", 32, 90, F32),
         ("B 32, C 90", 32, 90, BF16), ("B 256, C 200", 256, 200, F32), ("B 256, C 1000", 256, 1000, F32),
         ("B 4096, C 1000", 4096, 1000, F32), ("B 4096, C 1000", 4096, 1000, BF16),
         ("B 512, C 20,000", 512, 20_000, F32), ("B 512, C 20,000", 512, 20_000, BF16),
         ("B 128, C 100,000", 128, 100_000, F32), ("B 5000, C 25,000", 5000, 25_000, BF16),
         ("B 20,000, C 20,000", 20_000, 20_000, F32)]  # fmt: skip


def make_candidates(
    rows: int, classes: int, dtype: torch.dtype, device: str, compiled: bool
) -> tuple[list[Candidate], Products]:
    """Makes a student and a teacher one training step apart, and the candidates that distil one into the other.

    Args:
        rows: number of images B; student and teacher are `[B, 512]`.
        classes: number of classes C; the texts of both are `[C, 512]`.
        dtype: dtype of the four tensors.
        device: torch device.
        compiled: whether torch.compile takes part.

    Returns:
        The candidates, and the matrix products that are the floor.
    """
    random = torch.Generator().manual_seed(0)
    teacher = torch.randn(rows, EMBEDDING_WIDTH, generator=random)
    teacher_text = torch.randn(classes, EMBEDDING_WIDTH, generator=random)
    student = teacher + 0.3 * torch.randn(teacher.shape, generator=random)
    text = teacher_text + 0.3 * torch.randn(teacher_text.shape, generator=random)
    given = [t.to(device, dtype) for t in (student, text, teacher, teacher_text)]
    given[0].requires_grad_()
    given[1].requires_grad_()

    def both_passes(name: str, function: Callable[..., Tensor]) -> Candidate:
        def once() -> tuple[Tensor, ...]:
            loss = function(*given, **SETTINGS)
            return loss.detach(), *torch.autograd.grad(loss, given[:2])

        return Candidate(name, once)

    candidates = [both_passes("fused", ops.geometry_distill)]
    if keeps_matrix(rows, classes):
        candidates.append(both_passes("eager", reference.geometry_distill))
        if compiled:
            torch._dynamo.reset()  # else a second shape would get a slower kernel that serves every shape
            candidates.append(both_passes("torch.compile", torch.compile(reference.geometry_distill)))
        if device.startswith("cuda"):
            candidates += liger(given)
        exact = [t.detach().double().requires_grad_(t.requires_grad) for t in given]

        def wanted() -> tuple[Tensor, ...]:
            loss = reference.geometry_distill(*exact, **SETTINGS)
            return loss.detach(), *torch.autograd.grad(loss, exact[:2])

        candidates = agree(candidates, wanted, 1e-4 if dtype == F32 and rows * classes > 100 else 2e-2)
    a, u, b, v = (t.detach() for t in given)
    weights = torch.empty(rows, classes, device=device, dtype=dtype) if keeps_matrix(rows, classes) else None
    if weights is None:  # the same number of multiplications, by products that take no [B, C] operand
        return candidates, Products((a, u.T), (b, v.T), (a, u.T), (b, v.T))
    weights.normal_()
    return candidates, Products((a, u.T), (b, v.T), (weights, u), (weights.T, a))


def liger(given: list[Tensor]) -> list[Candidate]:
    """Makes a candidate of Liger-Kernel's KL divergence on similarities that torch computes; none where Liger-Kernel is not installed."""
    try:
        from liger_kernel.transformers import LigerKLDIVLoss
    except ImportError:
        return []
    divergence = LigerKLDIVLoss(reduction="batchmean", log_target=True)
    sharpness, weight = SETTINGS["logit_scale"] / SETTINGS["temperature"], SETTINGS["temperature"] ** 2

    def log_probability(image: Tensor, text: Tensor) -> Tensor:
        unit = torch.nn.functional.normalize
        return torch.log_softmax(sharpness * (unit(image, dim=1) @ unit(text, dim=1).T).float(), dim=1)

    def once() -> tuple[Tensor, ...]:
        student, text, teacher, teacher_text = given
        with torch.no_grad():
            wanted = log_probability(teacher, teacher_text)
        loss = weight * divergence(log_probability(student, text), wanted)
        return loss.detach(), *torch.autograd.grad(loss, given[:2])

    return [Candidate("Liger", once)]


def main() -> None:
    run("distill", CASES, make_candidates, options(__doc__))


if __name__ == "__main__":
    main()
