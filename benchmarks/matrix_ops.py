"""Shared parts of the benchmarks of the three ops on matrices: their floor, and the loop over cases and candidates.

The floor is the time of the op's matrix products alone, computed by torch into allocated memory. A product too large to keep is computed
in blocks of rows, all into the same memory.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .harness import Candidate, Table, checked, measure, peak_bytes, print_setting

EMBEDDING_WIDTH, FEATURE_WIDTH = 512, 768  # ViT-B/16's
LARGEST_MATRIX = 1 << 30  # bytes; candidates that keep whole similarity matrices sit out where one would be larger
LARGEST_QUICK = 1 << 27  # bytes of a similarity matrix; `--quick` leaves larger ones out


class Products:
    """Matrix products, each into its own memory; in blocks of rows where the result would take more than 256 MiB.

    Args:
        *pairs: the factors `[M, K]` and `[K, N]` of each product.
    """

    def __init__(self, *pairs: tuple[Tensor, Tensor]) -> None:
        self.flops = sum(2 * a.shape[0] * a.shape[1] * b.shape[1] for a, b in pairs)
        self._steps: list[tuple[Tensor, Tensor, Tensor]] = []
        for a, b in pairs:
            rows = max(1, min(len(a), (256 << 20) // max(1, b.shape[1] * a.element_size())))
            out = a.new_empty(rows, b.shape[1])
            self._steps += [(part, b, out[: len(part)]) for part in a.split(rows)]

    def __call__(self) -> None:
        for a, b, out in self._steps:
            torch.mm(a, b, out=out)


def options(description: str) -> argparse.Namespace:
    """Reads the command line of an op's benchmark; `description` is the command's help."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="torch device")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument(
        "--quick", action="store_true", help="spend one second per case, skip large ones; write no CSV and no plot"
    )
    return parser.parse_args()


def run(
    name: str,
    cases: Sequence[tuple[str, int, int, torch.dtype]],
    make_candidates: Callable[[int, int, torch.dtype, str, bool], tuple[list[Candidate], Products]],
    given: argparse.Namespace,
) -> None:
    """Measures all candidates of all cases, prints the table, and writes it.

    Args:
        name: name of the op, the CSV file and the plot.
        cases: for each case the sizes in words, both sizes, and the dtype.
        make_candidates: takes both sizes, the dtype, the device, and whether torch.compile takes part. It returns the candidates and the
            products that are the floor. "fused" is always a candidate, "eager" where it fits into memory.
        given: the result of `options`.
    """
    print_setting(name, given.device)
    columns = [("size", 20), ("dtype", 8), ("candidate", 22), ("ms", 9), ("p20", 9), ("p80", 9), ("x GEMMs", 8),
               ("eager x", 8), ("GFLOP/s", 8), ("peak MB", 8)]  # fmt: skip
    table = Table(name, given.device, columns, keep=not given.quick)
    for words, rows, classes, dtype in cases:
        if given.quick and rows * classes * 4 > LARGEST_QUICK:
            continue
        candidates, products = make_candidates(rows, classes, dtype, given.device, not given.no_compile)
        candidates.append(Candidate("GEMMs alone", products))
        timings = measure(candidates, given.device, budget=1.0 if given.quick else 6.0)
        floor = timings["GEMMs alone"].median
        for candidate in candidates:
            time = timings[candidate.name]
            peak = peak_bytes(candidate.run, given.device)
            table.add(
                words, str(dtype).removeprefix("torch."), candidate.name, time.median * 1e3, time.p20 * 1e3,
                time.p80 * 1e3, time.median / floor,
                timings["eager"].median / time.median if "eager" in timings else "-",
                products.flops / time.median / 1e9, "-" if peak is None else peak / 2**20,
            )  # fmt: skip
    if not given.quick:
        print(f"appended to {table.name}.csv, drawn as "
              f"{table.plot(['size', 'dtype'], 'x GEMMs', 'time, as a multiple of the matrix products alone').name}")  # fmt: skip


def keeps_matrix(rows: int, classes: int) -> bool:
    """Tells whether candidates that keep whole float32 similarity matrices take part at these sizes."""
    return rows * classes * 4 <= LARGEST_MATRIX


def agree(candidates: Sequence[Candidate], wanted: Callable[[], Sequence[Tensor]], tolerance: float) -> list[Candidate]:
    """Returns the candidates that give the eager twin's float64 results (`harness.checked`).

    Args:
        candidates: return the tensors to compare, in the order of `wanted`; a candidate may return fewer.
        wanted: computes the right results.
        tolerance: largest norm of the difference, as a share of the right result's norm. Below 0.01 that norm counts as 0.01, so that
            rounding in a result that nearly vanishes does not fail.

    Raises:
        AssertionError: if "fused" or "eager" gives others.
    """
    right = [t.double() for t in wanted()]

    def check(candidate: Candidate) -> None:
        got = candidate.run()
        assert isinstance(got, (list, tuple))
        for mine, theirs in zip(got, right, strict=False):
            distance = (mine.double() - theirs).norm() / theirs.norm().clamp_min(1e-2)
            assert distance <= tolerance, f"{candidate.name}: {distance:.2g} off"

    return checked(candidates, check)
