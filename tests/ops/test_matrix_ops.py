"""Numbers of the three ops on matrices: native kernels against the eager twins in float64."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matrix_cases import SAMPLES, TOLERANCE, distance, each_op, exact, larger, needs_cuda, needs_native, sample
from op_samples import DEVICES, DTYPES, EMULATED, MatrixSample, generator, is_cuda
from torch import Tensor

from segp_ext import ops, reference

OWN_PRODUCTS = platform.machine() in ("x86_64", "AMD64") and os.environ.get("SEGP_EXT_CPU_ISA") != "baseline"


@each_op
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "tiny"])
def test_outputs_and_gradients_against_float64(op, name, dtype, device):
    arguments = op.arguments(sample(name, dtype, device))
    got = op.everything(ops, arguments)
    wanted = op.everything(reference, exact(arguments))
    for mine, theirs in zip(got, wanted, strict=True):
        assert mine.shape == theirs.shape
        assert distance(mine, theirs) <= TOLERANCE[dtype] * (2 if is_cuda(device) else 1)
    for argument, gradient in zip(arguments[: op.differentiable], got[1:], strict=False):
        assert gradient.dtype == argument.dtype


SHARP = {"dual_target_loss": {"logit_scale": 100.0}, "geometry_distill": {"logit_scale": 300.0},
         "prototype_drift": {"temperature": 0.01}}  # fmt: skip
"""A sharpness of 100: beyond 40, CUDA's softmax has other kernels."""


@each_op
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("is_even", "is_sharp"), [(True, False), (True, True), (False, False)])
def test_larger_sizes_against_float64(op, is_even, is_sharp, dtype, device):
    arguments = larger(op, dtype, device, is_even=is_even)
    settings = SHARP[op.name] if is_sharp else {}
    got = op.everything(ops, arguments, **settings)
    for mine, theirs in zip(got, op.everything(reference, exact(arguments), **settings), strict=True):
        assert distance(mine, theirs) <= TOLERANCE[dtype] * (2 if is_cuda(device) else 1)


@each_op
def test_larger_sizes_are_beyond_the_small_kernels(op):
    source = Path(__file__).parents[2] / "csrc/cuda/small_rows.cuh"
    most = re.search(r"kMostOthers = (\d+)", source.read_text())
    assert most and max(len(t) for t in larger(op, torch.float32)) > int(most[1])


@each_op
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_at_most_twice_as_far_off_as_plain_pytorch(op, dtype):
    """Plain PyTorch: the eager twin with everything in the inputs' dtype, or in float32 for float32."""
    random = generator(3)
    rows, classes, width = 64, 90, 128
    made = [torch.randn(n, width, generator=random).to(dtype) for n in (rows, rows, classes, classes)]
    arguments = op.arguments(MatrixSample("", *made, torch.randint(classes, (rows,), generator=random)))
    wanted = op.everything(reference, exact(arguments))
    plain = op.everything(reference, arguments)
    for mine, theirs, right in zip(op.everything(ops, arguments), plain, wanted, strict=True):
        assert distance(mine, right) <= 2 * distance(theirs, right) + torch.finfo(torch.float32).eps


@each_op
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e-12, 1e12, 1e30])
def test_norms_far_from_one(op, size, device):
    """Squares of these vanish or overflow in float32; only directions count, except in the drift."""
    if is_cuda(device) and size < 1e-38:
        size = 0.0  # the inverse is no normal number: a zero row there
    s = sample("prime", torch.float32, device)
    scaled = MatrixSample(s.name, s.rows * size, s.other_rows, s.classes * size, s.other_classes, s.target)
    arguments = op.arguments(scaled)
    got = op.everything(ops, arguments)
    for mine, theirs in zip(got, op.everything(reference, exact(arguments)), strict=True):
        if theirs.abs().max() < 1e37:  # else it does not fit into float32
            assert distance(mine, theirs) <= 2e-5


BOUNDS = {
    "dual_target_loss": [{"logit_scale": 1e6, "visual_weight": w} for w in (1e6, -1e6)] + [{"logit_scale": 0.0}],
    "geometry_distill": [{"logit_scale": s, "temperature": t} for s in (0.0, 1e6) for t in (1e-6, 1.0, 1e6)],
    "prototype_drift": [{"temperature": t} for t in (1e-6, 1e6)],
}


@each_op
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("norm", [2.0**-38, 1.0, 2.0**38])
def test_numbers_at_their_bounds(op, norm, device):
    """Sharpness up to 1e12 on rows of any norm: no product of the two may overflow."""
    arguments = tuple(
        t * norm / 4 if t.is_floating_point() else t for t in op.arguments(sample("prime", torch.float32, device))
    )
    for settings in BOUNDS[op.name]:
        got = op.everything(ops, arguments, **settings)
        for mine, theirs in zip(got, op.everything(reference, exact(arguments), **settings), strict=True):
            assert distance(mine, theirs) <= 1e-3, settings


@each_op
def test_result_does_not_depend_on_threads(op):
    random = generator(5)
    made = [torch.randn(n, 24, generator=random) for n in (700, 700, 800, 800)]
    arguments = op.arguments(MatrixSample("", *made, torch.randint(800, (700,), generator=random)))
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(op.everything(ops, arguments))
    finally:
        torch.set_num_threads(threads)
    # Where the products are torch's they may differ in the last place.
    tolerance = 0 if OWN_PRODUCTS else 1e-5
    for other in results[1:]:
        for mine, theirs in zip(other, results[0], strict=True):
            torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


@each_op
@pytest.mark.parametrize(
    ("device", "dtype"),
    [
        ("cpu", torch.float32),
        *(pytest.param("cuda", dtype, marks=needs_cuda) for dtype in (torch.float32, torch.float16, torch.bfloat16)),
    ],
)
def test_more_rows_than_a_block_holds(op, device, dtype):
    """Rows of very different norms and no zero row, which float32 inputs are multiplied as they are for."""
    random = generator(7)
    anchors = 7000 if device == "cpu" else 40_000
    counts = (6000, 6000, 3000, 3000) if op.name != "prototype_drift" else (anchors, anchors, 5, 5)
    width = 16 if op.name != "prototype_drift" else 512
    made = [
        (torch.randn(n, width, generator=random) * (1 + torch.arange(n) % 7)[:, None]).to(device, dtype) for n in counts
    ]
    target = torch.randint(counts[2], (counts[0],), generator=random).to(device)
    arguments = op.arguments(MatrixSample("", *made, target))
    got = op.everything(ops, arguments)
    for mine, theirs in zip(got, op.everything(reference, exact(arguments)), strict=True):
        assert distance(mine, theirs) <= TOLERANCE[dtype] * (2 if device == "cuda" else 1)


@pytest.mark.slow
@needs_native
def test_products_by_torch_and_other_instruction_sets():
    """On the baseline instruction set all but tiny products are torch's, as the largest are everywhere."""
    chosen = "float64 and not bfloat16 or more_rows or threads"
    for isa in ("baseline", "avx2"):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", chosen],
            env={**os.environ, "SEGP_EXT_CPU_ISA": isa}, capture_output=True, text=True, timeout=1800,
        )  # fmt: skip
        assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-3000:]


@st.composite
def matrices(draw: st.DrawFn, rows: int, width: int, dtype: torch.dtype, random: torch.Generator) -> Tensor:
    """Any layout and size of numbers, with zero and repeated rows."""
    matrix = torch.randn(rows, width, generator=random, dtype=torch.float64)
    powers = {torch.float32: 18, torch.float64: 100, torch.float16: 2, torch.bfloat16: 18}[dtype]
    matrix *= 10.0 ** draw(st.integers(-powers, powers))
    if dtype == torch.float32 and draw(st.booleans()) and not EMULATED:  # zero rows there
        matrix *= 1e-24  # subnormal numbers among them
    if rows:
        if draw(st.booleans()):
            matrix[draw(st.integers(0, rows - 1))] = 0
        matrix[draw(st.integers(0, rows - 1))] = matrix[draw(st.integers(0, rows - 1))]
    matrix = matrix.to(dtype)
    layout = draw(st.sampled_from(["contiguous", "transposed", "strided", "offset", "expanded"]))
    if layout == "transposed":
        return matrix.T.contiguous().T
    if layout == "strided":
        return torch.stack([matrix, matrix + 1], dim=2).flatten(1)[:, ::2]
    if layout == "offset":
        return torch.cat([matrix.new_zeros(1), matrix.flatten()])[1:].view(rows, width)
    if layout == "expanded" and rows:
        return matrix[:1].expand(rows, width)
    return matrix


@each_op
@given(data=st.data())
def test_random_cases(op, data):
    """Outputs and gradients of random arguments of every kind against the float64 reference."""
    draw = data.draw
    rows, classes, width = (draw(st.integers(low, 40), label=label) for low, label in ((0, "B"), (1, "C"), (0, "D")))
    dtype = draw(st.sampled_from(DTYPES), label="dtype")
    random = generator(draw(st.integers(0, 2**31), label="seed"))
    dtypes = [dtype if draw(st.booleans()) else draw(st.sampled_from(DTYPES)) for _ in range(4)]
    counts = (rows, rows, classes, classes)
    made = [draw(matrices(n, width, kind, random)) for n, kind in zip(counts, dtypes, strict=True)]
    target = torch.randint(classes, (rows,), generator=random)
    arguments = op.arguments(MatrixSample("", *made, target))
    sharpness = 10.0 ** draw(st.integers(-2, 4), label="log10 of the sharpness")
    settings = {"temperature": 1 / sharpness} if op.name == "prototype_drift" else {"logit_scale": sharpness}
    if op.name == "geometry_distill":
        settings["temperature"] = 1.0

    got = op.everything(ops, arguments, **settings)
    wanted = op.everything(reference, exact(arguments), **settings)
    double = any(t.dtype == torch.float64 for t in arguments)
    # A logit of 10^4 has eight digits, of which float32 keeps seven: what is left of its exponential grows with it.
    tolerance = (1e-9 if double else 2e-5) * max(1.0, sharpness / (1e3 if double else 30))
    # On CUDA the weights of the gradients' products are of the inputs' type.
    weights = max(torch.finfo(t.dtype).eps for t in arguments if t.is_floating_point()) if EMULATED else 0.0
    units = [1.0] * len(got)
    if op.differentiable:  # a gradient's size follows from its row's norm and the sharpness
        for place in op.places:
            norm = exact(arguments)[place].norm(dim=1, keepdim=True)
            units[1 + place] = torch.where(norm > 0, sharpness / norm.clamp_min(1e-300), 0)
    for index, (mine, theirs) in enumerate(zip(got, wanted, strict=True)):
        assert mine.shape == theirs.shape
        # What does not fit into its dtype is infinite, as it must be. The incoming gradient, 0.5 or more, comes in last.
        limit = torch.finfo(mine.dtype).max * (0.5 if index and mine.dtype.itemsize >= 4 else 1)
        rounding = torch.finfo(mine.dtype).eps
        size = theirs.abs().amax() if op.name == "prototype_drift" and theirs.numel() else 1.0
        slack = tolerance + (weights if index and op.differentiable else 0.0)
        allowed = slack * torch.as_tensor(units[index]) * size + (tolerance + rounding) * theirs.abs()
        error = (mine.double() - theirs).abs()
        fits = theirs.abs() < limit
        allowed = allowed + torch.finfo(mine.dtype).tiny  # and what is too small for it vanishes
        assert ((error <= allowed) | ~fits).all(), (error / allowed).max()
