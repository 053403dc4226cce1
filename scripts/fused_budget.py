"""What distillation should cost on a GPU as it is built, and what one fused kernel would bring: a table of estimates.

python scripts/fused_budget.py [--tflops 780] [--bandwidth 4.3] [--multiprocessors 132] [--clock 1.75]

Every number follows from the sizes, the four rates and the counts below; none is measured. The defaults are an H200's: what one large
bfloat16 product and one large copy reach there, and its multiprocessors.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

SIZES = (512, 20_000), (5_000, 25_000)
WIDTH = 512  # De of ViT-B/16
INSTRUCTIONS = 71  # of a similarity, bfloat16: benchmarks/results/cuda_table.md
EXPONENTIALS_A_CLOCK = 16  # of a multiprocessor
INSTRUCTIONS_A_CLOCK = 128


@dataclass(frozen=True)
class Stage:
    """What one launch does, or several alike, for every similarity."""

    products: float = 0  # of the images with the text in size
    moved: float = 0  # bytes to and from memory
    instructions: float = 0
    exponentials: float = 0


DESIGNS = {
    "four products alone": [Stage(products=4)],
    # Two float32 products are written, read for the softmax and again for the weights; two bfloat16 weights are written and read.
    "tiled, as built": [
        Stage(products=2, moved=8),
        Stage(moved=8 + 8 + 4, instructions=INSTRUCTIONS, exponentials=4),
        Stage(products=2, moved=4),
    ],
    "tiled, read again from the cache": [
        Stage(products=2, moved=8),
        Stage(moved=8 + 4, instructions=INSTRUCTIONS, exponentials=4),
        Stage(products=2, moved=4),
    ],
    # Statistics in a first pass, weights in a second one that makes the products again.
    "fused up to the weights": [
        Stage(products=2, instructions=INSTRUCTIONS / 3, exponentials=2),
        Stage(products=2, moved=4, instructions=2 * INSTRUCTIONS / 3, exponentials=2),
        Stage(products=2, moved=4),
    ],
    # Nothing is kept: each gradient makes the products and the weights again.
    "fused throughout": [
        Stage(products=2, instructions=INSTRUCTIONS / 3, exponentials=2),
        Stage(products=3, instructions=2 * INSTRUCTIONS / 3, exponentials=2),
        Stage(products=3, instructions=2 * INSTRUCTIONS / 3, exponentials=2),
    ],
}


@dataclass(frozen=True)
class Rates:
    tflops: float  # of bfloat16 products, 10¹² operations a second
    bandwidth: float  # TB/s
    multiprocessors: int
    clock: float  # GHz

    def times(self, stage: Stage, rows: int, classes: int) -> tuple[float, float, float]:
        """Microseconds of a stage's products, of its memory, and of its arithmetic between the products."""
        similarities = rows * classes
        clocks = max(stage.instructions / INSTRUCTIONS_A_CLOCK, stage.exponentials / EXPONENTIALS_A_CLOCK)
        return (
            stage.products * 2 * similarities * WIDTH / self.tflops / 1e6,
            stage.moved * similarities / self.bandwidth / 1e6,
            clocks * similarities / self.multiprocessors / self.clock / 1e3,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tflops", type=float, default=780, help="10¹² operations a second of a bfloat16 product")
    parser.add_argument("--bandwidth", type=float, default=4.3, help="TB/s of memory")
    parser.add_argument("--multiprocessors", type=int, default=132)
    parser.add_argument("--clock", type=float, default=1.75, help="GHz")
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
