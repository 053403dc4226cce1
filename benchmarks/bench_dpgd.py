"""Times `dpgd_step`, with a fresh output and in place, against its eager twin, torch.compile of the twin, and a stream.

The stream is the fastest call that moves the same memory: torch's `addcmul_`. It reads three arrays and writes the result over one of
them, like `dpgd_step_`.

    python -m benchmarks.bench_dpgd [--device cuda] [--no-compile] [--quick]
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from segp_ext import ops, reference

from .harness import Candidate, Table, checked, measure, print_setting

BOUNDS = {"step_size": 1.5e-3, "epsilon": 8 / 255}
NORMALISED = {"step_size": [5.6e-3, 5.7e-3, 5.4e-3], "epsilon": [0.117, 0.12, 0.114],
              "lower": [-1.79, -1.75, -1.48], "upper": [1.93, 2.07, 2.15]}  # fmt: skip
F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16
CASES = [  # shape, dtype, layout, bounds
    ((1, 1, 28, 28), F32, "contiguous", BOUNDS),
    ((8, 3, 32, 32), F32, "contiguous", BOUNDS),
    ((64, 3, 32, 32), F32, "contiguous", BOUNDS),
    ((8, 3, 224, 224), F32, "contiguous", BOUNDS),
    ((64, 3, 224, 224), F32, "contiguous", BOUNDS),
    ((64, 3, 224, 224), F32, "contiguous", NORMALISED),
    ((64, 3, 224, 224), F32, "channels_last", NORMALISED),
    ((64, 3, 224, 224), F32, "mixed", NORMALISED),
    ((64, 3, 224, 224), BF16, "contiguous", BOUNDS),
    ((64, 3, 224, 224), F16, "contiguous", BOUNDS),
]


def make_tensors(shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: str) -> tuple[Tensor, ...]:
    """Makes images, gradient and seeds of a DPGD walk under way, each of `shape` `[B, C, H, W]`.

    Args:
        shape: sizes of each tensor.
        dtype: dtype of the three tensors.
        layout: "contiguous", "channels_last", or "mixed": contiguous images with a channels-last gradient.
        device: torch device.
    """
    random = torch.Generator().manual_seed(0)
    seed = torch.rand(shape, generator=random)
    x = (seed + 0.02 * torch.randn(shape, generator=random)).clamp(0, 1)
    grad = torch.randn(shape, generator=random)
    tensors = [t.to(device, dtype) for t in (x, grad, seed)]
    if layout == "channels_last":
        tensors = [t.to(memory_format=torch.channels_last) for t in tensors]
    elif layout == "mixed":
        tensors[1] = tensors[1].to(memory_format=torch.channels_last)
    return tuple(tensors)


def make_candidates(x: Tensor, grad: Tensor, seed: Tensor, bounds: dict, compiled: bool) -> list[Candidate]:
    """Makes all candidates, each of which but the stream gives exactly the eager twin's result (`harness.checked`)."""
    walker, carrier = x.clone(), x.clone()
    candidates = [
        Candidate("fused in place", lambda: ops.dpgd_step_(walker, grad, seed, **bounds)),
        Candidate("fused", lambda: ops.dpgd_step(x, grad, seed, **bounds)),
        Candidate("eager", lambda: reference.dpgd_step(x, grad, seed, **bounds)),
    ]
    if compiled:
        torch._dynamo.reset()  # else a second shape would get a slower kernel that serves every shape
        step = torch.compile(reference.dpgd_step)
        candidates.append(Candidate("torch.compile", lambda: step(x, grad, seed, **bounds)))
    wanted = reference.dpgd_step(x, grad, seed, **bounds)

    def check(candidate: Candidate) -> None:
        result = candidate.run()
        assert isinstance(result, Tensor)
        torch.testing.assert_close(result, wanted, rtol=0, atol=0, msg=candidate.name)

    return [*checked(candidates, check), Candidate("stream", lambda: carrier.addcmul_(grad, seed, value=1e-9))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="torch device")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--quick", action="store_true", help="spend one second per case; write no CSV and no plot")
    options = parser.parse_args()

    print_setting("dpgd_step", options.device)
    columns = [("shape", 16), ("dtype", 9), ("layout", 13), ("bounds", 11), ("candidate", 14), ("us", 9),
               ("p20", 9), ("p80", 9), ("GB/s", 7), ("x stream", 8), ("eager x", 7)]  # fmt: skip
    table = Table("dpgd", options.device, columns, keep=not options.quick)
    for shape, dtype, layout, bounds in CASES:
        x, grad, seed = make_tensors(shape, dtype, layout, options.device)
        candidates = make_candidates(x, grad, seed, bounds, not options.no_compile)
        timings = measure(candidates, options.device, budget=1.0 if options.quick else 4.0)
        moved = 4 * x.numel() * x.element_size()
        for name, t in timings.items():
            table.add(
                "x".join(map(str, shape)), str(dtype).removeprefix("torch."), layout,
                "per channel" if bounds is NORMALISED else "shared", name, t.median * 1e6, t.p20 * 1e6,
                t.p80 * 1e6, moved / t.median / 1e9, t.median / timings["stream"].median,
                timings["eager"].median / t.median,
            )  # fmt: skip
    if not options.quick:
        plot = table.plot(["shape", "dtype", "layout", "bounds"], "x stream", "time, as a multiple of the stream")
        print(f"appended to {table.name}.csv, drawn as {plot.name}")


if __name__ == "__main__":
    main()
