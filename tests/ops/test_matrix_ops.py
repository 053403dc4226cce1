"""What the three ops on matrices have in common, native kernels against the eager twins."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from op_samples import DEVICES, DTYPES, EMULATED, MatrixSample, generator, is_cuda, matrix_samples
from torch import Tensor

import segp_ext
from segp_ext import ops, reference

needs_native = pytest.mark.skipif(
    segp_ext.build_info()["ops_path"] != "native", reason="the native library is not loaded; the eager path runs"
)
OWN_PRODUCTS = platform.machine() in ("x86_64", "AMD64") and os.environ.get("SEGP_EXT_CPU_ISA") != "baseline"
SAMPLES = [sample.name for sample in matrix_samples()]


@dataclass(frozen=True)
class Op:
    """An op on a sample.

    Attributes:
        arguments: a sample's tensors in the op's order; the first `differentiable` of them have gradients.
        settings: its numbers.
    """

    name: str
    arguments: Callable[[MatrixSample], tuple[Tensor, ...]]
    settings: dict[str, float]
    differentiable: int

    def outputs(self, module: Any, arguments: tuple[Tensor, ...], **settings: float) -> tuple[Tensor, ...]:
        result = getattr(module, self.name)(*arguments, **{**self.settings, **settings})
        return result if isinstance(result, tuple) else (result,)

    def everything(self, module: Any, arguments: tuple[Tensor, ...], **settings: float) -> list[Tensor]:
        """Outputs and gradients; the incoming gradient is not 1 and differs from row to row."""
        places = self.places
        arguments = tuple(t.clone().requires_grad_() if i in places else t for i, t in enumerate(arguments))
        outputs = self.outputs(module, arguments, **settings)
        if not places:
            return list(outputs)
        (loss,) = outputs
        weight = torch.linspace(0.5, 2, loss.numel(), dtype=loss.dtype, device=loss.device).reshape(loss.shape)
        return [loss.detach(), *torch.autograd.grad((loss * weight).sum(), [arguments[i] for i in places])]

    @property
    def places(self) -> range:
        return range(self.differentiable)


OPS = [
    Op("dual_target_loss", lambda s: (s.rows, s.other_rows, s.classes, s.other_classes, s.target),
       {"logit_scale": 30.0, "visual_weight": 0.7}, 2),
    Op("geometry_distill", lambda s: (s.rows, s.classes, s.other_rows, s.other_classes),
       {"logit_scale": 30.0, "temperature": 3.0}, 2),
    Op("prototype_drift", lambda s: (s.classes, s.rows, s.other_rows), {"temperature": 0.1}, 0),
]  # fmt: skip
each_op = pytest.mark.parametrize("op", OPS, ids=[op.name for op in OPS])


def sample(name: str, dtype: torch.dtype, device: str = "cpu") -> MatrixSample:
    s = next(s for s in matrix_samples(dtype) if s.name == name)
    fields = ("rows", "other_rows", "classes", "other_classes", "target")
    return MatrixSample(name, *(getattr(s, field).to(device) for field in fields))


def exact(arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(t.cpu().double() if t.is_floating_point() else t.cpu() for t in arguments)


def distance(got: Tensor, wanted: Tensor) -> float:
    """Relative L2 distance: rounding of entries that happen to vanish does not count."""
    if wanted.numel() == 0:
        return 0.0
    return float((got.cpu().double() - wanted).norm() / wanted.norm().clamp_min(1e-30))


# Logits of 30 times (a tenth, a third of) a cosine in float32: some ten units in the last place. Half types compute
# in float32 and round the gradients once, to half a unit in the last place, and on CUDA the weights before them.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-9, torch.float16: 2**-11 + 2e-5, torch.bfloat16: 2**-8 + 2e-5}


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
def test_more_rows_than_a_block_holds(op):
    """Rows of very different norms and no zero row, which float32 inputs are multiplied as they are for."""
    random = generator(7)
    counts = (6000, 6000, 3000, 3000) if op.name != "prototype_drift" else (7000, 7000, 5, 5)
    width = 16 if op.name != "prototype_drift" else 512
    made = [torch.randn(n, width, generator=random) * (1 + torch.arange(n) % 7)[:, None] for n in counts]
    arguments = op.arguments(MatrixSample("", *made, torch.randint(counts[2], (counts[0],), generator=random)))
    got = op.everything(ops, arguments)
    for mine, theirs in zip(got, op.everything(reference, exact(arguments)), strict=True):
        assert distance(mine, theirs) <= 2e-5


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


@needs_native
@each_op
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["realistic", "tiny", "empty_rows", "non_contiguous"])
@pytest.mark.parametrize("gradients", [True, False])
def test_opcheck(op, name, gradients, device):
    arguments = op.arguments(sample(name, torch.float32, device))
    flags = (gradients,) * op.differentiable
    torch.library.opcheck(getattr(torch.ops.segp_ext, op.name).default, (*arguments, *op.settings.values(), *flags))


@pytest.mark.slow
@each_op
@pytest.mark.parametrize("device", DEVICES)
def test_compiles_with_gradients_and_a_changing_batch(op, device):
    def whole(*arguments: Tensor) -> Tensor:
        scaled = tuple(t * 2 if t.is_floating_point() else t for t in arguments)
        outputs = op.outputs(ops, scaled)
        return torch.stack([output.sum() for output in outputs]).sum() * 3

    compiled = torch.compile(whole, fullgraph=True, dynamic=True, backend="aot_eager")
    for name in ("realistic", "prime"):
        results = []
        for function in (whole, compiled):
            arguments = [t.clone() for t in op.arguments(sample(name, torch.float32, device))]
            for place in op.places:
                arguments[place].requires_grad_()
            value = function(*arguments)
            if op.places:
                value.backward()
            results.append([value.detach(), *(arguments[place].grad for place in op.places)])
        for mine, theirs in zip(*results, strict=True):
            torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("op", OPS[:2], ids=[op.name for op in OPS[:2]])
def test_a_graph_that_is_kept_gives_its_gradients_again(op):
    """The first backward pass hands its gradients over; whoever changes them must not change the next one's."""
    arguments = op.arguments(sample("prime", torch.float64))
    given = [t.clone().requires_grad_() if i in op.places else t for i, t in enumerate(arguments)]
    (loss,) = op.outputs(ops, tuple(given))
    inputs = [given[i] for i in op.places]
    first = torch.autograd.grad(loss.sum(), inputs, retain_graph=True)
    kept = [gradient.clone() for gradient in first]
    for gradient in first:
        gradient.zero_()
    for factor in (1.0, -3.0):
        again = torch.autograd.grad(factor * loss.sum(), inputs, retain_graph=True)
        for mine, theirs in zip(again, kept, strict=True):
            torch.testing.assert_close(mine, factor * theirs, rtol=1e-12, atol=0)


@each_op
def test_arguments_without_gradient_may_not_require_one(op):
    arguments = op.arguments(sample("prime", torch.float32))
    names = {"dual_target_loss": ("text", "prototypes"), "geometry_distill": ("teacher", "teacher_text"),
             "prototype_drift": ("prototypes", "before", "after")}[op.name]  # fmt: skip
    for place, name in enumerate(names, start=op.differentiable):
        given = [t.clone().requires_grad_() if i == place else t for i, t in enumerate(arguments)]
        with pytest.raises(ValueError, match=f"{op.name}: {name} requires grad, but the op has no gradient"):
            op.outputs(ops, tuple(given))
        with torch.no_grad():
            op.outputs(ops, tuple(given))
    for setting in op.settings:
        if setting != "visual_weight":
            with pytest.raises(ValueError, match=f"{op.name}: {setting} requires grad"):
                op.outputs(ops, arguments, **{setting: torch.tensor(2.0, requires_grad=True)})


def test_eager_ends_with_its_block(monkeypatch):
    from segp_ext.ops import _dispatch

    arguments = OPS[2].arguments(sample("prime", torch.float32))
    for leave in (None, ValueError):
        try:
            with ops.eager():
                assert not _dispatch.runs_native(arguments[0])
                if leave:
                    raise leave
        except ValueError:
            pass
        assert _dispatch.runs_native(arguments[0]) == (segp_ext.build_info()["ops_path"] == "native")


@needs_native
def test_half_types_are_eager_while_torch_tunes_cuda_products(monkeypatch):
    from segp_ext.ops import _dispatch

    monkeypatch.setattr(_dispatch, "NATIVE_DEVICES", frozenset(["cpu", "cuda"]))
    monkeypatch.setattr(_dispatch, "_warned", set())
    monkeypatch.setenv("SEGP_EXT_REQUIRE_NATIVE", "0")

    def native(dtype: torch.dtype, device: str = "cuda") -> bool:
        return _dispatch.products_run_native(SimpleNamespace(device=torch.device(device), dtype=dtype))

    # A build of torch without CUDA has the function but not what it calls, so both answers are given here.
    monkeypatch.setattr(torch.cuda.tunable, "is_enabled", lambda: False)
    assert native(torch.bfloat16)
    monkeypatch.setattr(torch.cuda.tunable, "is_enabled", lambda: True)
    with pytest.warns(RuntimeWarning, match=r"for half types on CUDA while torch.cuda.tunable is enabled"):
        assert not native(torch.bfloat16)
    assert not native(torch.float16)
    assert native(torch.float32)
    assert native(torch.bfloat16, "cpu")


@needs_native
@pytest.mark.parametrize("op", OPS[:2], ids=[op.name for op in OPS[:2]])
def test_second_derivatives_are_refused(op):
    arguments = list(op.arguments(sample("prime", torch.float64)))
    arguments[0] = arguments[0].clone().requires_grad_()
    (loss,) = op.outputs(ops, tuple(arguments))
    with pytest.raises(RuntimeError, match=f"{op.name}.*: its gradient has no derivative"):
        torch.autograd.grad(loss.sum(), arguments[0], create_graph=True)


@pytest.mark.parametrize("op", OPS[:2], ids=[op.name for op in OPS[:2]])
def test_one_gradient_alone(op):
    arguments = op.arguments(sample("prime", torch.float64))
    both = op.everything(ops, arguments)
    for place in op.places:
        given = [t.clone().requires_grad_() if i == place else t for i, t in enumerate(arguments)]
        (loss,) = op.outputs(ops, tuple(given))
        weight = torch.linspace(0.5, 2, loss.numel(), dtype=loss.dtype).reshape(loss.shape)
        (loss * weight).sum().backward()
        torch.testing.assert_close(given[place].grad, both[1 + place], rtol=0, atol=0)


@pytest.mark.parametrize("op", OPS[:2], ids=[op.name for op in OPS[:2]])
def test_no_gradient_under_no_grad(op):
    arguments = [t.clone().requires_grad_() if t.is_floating_point() else t
                 for t in op.arguments(sample("prime", torch.float32))]  # fmt: skip
    with torch.no_grad():
        (loss,) = op.outputs(ops, tuple(arguments))
    assert not loss.requires_grad


@pytest.mark.parametrize("op", OPS[:2], ids=[op.name for op in OPS[:2]])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_shows(op, bad):
    arguments = list(op.arguments(sample("prime", torch.float32)))
    arguments[0] = arguments[0].clone()
    arguments[0][2, 3] = bad
    (loss,) = op.outputs(ops, tuple(arguments))
    if loss.dim():
        assert loss.isnan().tolist() == [row == 2 for row in range(len(loss))]
    else:
        assert loss.isnan()


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@needs_cuda
@each_op
def test_runs_on_the_current_stream(op):
    arguments = op.arguments(sample("realistic", torch.float32, "cuda"))
    wanted = op.outputs(ops, arguments)
    late = [t.clone() for t in arguments]
    late[0].zero_()
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # whatever overtakes this ran on another stream
        late[0].copy_(arguments[0])
        outputs = op.outputs(ops, tuple(late))
    stream.synchronize()
    for mine, theirs in zip(outputs, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


@needs_cuda
@needs_native
@each_op
def test_can_be_captured_in_a_cuda_graph(op):
    """Nothing synchronises or allocates behind torch's back, or the capture would fail."""
    arguments = tuple(t.clone() for t in op.arguments(sample("realistic", torch.float32, "cuda")))
    flags = (True,) * op.differentiable
    function = getattr(torch.ops.segp_ext, op.name).default
    wanted = function(*arguments, *op.settings.values(), *flags)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = function(*arguments, *op.settings.values(), *flags)
    graph.replay()
    torch.cuda.synchronize()
    for mine, theirs in zip(captured, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


# --------------------------------------------------------------------------------------------------- memory


def peak_growth(function: Callable[[], Any]) -> int:
    """Bytes by which the resident memory's peak during `function` exceeds what was resident before."""
    status = Path("/proc/self/status")

    def read(field: str) -> int:
        line = next(line for line in status.read_text().splitlines() if line.startswith(field))
        return 1024 * int(line.split()[1])

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = read("VmRSS")
    function()
    return read("VmHWM") - before


@pytest.mark.slow
@needs_native
@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc to see peaks")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("name", "count"), [("geometry_distill", 20_000), ("prototype_drift", 50_000)])
def test_working_memory_is_bounded(name, count, dtype):
    """A similarity matrix of these sizes would take 1.6 and 10 GB. Beyond 64 MiB there is room for what the caller gets and made: the
    outputs, the gradients, and the copies of the arguments that take them."""
    op = next(op for op in OPS if op.name == name)
    width = 128 if name == "geometry_distill" else 8  # wide enough for a second copy of the gradients to show
    random = generator(1)
    made = [torch.randn(count, width, generator=random).to(dtype) for _ in range(4)]
    arguments = op.arguments(MatrixSample("", *made, torch.zeros(count, dtype=torch.int64)))
    few = tuple(t[:64] for t in arguments)
    op.everything(ops, few)  # what torch sets up at the first call is not the op's
    got = op.everything(ops, few)
    results = sum(t.numel() * t.element_size() for t in got) * count // 64
    clones = sum(arguments[i].numel() * arguments[i].element_size() for i in op.places)
    allowed = (64 << 20) + results + clones
    if dtype == torch.bfloat16 and op.places:
        allowed += 2 * clones  # gradients in float32, which are rounded at the end
    assert peak_growth(lambda: op.everything(ops, arguments)) <= allowed


# --------------------------------------------------------------------------------------------------- random cases


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
