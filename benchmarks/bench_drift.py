"""Times `prototype_drift`, forward.

It compares the fused op, its eager twin, torch.compile of the twin, scaled-dot-product attention, and the op's two matrix products alone.
Attention gives the drift without the proximity.

"SDC, literal" computes semantic drift compensation as usually written out: weights are a Gaussian of the distance, and the array of all
differences [C, A, D] is in memory. The formula is another one for the same purpose; it takes part for its time alone. It runs in one case,
where that array is small enough.

    python -m benchmarks.bench_drift [--device cuda] [--no-compile] [--quick]
"""

from __future__ import annotations

import torch
from torch import Tensor

from segp_ext import ops, reference

from .harness import Candidate
from .matrix_ops import FEATURE_WIDTH, Products, agree, keeps_matrix, options, run

TEMPERATURE = 0.1
F32, BF16 = torch.float32, torch.bfloat16
CASES = [("C 1, A 1", 1, 1, F32), ("C 10, A 50", 10, 50, F32), ("C 90, A 450", 90, 450, F32),
         ("C 90, A 450", 90, 450, BF16), ("C 190, A 950", 190, 950, F32), ("C 1000, A 5000", 1000, 5000, F32),
         ("C 5000, A 25,000", 5000, 25_000, F32), ("C 5000, A 25,000", 5000, 25_000, BF16),
         ("C 1000, A 100,000", 1000, 100_000, F32),
         ("C 20,000, A 20,000", 20_000, 20_000, F32)]  # fmt: skip
SDC_CASE = (190, 950)


def literal_sdc(prototypes: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Computes drift_c = Σ_a w_ca (after_a − before_a) with w_ca ∝ exp(−|before_a − p_c|² / 2σ²), `[C, D]`.

    Prototypes are `[C, D]`, `before` and `after` `[A, D]`; σ² is the mean squared distance.
    """
    distance = (before[None, :, :] - prototypes[:, None, :]).square().sum(dim=2)
    weight = torch.exp(-distance / (2 * distance.mean()))
    return (weight[:, :, None] * (after - before)[None]).sum(dim=1) / weight.sum(dim=1, keepdim=True)


def make_candidates(
    rows: int, classes: int, dtype: torch.dtype, device: str, compiled: bool
) -> tuple[list[Candidate], Products]:
    """Makes prototypes, anchors near them, and the candidates that compute the prototypes' drift.

    Args:
        rows: number of prototypes C; they are `[C, 768]`.
        classes: number of anchors A; their features before and after training are `[A, 768]`.
        dtype: dtype of the three tensors.
        device: torch device.
        compiled: whether torch.compile takes part.

    Returns:
        The candidates, and the matrix products that are the floor.
    """
    random = torch.Generator().manual_seed(0)
    prototypes = torch.randn(rows, FEATURE_WIDTH, generator=random)
    before = prototypes[torch.arange(classes) % rows] + 0.5 * torch.randn(classes, FEATURE_WIDTH, generator=random)
    after = before + 0.3 * torch.randn(before.shape, generator=random)
    given = [t.to(device, dtype) for t in (prototypes, before, after)]

    def attention() -> tuple[Tensor, ...]:
        unit = torch.nn.functional.normalize
        query, key = unit(given[0], dim=1), unit(given[1], dim=1)
        value = given[2] - given[1]
        result = torch.nn.functional.scaled_dot_product_attention(
            query[None, None], key[None, None], value[None, None], scale=1 / TEMPERATURE
        )
        return (result[0, 0],)

    candidates = [Candidate("fused", lambda: ops.prototype_drift(*given, temperature=TEMPERATURE))]
    if keeps_matrix(rows, classes):
        candidates.append(Candidate("eager", lambda: reference.prototype_drift(*given, temperature=TEMPERATURE)))
        if compiled:
            torch._dynamo.reset()  # else a second shape would get a slower kernel that serves every shape
            step = torch.compile(reference.prototype_drift)
            candidates.append(Candidate("torch.compile", lambda: step(*given, temperature=TEMPERATURE)))
    candidates.append(Candidate("attention (drift only)", attention))
    if keeps_matrix(rows, classes):
        exact = [t.double() for t in given]
        candidates = agree(
            candidates,
            lambda: reference.prototype_drift(*exact, temperature=TEMPERATURE),
            1e-4 if dtype == F32 else 2e-2,
        )
    if (rows, classes) == SDC_CASE:
        candidates.append(Candidate("SDC, literal", lambda: literal_sdc(*given)))
    p, z, moved = given[0], given[1], given[2] - given[1]
    if not keeps_matrix(rows, classes):  # the same number of multiplications, by products that take no [C, A] operand
        return candidates, Products((p, z.T), (p, z.T))
    return candidates, Products((p, z.T), (torch.rand(rows, classes, device=device).to(dtype), moved))


def main() -> None:
    run("drift", CASES, make_candidates, options(__doc__))


if __name__ == "__main__":
    main()
