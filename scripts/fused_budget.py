"""Estimates the time of distillation on a GPU, as it is built and in designs with fused kernels; prints a table.

    python scripts/fused_budget.py [--tflops 780] [--bandwidth 4.3] [--multiprocessors 132] [--clock 1.75]

Every number follows from the sizes, the four rates and the counts in this file; none is measured. The default rates are an H200's: the
speeds that one large bfloat16 product and one large copy reach there, the number of its multiprocessors, and its clock.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass

SIZES = (512, 20_000), (5_000, 25_000)
WIDTH = 512  # De of ViT-B/16
INSTRUCTIONS = 71  # per similarity in bfloat16, from benchmarks/results/cuda_table.md
EXPONENTIALS_A_CLOCK = 16  # per multiprocessor
INSTRUCTIONS_A_CLOCK = 128  # per multiprocessor
TILE_BYTES, WORKSPACE_BYTES = 40 << 20, 60 << 20  # csrc/cuda/matrix_rows.cuh


@dataclass(frozen=True)
class Stage:
    """Work of one launch, or of several equal ones, per similarity.

    Attributes:
        products: matrix products, each of the size of images times text.
        moved: bytes to and from memory.
        summed: bytes to and from memory, per number of the text's gradient, each time that one is added to it.
        instructions: instructions between the products.
        exponentials: exponentials among them.
    """

    products: float = 0
    moved: float = 0
    summed: float = 0
    instructions: float = 0
    exponentials: float = 0


DESIGNS = {
    "four products alone": [Stage(products=4)],
    # Two float32 products are written, read for the softmax, and read again for the weights. Two bfloat16 weights are written and read.
    # The text's gradient of some rows is written and read, to be added to that of the rows before.
    "tiled, as built": [
        Stage(products=2, moved=8),
        Stage(moved=8 + 8 + 4, instructions=INSTRUCTIONS, exponentials=4),
        Stage(products=2, moved=4, summed=16),
    ],
    "tiled, read again from the cache": [
        Stage(products=2, moved=8),
        Stage(moved=8 + 4, instructions=INSTRUCTIONS, exponentials=4),
        Stage(products=2, moved=4, summed=8),
    ],
    # A first pass finds the softmax's statistics. A second pass computes the products again, and writes the weights.
    "fused up to the weights": [
        Stage(products=2, instructions=INSTRUCTIONS / 3, exponentials=2),
        Stage(products=2, moved=4, instructions=2 * INSTRUCTIONS / 3, exponentials=2),
        Stage(products=2, moved=4, summed=8),
    ],
    # Nothing is kept: each gradient computes the products and the weights again.
    "fused throughout": [
        Stage(products=2, instructions=INSTRUCTIONS / 3, exponentials=2),
        Stage(products=3, instructions=2 * INSTRUCTIONS / 3, exponentials=2),
        Stage(products=3, instructions=2 * INSTRUCTIONS / 3, exponentials=2),
    ],
}


def additions(rows: int, classes: int) -> int:
    """Counts how often a text gradient is added to that of the rows before: the rows' weights fill what tiles leave of the workspace."""
    tile = min(rows, TILE_BYTES // (2 * 4 * classes) // 128 * 128)
    together = (WORKSPACE_BYTES - 2 * 4 * classes * tile) // (2 * classes) // tile * tile
    return math.ceil(rows / together) - 1


@dataclass(frozen=True)
class Rates:
    """Rates of a GPU.

    Attributes:
        tflops: speed of bfloat16 products, 10¹² operations per second.
        bandwidth: speed of memory, TB/s.
        multiprocessors: their number.
        clock: clock rate, GHz.
    """

    tflops: float
    bandwidth: float
    multiprocessors: int
    clock: float

    def times(self, stage: Stage, rows: int, classes: int) -> tuple[float, float, float]:
        """Estimates the microseconds of a stage's products, of its memory traffic, and of its arithmetic between the products.

        Args:
            stage: the work per similarity.
            rows: number of images B.
            classes: number of classes C.
        """
        similarities = rows * classes
        clocks = max(stage.instructions / INSTRUCTIONS_A_CLOCK, stage.exponentials / EXPONENTIALS_A_CLOCK)
        return (
            stage.products * 2 * similarities * WIDTH / self.tflops / 1e6,
            (stage.moved * similarities + stage.summed * additions(rows, classes) * classes * WIDTH)
            / self.bandwidth
            / 1e6,
            clocks * similarities / self.multiprocessors / self.clock / 1e3,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tflops", type=float, default=780, help="speed of a bfloat16 product, 10¹² operations per second"
    )
    parser.add_argument("--bandwidth", type=float, default=4.3, help="speed of memory, TB/s")
    parser.add_argument("--multiprocessors", type=int, default=132, help="number of multiprocessors")
    parser.add_argument("--clock", type=float, default=1.75, help="clock rate, GHz")
    rates = Rates(**vars(parser.parse_args()))
    print(
        "| B, C | design | products µs | memory µs | arithmetic µs | × products, all in turn | × products, stages overlap within |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for rows, classes in SIZES:
        floor = rates.times(DESIGNS["four products alone"][0], rows, classes)[0]
        for name, stages in DESIGNS.items():
            times = [rates.times(stage, rows, classes) for stage in stages]
            sums = [sum(column) for column in zip(*times, strict=True)]
            in_turn, overlapping = sum(sums), sum(max(stage) for stage in times)
            cells = " | ".join(f"{t:.0f}" for t in sums)
            print(f"| {rows:,}, {classes:,} | {name} | {cells} | {in_turn / floor:.2f} | {overlapping / floor:.2f} |")


if __name__ == "__main__":
    main()
