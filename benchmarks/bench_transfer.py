"""Times `prototype_transfer` against its eager twin, torch.compile of the twin, and a stream.

The stream is the fastest pair of calls that moves the same memory. torch's dot product reads the anchors' features in both models, and an
addition writes the new prototypes into allocated memory. Half types are read two at a time as one float, in half as many products.
In the shuffled case the anchors are in random order, so that the rows of one class lie far apart.

    python -m benchmarks.bench_transfer [--device cuda] [--no-compile] [--quick]
"""

from __future__ import annotations

import torch
from torch import Tensor

from segp_ext import ops, reference

from .harness import Candidate, Table, measure, peak_bytes, print_setting
from .matrix_ops import FEATURE_WIDTH, agree, options

F32, BF16 = torch.float32, torch.bfloat16
CASES = [  # classes, anchors of each, their order, dtype
    (90, 5, "by class", F32), (90, 5, "by class", BF16), (5000, 5, "by class", F32), (5000, 5, "by class", BF16),
    (5000, 5, "shuffled", F32), (1, 25_000, "by class", F32), (20_000, 1, "by class", F32),
]  # fmt: skip


def make_tensors(classes: int, each: int, order: str, dtype: torch.dtype, device: str) -> tuple[Tensor, ...]:
    """Makes the op's four arguments: prototypes, anchors near them that training has moved, and the anchors' classes.

    Args:
        classes: number of classes C; prototypes are `[C, 768]`.
        each: anchors per class; there are A = C · each.
        order: "by class" or "shuffled".
        dtype: dtype of the floating-point tensors.
        device: torch device.

    Returns:
        Prototypes `[C, 768]`, features before and after training `[A, 768]`, and classes int64 `[A]`.
    """
    random = torch.Generator().manual_seed(0)
    prototypes = torch.randn(classes, FEATURE_WIDTH, generator=random)
    target = torch.arange(classes).repeat_interleave(each)
    if order == "shuffled":
        target = target[torch.randperm(len(target), generator=random)]
    before = prototypes[target] + 0.5 * torch.randn(len(target), FEATURE_WIDTH, generator=random)
    after = before + 0.3 * torch.randn(before.shape, generator=random)
    return (*(t.to(device, dtype) for t in (prototypes, before, after)), target.to(device))


def make_candidates(arguments: tuple[Tensor, ...], compiled: bool) -> list[Candidate]:
    """Makes all candidates, each of which but the stream gives the eager twin's float64 result within 1e-5 (`harness.checked`)."""
    candidates = [
        Candidate("fused", lambda: (ops.prototype_transfer(*arguments),)),
        Candidate("eager", lambda: (reference.prototype_transfer(*arguments),)),
    ]
    if compiled:
        torch._dynamo.reset()  # else a second shape would get a slower kernel that serves every shape
        step = torch.compile(reference.prototype_transfer)
        candidates.append(Candidate("torch.compile", lambda: (step(*arguments),)))
    prototypes, before, after, target = arguments
    candidates = agree(
        candidates,
        lambda: (reference.prototype_transfer(prototypes.double(), before.double(), after.double(), target),),
        1e-5,
    )
    read = [t.flatten().view(torch.float32) for t in (before, after)]
    result = prototypes.new_empty(prototypes.shape, dtype=torch.float32)

    def stream() -> None:
        torch.dot(*read)
        torch.add(prototypes, 1.0, out=result)

    return [*candidates, Candidate("stream", stream)]


def main() -> None:
    given = options(__doc__)
    print_setting("prototype_transfer", given.device)
    columns = [("size", 20), ("order", 9), ("dtype", 9), ("candidate", 14), ("ms", 9), ("p20", 9), ("p80", 9),
               ("GB/s", 7), ("x stream", 8), ("eager x", 8), ("peak MB", 8)]  # fmt: skip
    table = Table("transfer", given.device, columns, keep=not given.quick)
    for classes, each, order, dtype in CASES:
        arguments = make_tensors(classes, each, order, dtype, given.device)
        candidates = make_candidates(arguments, not given.no_compile)
        timings = measure(candidates, given.device, budget=1.0 if given.quick else 6.0)
        moved = sum(t.numel() * t.element_size() for t in arguments[:3]) + 4 * arguments[0].numel()
        for candidate in candidates:
            time = timings[candidate.name]
            peak = peak_bytes(candidate.run, given.device)
            table.add(
                f"C {classes:,} x {each:,}", order, str(dtype).removeprefix("torch."), candidate.name,
                time.median * 1e3, time.p20 * 1e3, time.p80 * 1e3, moved / time.median / 1e9,
                time.over(timings["stream"]).median, timings["eager"].over(time).median,
                "-" if peak is None else peak / 2**20,
            )  # fmt: skip
    if not given.quick:
        plot = table.plot(["size", "order", "dtype"], "x stream", "time, as a multiple of the stream")
        print(f"appended to {table.name}.csv, drawn as {plot.name}")


if __name__ == "__main__":
    main()
