"""Times a call of each op on tensors so small that only the overhead counts, with and without autograd.

python -m benchmarks.bench_overhead [--device cuda] [--quick]
"""

from __future__ import annotations

import torch
from torch import Tensor

from segp_ext import ops

from .harness import Candidate, Table, measure, print_setting
from .matrix_ops import options


def make_candidates(device: str) -> list[Candidate]:
    """Makes one candidate per op and, for comparison, an addition.

    "recorded" means that autograd records the call. An op with a gradient computes the gradient in that call.
    """
    rows, classes = (torch.rand(2, 8, device=device) for _ in range(2))
    image = torch.rand(1, 1, 4, 4, device=device)
    target = torch.zeros(2, dtype=torch.int64, device=device)
    leaf = rows.clone().requires_grad_()

    def dual(x: Tensor) -> Tensor:
        return ops.dual_target_loss(x, rows, classes, classes, target, logit_scale=1.0, visual_weight=1.0)

    def distill(x: Tensor) -> Tensor:
        return ops.geometry_distill(x, classes, rows, classes, logit_scale=1.0, temperature=1.0)

    return [
        Candidate("torch.add", lambda: rows + classes),
        Candidate("dpgd_step_", lambda: ops.dpgd_step_(image, image, image, step_size=0.1, epsilon=0.1)),
        Candidate("dpgd_step", lambda: ops.dpgd_step(image, image, image, step_size=0.1, epsilon=0.1)),
        Candidate("dual_target_loss", lambda: dual(rows)),
        Candidate("geometry_distill", lambda: distill(rows)),
        Candidate("prototype_drift", lambda: ops.prototype_drift(rows, classes, rows, temperature=0.1)),
        Candidate("prototype_transfer", lambda: ops.prototype_transfer(rows, classes, rows, target)),
        Candidate("torch.add, recorded", lambda: leaf + classes),
        Candidate("dual_target_loss, recorded", lambda: dual(leaf)),
        Candidate("geometry_distill, recorded", lambda: distill(leaf)),
    ]


def main() -> None:
    given = options(__doc__)
    print_setting("overhead of a call", given.device)
    table = Table(
        "overhead", given.device, [("candidate", 28), ("us", 8), ("p20", 8), ("p80", 8)], keep=not given.quick
    )
    timings = measure(make_candidates(given.device), given.device, budget=1.0 if given.quick else 6.0)
    for name, time in timings.items():
        table.add(name, time.median * 1e6, time.p20 * 1e6, time.p80 * 1e6)
    if not given.quick:
        print(f"appended to {table.name}.csv")


if __name__ == "__main__":
    main()
