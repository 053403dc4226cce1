from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matrix_cases import needs_native
from op_samples import DEVICES, DTYPES, generator, transfer_samples
from torch import Tensor

from segp_ext import ops, reference

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
SAMPLES = [sample.name for sample in transfer_samples()]
# Entries of unit rows. Half types compute in float32; the reference gets their values.
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-14, torch.float16: 1e-6, torch.bfloat16: 1e-6}


def sample(name: str, dtype: torch.dtype = torch.float64, device: str = "cpu") -> tuple[Tensor, ...]:
    found = next(s for s in transfer_samples(dtype) if s.name == name)
    return tuple(t.to(device) for t in found.tensors)


def exact(arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(t.cpu().double() if t.is_floating_point() else t.cpu() for t in arguments)


def test_by_hand():
    """Class 0: a = 1 and 3/5, d = (-1, 1) and (2/5, -4/5), so (1, 0) + half of (-1 + 6/25, 1 - 12/25). Class 1: no anchors."""
    prototypes = torch.tensor([[2.0, 0.0], [0.0, -5.0]], dtype=torch.float64)
    before = torch.tensor([[4.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    after = torch.tensor([[0.0, 7.0], [9.0, 0.0]], dtype=torch.float64)
    moved = torch.tensor([1 - 0.38, 0.26], dtype=torch.float64)
    wanted = torch.stack([moved / moved.norm(), torch.tensor([0.0, -1.0], dtype=torch.float64)])
    result = ops.prototype_transfer(prototypes, before, after, torch.tensor([0, 0]))
    torch.testing.assert_close(result, wanted, rtol=0, atol=1e-15)


def test_by_the_papers_equations():
    """With a over its sum as weights and the mean of a in front, as equations 24 to 29 have them."""
    prototypes, before, after, target = sample("realistic")
    unit = torch.nn.functional.normalize
    rows = []
    for c, centre in enumerate(unit(prototypes, dim=1)):
        teacher, student = unit(before[target == c], dim=1), unit(after[target == c], dim=1)
        a = teacher @ centre
        drift = (a / a.sum()) @ (student - teacher)
        rows.append(centre + a.mean() * drift)
    wanted = unit(torch.stack(rows), dim=1)
    torch.testing.assert_close(ops.prototype_transfer(prototypes, before, after, target), wanted, rtol=0, atol=1e-14)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SAMPLES)
def test_against_float64(name, dtype, device):
    arguments = sample(name, dtype, device)
    result = ops.prototype_transfer(*arguments)
    assert result.shape == arguments[0].shape
    assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    wanted = reference.prototype_transfer(*exact(arguments))
    torch.testing.assert_close(result.cpu().double(), wanted, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("other", [torch.float64, torch.bfloat16])
def test_mixed_dtypes(other, place, device):
    arguments = list(sample("prime", torch.float32, device))
    arguments[place] = arguments[place].to(other)
    result = ops.prototype_transfer(*arguments)
    assert result.dtype == (torch.float64 if other == torch.float64 else torch.float32)
    torch.testing.assert_close(
        result.cpu().double(), reference.prototype_transfer(*exact(tuple(arguments))), rtol=0, atol=TOLERANCE[other]
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e-12, 1e12, 1e30])
@pytest.mark.parametrize("place", range(3))
def test_norms_far_from_one(place, size, device):
    """Squares of these vanish or overflow in float32; only directions count."""
    arguments = list(sample("prime", torch.float32, device))
    arguments[place] = arguments[place] * size
    result = ops.prototype_transfer(*arguments)
    wanted = reference.prototype_transfer(*exact(tuple(arguments)))
    torch.testing.assert_close(result.cpu().double(), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("place", range(3))
def test_what_is_not_finite_stays_in_its_class(place, bad, device):
    arguments = sample("prime", torch.float32, device)
    sound = ops.prototype_transfer(*arguments)
    arguments[place][3, 5] = bad  # an anchor of class 2, or prototype 3
    result = ops.prototype_transfer(*arguments)
    row = 3 if place == 0 else 2
    assert result[row].isnan().all()
    kept = [c for c in range(5) if c != row]
    torch.testing.assert_close(result[kept], sound[kept], rtol=0, atol=0)


def test_zero_rows():
    prototypes, before, after, target = sample("zero_vectors")
    result = ops.prototype_transfer(prototypes, before, after, target)
    assert (result[1] == 0).all()
    torch.testing.assert_close(result.norm(dim=1)[[0, 2, 3]], torch.ones(3, dtype=torch.float64))
    centre = torch.nn.functional.normalize(prototypes[2:3], dim=1)[0]
    alone = ops.prototype_transfer(prototypes, before[5:], after[5:], target[5:])[2]
    # The zero anchor of class 2 moves nothing, but counts: its other anchor moves the prototype less far than alone.
    lengths = [float(torch.linalg.vector_norm(row / (row @ centre) - centre)) for row in (result[2], alone)]
    assert lengths[0] < lengths[1]


def test_a_space_that_stays_keeps_its_prototypes():
    prototypes, before, _, target = sample("realistic", torch.float32)
    result = ops.prototype_transfer(prototypes, before, before, target)
    torch.testing.assert_close(result, torch.nn.functional.normalize(prototypes, dim=1), rtol=0, atol=2e-7)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["unsorted", "one_class", "piece_borders"])
def test_the_order_of_the_anchors_does_not_matter(name, device):
    prototypes, before, after, target = sample(name, torch.float32, device)
    shuffle = torch.randperm(len(target), generator=generator(3)).to(device)
    result = ops.prototype_transfer(prototypes, before, after, target)
    shuffled = ops.prototype_transfer(prototypes, before[shuffle], after[shuffle], target[shuffle])
    torch.testing.assert_close(result, shuffled, rtol=0, atol=1e-6)


@needs_native
@pytest.mark.parametrize("device", DEVICES)
def test_a_class_does_not_depend_on_the_others(device):
    """Bit for bit: sums run over a class's anchors in the order in which they are given."""
    prototypes, before, after, target = sample("piece_borders", torch.float32, device)
    result = ops.prototype_transfer(prototypes, before, after, target)
    counts = target.bincount().tolist()
    turn = torch.cat([torch.arange(count) for count in counts])  # an anchor's place in its class
    in_turns = turn.sort(stable=True).indices.to(device)
    again = ops.prototype_transfer(prototypes, before[in_turns], after[in_turns], target[in_turns])
    torch.testing.assert_close(result, again, rtol=0, atol=0)
    mine = target == 1
    alone = ops.prototype_transfer(prototypes, before[mine], after[mine], target[mine])
    torch.testing.assert_close(result[1], alone[1], rtol=0, atol=0)


@needs_native
def test_result_does_not_depend_on_threads():
    random = generator(5)
    target = torch.cat([torch.zeros(3000, dtype=torch.int64), torch.randint(500, (4000,), generator=random)])
    prototypes, before, after = (torch.randn(n, 96, generator=random) for n in (500, 7000, 7000))
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3, 7):
            torch.set_num_threads(count)
            results.append(ops.prototype_transfer(prototypes, before, after, target))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=0)
    wanted = reference.prototype_transfer(prototypes.double(), before.double(), after.double(), target)
    torch.testing.assert_close(results[0].double(), wanted, rtol=0, atol=1e-6)


@pytest.mark.slow
@needs_native
def test_other_instruction_sets():
    for isa in ("baseline", "avx2"):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "float64 or threads"],
            env={**os.environ, "SEGP_EXT_CPU_ISA": isa}, capture_output=True, text=True, timeout=1800,
        )  # fmt: skip
        assert done.returncode == 0 and " passed" in done.stdout, done.stdout[-3000:]


@needs_native
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["unsorted", "tiny", "no_anchors", "no_classes", "non_contiguous"])
def test_opcheck(name, device):
    torch.library.opcheck(torch.ops.segp_ext.prototype_transfer.default, sample(name, torch.float32, device))


@pytest.mark.parametrize("device", DEVICES)
def test_compiles_without_graph_breaks_and_with_a_changing_number_of_anchors(device):
    step = torch.compile(
        lambda p, *rest: ops.prototype_transfer(2 * p, *rest).sum(), fullgraph=True, dynamic=True, backend="aot_eager"
    )
    for name in ("unsorted", "prime"):
        arguments = sample(name, torch.float32, device)
        torch.testing.assert_close(step(*arguments), ops.prototype_transfer(*arguments).sum())


def test_the_eager_twin_runs_inside_eager():
    arguments = sample("prime", torch.float32)
    with ops.eager():
        result = ops.prototype_transfer(*arguments)
    torch.testing.assert_close(result, reference.prototype_transfer(*arguments), rtol=0, atol=0)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("wrong", [-1, 5, 2**40, -(2**63)])
def test_target_out_of_range(wrong, eager):
    prototypes, before, after, target = sample("prime")
    target[3] = wrong
    message = rf"^prototype_transfer: target must be in \[0, 5\); got {wrong} at index 3$"
    with pytest.raises(ValueError, match=message):
        if eager:
            with ops.eager():
                ops.prototype_transfer(prototypes, before, after, target)
        else:
            ops.prototype_transfer(prototypes, before, after, target)
    assert reference.prototype_transfer(prototypes, before, after, target).isnan().all()


@needs_native
def test_the_native_op_checks_the_range_for_itself():
    prototypes, before, after, target = sample("prime")
    target[3] = 5
    with pytest.raises(RuntimeError, match=r"prototype_transfer: target must be in \[0, 5\); got 5 at index 3"):
        torch.ops.segp_ext.prototype_transfer.default(prototypes, before, after, target)
    with pytest.raises(RuntimeError, match="prototype_transfer: target must be a vector of int64"):
        torch.ops.segp_ext.prototype_transfer.default(prototypes, before, after, target.int())


@needs_cuda
@pytest.mark.parametrize("wrong", [-1, 5, 2**40])
def test_target_out_of_range_on_cuda_is_nan(wrong):
    prototypes, before, after, target = sample("prime", torch.float32, "cuda")
    target[3] = wrong
    assert ops.prototype_transfer(prototypes, before, after, target).isnan().all()


@needs_cuda
def test_runs_on_the_current_stream():
    arguments = sample("one_class", torch.float32, "cuda")
    wanted = ops.prototype_transfer(*arguments)
    late = [t.clone() for t in arguments]
    late[0].zero_()
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # whatever overtakes this ran on another stream
        late[0].copy_(arguments[0])
        result = ops.prototype_transfer(*late)
    stream.synchronize()
    torch.testing.assert_close(result, wanted, rtol=0, atol=0)


@needs_cuda
@needs_native
def test_can_be_captured_in_a_cuda_graph():
    """Nothing synchronises or allocates behind torch's back, or the capture would fail."""
    arguments = sample("one_class", torch.float32, "cuda")
    wanted = ops.prototype_transfer(*arguments)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = ops.prototype_transfer(*arguments)
    graph.replay()
    torch.cuda.synchronize()
    torch.testing.assert_close(captured, wanted, rtol=0, atol=0)


def test_no_gradients():
    arguments = sample("prime", torch.float32)
    for place, name in enumerate(("prototypes", "before", "after")):
        given = [t.clone().requires_grad_() if i == place else t for i, t in enumerate(arguments)]
        with pytest.raises(ValueError, match=f"prototype_transfer: {name} requires grad, but the op has no gradient"):
            ops.prototype_transfer(*given)
        with torch.no_grad():
            ops.prototype_transfer(*given)


BROKEN = [
    ("prototypes_dtype", "prototypes must be float32", TypeError, {0: torch.zeros(5, 13).int()}),
    ("prototypes_type", "prototypes must be a Tensor", TypeError, {0: None}),
    ("prototypes_dims", r"prototypes must be \[C, Dr\]", ValueError, {0: torch.zeros(13)}),
    ("before_width", "before must have the width of prototypes", ValueError, {1: torch.zeros(7, 12)}),
    ("after_shape", r"after must be \[A, Dr\] like before", ValueError, {2: torch.zeros(6, 13)}),
    ("after_device", "after must be on the device", ValueError, {2: torch.zeros(7, 13, device="meta")}),
    ("target_dtype", "target must be an int64 Tensor; got torch.int32", TypeError, {3: torch.zeros(7).int()}),
    ("target_type", "target must be an int64 Tensor; got list", TypeError, {3: [0] * 7}),
    ("target_length", r"target must be \[7\], one class per anchor; got \[6\]", ValueError, {3: torch.zeros(6).long()}),
    ("target_dims", r"target must be \[7\], one class per anchor", ValueError, {3: torch.zeros(7, 1).long()}),
    ("target_device", "target must be on the device", ValueError, {3: torch.zeros(7, device="meta").long()}),
    ("no_class", r"target must be in \[0, 0\); got 4 at index 0", ValueError, {0: torch.zeros(0, 13)}),
]


@pytest.mark.parametrize(("message", "kind", "changes"), [case[1:] for case in BROKEN], ids=[c[0] for c in BROKEN])
def test_errors_name_op_and_argument(message, kind, changes):
    given = [changes.get(i, t) for i, t in enumerate(sample("prime"))]
    with pytest.raises(kind, match=f"^prototype_transfer: {message}"):
        ops.prototype_transfer(*given)


@given(data=st.data())
def test_random_cases(data):
    """Any sizes, dtypes, norms and spreads of anchors against the float64 reference."""
    draw = data.draw
    anchors, classes, width = (draw(st.integers(low, 90), label=label) for low, label in ((0, "A"), (1, "C"), (0, "D")))
    random = generator(draw(st.integers(0, 2**31), label="seed"))
    target = torch.randint(draw(st.integers(1, classes), label="classes with anchors"), (anchors,), generator=random)
    made = []
    for rows in (classes, anchors, anchors):
        dtype = draw(st.sampled_from(DTYPES))
        powers = {torch.float32: 30, torch.float64: 120, torch.float16: 2, torch.bfloat16: 30}[dtype]
        matrix = torch.randn(rows, width, generator=random, dtype=torch.float64)
        matrix *= 10.0 ** draw(st.integers(-powers, powers))
        if rows and draw(st.booleans()):
            matrix[draw(st.integers(0, rows - 1))] = 0
        matrix = matrix.to(dtype)
        made.append(matrix.T.contiguous().T if draw(st.booleans()) else matrix)
    result = ops.prototype_transfer(*made, target)
    double = [t.double() for t in made]
    wanted = reference.prototype_transfer(*double, target)
    # A moved prototype that nearly vanishes has a direction of rounding errors: what they may be grows as it shrinks.
    centre, teacher, student = (torch.nn.functional.normalize(t, dim=1, eps=1e-300) for t in double)
    a = (teacher * centre[target]).sum(dim=1, keepdim=True)
    count = target.bincount(minlength=classes).clamp(min=1)[:, None]
    length = (centre + torch.zeros_like(centre).index_add(0, target, a * (student - teacher)) / count).norm(dim=1)
    rounding = 1e-14 if torch.float64 in (t.dtype for t in made) else 1e-6
    sound = (length > 1e-3) | (centre == 0).all(dim=1)
    error = (result.double() - wanted).abs().amax(dim=1) if width else torch.zeros(classes)
    assert (error[sound] <= rounding / length[sound].clamp(1e-3, 1)).all()
    assert result.isfinite().all()
