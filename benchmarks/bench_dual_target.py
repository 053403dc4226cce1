"""Times `dual_target_loss`, forward and backward.

It compares the fused op, its eager twin, torch.compile of the twin, and the op's two matrix products alone. On CUDA, Liger-Kernel takes
part where it is installed.

    python -m benchmarks.bench_dual_target [--device cuda] [--no-compile] [--quick]
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from segp_ext import ops, reference

from .harness import Candidate
from .matrix_ops import EMBEDDING_WIDTH, FEATURE_WIDTH, Products, agree, keeps_matrix, options, run

SETTINGS = {"logit_scale": 100.0, "visual_weight": 1.0}
F32, BF16 = torch.float32, torch.bfloat16
CASES = [("B 1, C 2", 1, 2, F32), ("B 64, C 10", 64, 10, F32), ("B 64, C 90", 64, 90, F32), ("B 64, C 90", 64, 90, BF16),
         ("B 128, C 200", 128, 200, F32), ("B 256, C 1000", 256, 1000, F32), ("B 256, C 1000", 256, 1000, BF16),
         ("B 128, C 20,000", 128, 20_000, F32), ("B 512, C 20,000", 512, 20_000, BF16),
         ("B 128, C 100,000", 128, 100_000, F32)]  # fmt: skip


def make_candidates(
    rows: int, classes: int, dtype: torch.dtype, device: str, compiled: bool
) -> tuple[list[Candidate], Products]:
    """Makes images on their way to their target classes, and the candidates that compute their loss.

    Args:
        rows: number of images B; embeddings are `[B, 512]`, raw features `[B, 768]`.
        classes: number of classes C; texts are `[C, 512]`, prototypes `[C, 768]`.
        dtype: dtype of the four tensors.
        device: torch device.
        compiled: whether torch.compile takes part.

    Returns:
        The candidates, and the matrix products that are the floor.
    """
    random = torch.Generator().manual_seed(0)
    target = torch.randint(classes, (rows,), generator=random).to(device)
    text = torch.randn(classes, EMBEDDING_WIDTH, generator=random)
    prototypes = torch.randn(classes, FEATURE_WIDTH, generator=random)
    embedding = 0.2 * text[target.cpu()] + torch.randn(rows, EMBEDDING_WIDTH, generator=random)
    feature = 0.2 * prototypes[target.cpu()] + torch.randn(rows, FEATURE_WIDTH, generator=random)
    given = [t.to(device, dtype) for t in (embedding, feature, text, prototypes)]
    given[0].requires_grad_()
    given[1].requires_grad_()

    def both_passes(name: str, function: Callable[..., Tensor]) -> Candidate:
        def once() -> tuple[Tensor, ...]:
            loss = function(*given, target, **SETTINGS)
            return loss.detach(), *torch.autograd.grad(loss.sum(), given[:2])

        return Candidate(name, once)

    candidates = [both_passes("fused", ops.dual_target_loss)]
    if keeps_matrix(rows, classes):
        candidates.append(both_passes("eager", reference.dual_target_loss))
        if compiled:
            torch._dynamo.reset()  # else a second shape would get a slower kernel that serves every shape
            candidates.append(both_passes("torch.compile", torch.compile(reference.dual_target_loss)))
        if device.startswith("cuda"):
            candidates += liger(given, target)
        exact = [t.detach().double().requires_grad_(t.requires_grad) for t in given]

        def wanted() -> tuple[Tensor, ...]:
            loss = reference.dual_target_loss(*exact, target, **SETTINGS)
            return loss.detach(), *torch.autograd.grad(loss.sum(), exact[:2])

        candidates = agree(candidates, wanted, 1e-4 if dtype == F32 and rows * classes > 100 else 2e-2)
    v, u = given[0].detach(), given[2]
    if not keeps_matrix(rows, classes):  # the same number of multiplications, by products that take no [B, C] operand
        return candidates, Products((v, u.T), (v, u.T))
    return candidates, Products((v, u.T), (torch.randn(rows, classes, device=device).to(dtype), u))


def liger(given: list[Tensor], target: Tensor) -> list[Candidate]:
    """Makes a candidate of Liger-Kernel's cross-entropy on similarities that torch computes; none where Liger-Kernel is not installed."""
    try:
        from liger_kernel.transformers import LigerCrossEntropyLoss
    except ImportError:
        return []
    cross_entropy = LigerCrossEntropyLoss(reduction="none")

    def loss_of(embedding: Tensor, feature: Tensor, text: Tensor, prototypes: Tensor, target: Tensor) -> Tensor:
        unit = torch.nn.functional.normalize
        logits = SETTINGS["logit_scale"] * (unit(embedding, dim=1) @ unit(text, dim=1).T).float()
        cosine = torch.nn.functional.cosine_similarity(feature, prototypes[target], dim=1)
        return cross_entropy(logits, target) + SETTINGS["visual_weight"] * (1 - cosine)

    def once() -> tuple[Tensor, ...]:
        loss = loss_of(*given, target)
        return loss.detach(), *torch.autograd.grad(loss.sum(), given[:2])

    return [Candidate("Liger", once)]


def main() -> None:
    run("dual_target", CASES, make_candidates, options(__doc__))


if __name__ == "__main__":
    main()
