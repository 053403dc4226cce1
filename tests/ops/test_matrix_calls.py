"""Calls of the three ops on matrices: opcheck, torch.compile, autograd, streams, graphs, memory."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from matrix_cases import OPS, Op, each_op, larger, needs_cuda, needs_native, sample
from op_samples import DEVICES, MatrixSample, generator
from torch import Tensor

import segp_ext
from segp_ext import ops


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


@each_op
@pytest.mark.parametrize("device", DEVICES)
def test_the_precision_of_products_stays_as_it_was_set(op, device):
    """The ops follow torch's setting, and do not touch it."""
    before = torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32
    assert before[0] == "highest"
    try:
        torch.set_float32_matmul_precision("high")
        op.everything(ops, op.arguments(sample("prime", torch.float32, device)))
        assert torch.get_float32_matmul_precision() == "high" and torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.set_float32_matmul_precision(before[0])
    assert torch.backends.cuda.matmul.allow_tf32 == before[1]


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


def small(op: Op, dtype: torch.dtype, device: str) -> tuple[Tensor, ...]:
    return op.arguments(sample("realistic", dtype, device))


each_size = pytest.mark.parametrize("arguments_of", [small, larger])  # by kernels alone, and with matrix products
each_way_to_multiply = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


@needs_cuda
@each_op
@each_size
@each_way_to_multiply
def test_runs_on_the_current_stream(op, arguments_of, dtype):
    arguments = arguments_of(op, dtype, "cuda")
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
@each_size
@each_way_to_multiply
def test_can_be_captured_in_a_cuda_graph(op, arguments_of, dtype):
    """Nothing synchronises or allocates behind torch's back, or the capture would fail."""
    arguments = tuple(t.clone() for t in arguments_of(op, dtype, "cuda"))
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
