"""`dpgd_step`: numbers, bounds and calls, native kernels against the eager twin."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matrix_cases import needs_native
from op_samples import DEVICES, DTYPES, NORMALISED, PAPER, DpgdSample, dpgd_samples, images

from segp_ext import ops, reference

# Against float64 the error is roundings of values below 4: three of them in float32 and float64 (the step, a
# bound, their meeting), one more of half a unit in the last place (2^-10, 2^-7) where the storage is half.
TOLERANCE = {torch.float32: 6e-7, torch.float64: 1e-15, torch.float16: 2**-10, torch.bfloat16: 2**-7}
SAMPLE_NAMES = [sample.name for sample in dpgd_samples(torch.float32)]


def get_sample(name: str, dtype: torch.dtype, device: str = "cpu") -> DpgdSample:
    return next(s for s in dpgd_samples(dtype) if s.name == name).to(device)


def clone(tensor: torch.Tensor) -> torch.Tensor:
    """A copy with the very strides of the original, holes included."""
    storage = tensor.untyped_storage().clone()
    empty = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return empty.set_(storage, tensor.storage_offset(), tensor.shape, tensor.stride())


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


# ------------------------------------------------------------------------------------------ worked by hand


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_by_hand(dtype, device):
    """One image, two channels of 1x4. All numbers are exact in every dtype, so the result must be."""
    x = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.25, 0.75, 0.0, 1.0]).view(1, 2, 1, 4)
    seed = torch.tensor([0.5, 0.5, 0.75, 0.25, 0.25, 0.75, 0.0, 1.0]).view(1, 2, 1, 4)
    grad = torch.tensor([3.0, -1e-3, 0.0, math.nan, 1.0, -1.0, 1.0, -1.0]).view(1, 2, 1, 4)
    arguments = [t.to(device, dtype) for t in (x, grad, seed)]
    # Channel 0: step 1/8, ball 1/16, range [0, 1]. Channel 1: step 1/4, ball 1/2, range [1/8, 7/8].
    #   0.5 - 1/8 = 0.375, the ball ends at 0.4375           0.5 + 1/8 = 0.625, the ball ends at 0.5625
    #   no step, the ball begins at 0.75 - 1/16 = 0.6875     NaN is no step, the ball ends at 0.25 + 1/16 = 0.3125
    #   0.25 - 1/4 = 0, the range begins at 0.125            0.75 + 1/4 = 1, the range ends at 0.875
    #   0 - 1/4, inside the ball, range 0.125                1 + 1/4, inside the ball, range 0.875
    expected = [0.4375, 0.5625, 0.6875, 0.3125, 0.125, 0.875, 0.125, 0.875]
    bounds = {"step_size": [0.125, 0.25], "epsilon": [0.0625, 0.5], "lower": [0.0, 0.125], "upper": [1.0, 0.875]}
    for step in (ops.dpgd_step, reference.dpgd_step):
        assert step(*arguments, **bounds).flatten().tolist() == expected
    in_place = arguments[0].clone()
    assert ops.dpgd_step_(in_place, *arguments[1:], **bounds) is in_place
    assert in_place.flatten().tolist() == expected


def test_step_moves_against_the_gradient():
    x = torch.full((1, 1, 1, 3), 0.5)
    grad = torch.tensor([2.0, -2.0, 0.0]).view(1, 1, 1, 3)
    out = ops.dpgd_step(x, grad, x, step_size=0.25, epsilon=1.0)
    assert out.flatten().tolist() == [0.25, 0.75, 0.5]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("zero", [0.0, -0.0, math.nan, -math.nan])
def test_no_direction_no_step(zero, dtype, device):
    x, _, _ = images((2, 3, 5, 7), dtype)
    x = x.clamp(0, 1).to(device)
    grad = torch.full_like(x, zero)
    assert same(ops.dpgd_step(x, grad, x, step_size=0.1, epsilon=0.2), x)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_infinite_and_tiny_gradients_are_directions(dtype, device):
    smallest = torch.finfo(dtype).smallest_normal
    grad = torch.tensor([math.inf, -math.inf, smallest, -smallest], dtype=dtype).view(1, 1, 1, 4).to(device)
    x = torch.full_like(grad, 0.5)
    out = ops.dpgd_step(x, grad, x, step_size=0.25, epsilon=1.0)
    assert out.flatten().tolist() == [0.25, 0.75, 0.25, 0.75]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_non_finite_pixels(dtype, device):
    """NaN in x or seed stays visible; infinities are clamped like any value."""
    x = torch.tensor([math.nan, 0.5, math.inf, -math.inf, 0.5], dtype=dtype).repeat(40).view(1, 1, 8, 25)
    seed = torch.tensor([0.5, math.nan, 0.5, 0.5, 0.5], dtype=dtype).repeat(40).view(1, 1, 8, 25)
    grad = torch.ones_like(x)
    out = ops.dpgd_step(x.to(device), grad.to(device), seed.to(device), step_size=0.25, epsilon=0.125)
    expected = torch.tensor([math.nan, math.nan, 0.625, 0.375, 0.375], dtype=dtype).repeat(40).view(1, 1, 8, 25)
    assert same(out.cpu(), expected)
    assert same(reference.dpgd_step(x, grad, seed, step_size=0.25, epsilon=0.125), expected)


# ------------------------------------------------------------------------------------- fused against reference


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_against_float64(name, dtype, device):
    s = get_sample(name, dtype, device)
    wanted = reference.dpgd_step(*(t.double() for t in s.tensors), **s.bounds)
    out = ops.dpgd_step(*s.tensors, **s.bounds)
    assert out.shape == s.x.shape
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), wanted, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_equals_its_twin_and_its_in_place_form(name, dtype, device):
    """Both twins compute in the same dtype and round once, so they agree to the last bit."""
    s = get_sample(name, dtype, device)
    before = [clone(t) for t in s.tensors]
    out = ops.dpgd_step(*s.tensors, **s.bounds)
    assert all(same(now, then) for now, then in zip(s.tensors, before, strict=True)), "an input was written"
    assert out.stride() == torch.empty_like(s.x).stride()
    assert same(out, reference.dpgd_step(*s.tensors, **s.bounds))
    x = clone(s.x)
    assert x.stride() == s.x.stride()
    ops.dpgd_step_(x, s.grad, s.seed, **s.bounds)
    assert same(x, out)
    assert all(same(now, then) for now, then in zip(s.tensors[1:], before[1:], strict=True))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("grad_dtype", DTYPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bounds", [PAPER, NORMALISED], ids=["paper", "normalised"])
def test_gradient_of_another_dtype(bounds, dtype, grad_dtype, device):
    x, grad, seed = (t.to(device) for t in images((2, 3, 9, 31), dtype))
    grad = grad.to(grad_dtype)
    out = ops.dpgd_step(x, grad, seed, **bounds)
    assert same(out, reference.dpgd_step(x, grad, seed, **bounds))


def test_gradient_below_float32_still_has_a_sign():
    x = torch.full((1, 1, 4, 8), 0.5)
    grad = torch.full_like(x, 1e-60, dtype=torch.float64)
    assert (ops.dpgd_step(x, grad, x, step_size=0.25, epsilon=1.0) == 0.25).all()


def test_untouched_holes_of_a_strided_image():
    """Writing a view in place leaves what lies between its elements alone."""
    base = torch.full((2, 3, 8, 8), 7.0)
    x = base[:, :, ::2, 1::3]
    x.copy_(torch.rand(x.shape))
    ops.dpgd_step_(x, torch.ones_like(x), x.clone(), step_size=0.1, epsilon=0.2)
    mask = torch.ones_like(base, dtype=torch.bool)
    mask[:, :, ::2, 1::3] = False
    assert (base[mask] == 7.0).all()


# ------------------------------------------------------------------------------------------- exact bounds


def assert_bounds(out, seed, epsilon, lower, upper):
    """The promises of the docstring: the range as real numbers; the ball as evaluated in float32 or float64."""

    def over(value):
        return torch.as_tensor(value, dtype=torch.float64).view(1, -1, 1, 1)

    assert (out.double() >= over(lower)).all()
    assert (out.double() <= over(upper)).all()
    if out.dtype in (torch.float32, torch.float64):
        radius = over(epsilon).to(out.dtype)
        inside = (seed >= over(lower)) & (seed <= over(upper))
        assert (out >= seed - radius)[inside].all()
        assert (out <= seed + radius)[inside].all()
    else:  # half a unit in the last place of a value below 4
        slack = TOLERANCE[out.dtype]
        inside = (seed.double() >= over(lower)) & (seed.double() <= over(upper))
        assert ((out.double() - seed.double()).abs() <= over(epsilon) + slack)[inside].all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bounds", [PAPER, NORMALISED], ids=["paper", "normalised"])
def test_bounds_hold_along_a_walk(bounds, dtype):
    seed = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(3)).to(dtype)
    x = seed
    bounds = {"lower": 0.0, "upper": 1.0, **bounds}
    for k in range(40):
        grad = torch.randn(seed.shape, generator=torch.Generator().manual_seed(k // 10)).to(dtype)
        x = ops.dpgd_step(x, grad, seed, **bounds)
        assert_bounds(x, seed, bounds["epsilon"], bounds["lower"], bounds["upper"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_bounds_that_the_dtype_cannot_hold_are_rounded_inwards(dtype):
    x = torch.tensor([-9.0, 9.0], dtype=dtype).view(1, 1, 1, 2)
    for lower, upper in [(-0.1, 0.1), (0.1, 0.3), (-2.7, -1 / 3), (1e-9, 0.7)]:
        out = ops.dpgd_step(x, x, x, step_size=0.0, epsilon=9.0, lower=lower, upper=upper).flatten()
        assert lower <= out[0].item() <= out[1].item() <= upper
        # and no further than to the next value of the dtype
        below, above = torch.tensor([-math.inf, math.inf], dtype=dtype)
        assert torch.nextafter(out[0], below).item() < lower
        assert torch.nextafter(out[1], above).item() > upper


@pytest.mark.parametrize("dtype", DTYPES)
def test_range_without_a_value_of_the_dtype(dtype):
    """lower = upper = 0.1 is held by float64 alone; the others take the value nearest to it."""
    x = torch.zeros(1, 1, 2, 2, dtype=dtype)
    out = ops.dpgd_step(x, x, x, step_size=0.1, epsilon=0.1, lower=0.1, upper=0.1)
    assert (out == torch.tensor(0.1, dtype=torch.float64).to(dtype)).all()


shapes = st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 9), st.integers(0, 40))
radii = st.floats(0, 2, allow_nan=False)
# Wide enough that every dtype holds a value in between; test_range_without_a_value_of_the_dtype has the others.
edges = st.tuples(st.floats(-2, 2), st.floats(2**-5, 2)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(data=st.data(), shape=shapes, dtype=st.sampled_from(DTYPES), grad_dtype=st.sampled_from(DTYPES))
def test_random_cases(data, shape, dtype, grad_dtype):
    """Any shape, order of the axes and bounds: equal to the twin, and within the bounds."""
    channels = shape[1]
    per_channel = channels > 0 and data.draw(st.booleans())
    count = channels if per_channel else 1
    draw_list = lambda values: data.draw(st.lists(values, min_size=count, max_size=count))  # noqa: E731
    ranges = draw_list(edges)
    bounds = {
        "step_size": draw_list(radii), "epsilon": draw_list(radii),
        "lower": [low for low, _ in ranges], "upper": [high for _, high in ranges],
    }  # fmt: skip
    if not per_channel:
        bounds = {name: values[0] for name, values in bounds.items()}
    order = data.draw(st.permutations(range(4)))
    inverse = sorted(range(4), key=order.__getitem__)
    tensors = images(tuple(shape[axis] for axis in order), dtype, seed=data.draw(st.integers(0, 99)))
    x, grad, seed = (t.permute(inverse) for t in tensors)
    if data.draw(st.booleans()):
        grad = grad.contiguous()
    grad = grad.to(grad_dtype)
    out = ops.dpgd_step(x, grad, seed, **bounds)
    assert same(out, reference.dpgd_step(x, grad, seed, **bounds))
    assert_bounds(out, seed, bounds["epsilon"], bounds["lower"], bounds["upper"])
    assert same(ops.dpgd_step_(x.clone(), grad, seed, **bounds), out)


# ---------------------------------------------------------------------------------- threads, torch, streams


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "last"])
def test_large_image_on_any_number_of_threads(layout):
    """Enough work that it is shared out, with a row length that no block size divides."""
    x, grad, seed = (t.to(memory_format=layout) for t in images((3, 3, 151, 149), torch.float32))
    wanted = reference.dpgd_step(x, grad, seed, **NORMALISED)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            assert same(ops.dpgd_step(x, grad, seed, **NORMALISED), wanted)
    finally:
        torch.set_num_threads(threads)


@needs_native
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["realistic", "per_channel", "empty_batch", "channels_last", "strided"])
@pytest.mark.parametrize("op", ["dpgd_step", "dpgd_step_"])
def test_opcheck(op, name, device):
    s = get_sample(name, torch.float32, device)
    bounds = {"lower": 0.0, "upper": 1.0, **s.bounds}
    lists = [value if isinstance(value, list) else [value] for value in bounds.values()]
    lists = dict(zip(bounds, lists, strict=True))
    arguments = (clone(s.x), s.grad, s.seed, *(lists[k] for k in ("step_size", "epsilon", "lower", "upper")))
    torch.library.opcheck(getattr(torch.ops.segp_ext, op).default, arguments)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_compiles_without_graph_breaks(device):
    s = get_sample("realistic", torch.float32, device)

    @torch.compile(fullgraph=True)
    def walk(x, grad, seed, step_size):
        moved = ops.dpgd_step(x * 1.0, grad, seed, step_size=step_size, epsilon=0.03)
        ops.dpgd_step_(moved, grad, seed, step_size=[step_size, 0.01, 0.02], epsilon=0.03)
        return moved * 2

    for step_size in (0.01, 0.02, 0.03):  # another number may recompile, but not fail
        once = reference.dpgd_step(*s.tensors, step_size=step_size, epsilon=0.03)
        twice = reference.dpgd_step(once, s.grad, s.seed, step_size=[step_size, 0.01, 0.02], epsilon=0.03)
        torch.testing.assert_close(walk(*s.tensors, step_size), twice * 2, rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_vectorised_over_a_changing_batch_under_compile(device):
    step = torch.compile(lambda x, g, s: ops.dpgd_step(x, g, s, **NORMALISED), fullgraph=True, dynamic=True)
    for batch in (2, 3, 5):
        tensors = [t.to(device) for t in images((batch, 3, 8, 8), torch.float32)]
        assert same(step(*tensors), reference.dpgd_step(*tensors, **NORMALISED))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_runs_on_the_current_stream():
    s = get_sample("realistic", torch.float32, "cuda")
    wanted = reference.dpgd_step(*s.tensors, **s.bounds)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # whatever overtakes this ran on another stream
        late = s.grad * 1.0
        s.grad.zero_()
        s.grad.add_(late)
        out = ops.dpgd_step(*s.tensors, **s.bounds)
    stream.synchronize()
    assert same(out, wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@needs_native
def test_can_be_captured_in_a_cuda_graph():
    """Nothing synchronises or allocates behind torch's back, or the capture would fail."""
    s = get_sample("per_channel", torch.float32, "cuda")
    x = s.x.clone()
    ops.dpgd_step_(x, s.grad, s.seed, **s.bounds)
    graph = torch.cuda.CUDAGraph()
    x.copy_(s.x)
    with torch.cuda.graph(graph):
        ops.dpgd_step_(x, s.grad, s.seed, **s.bounds)
    x.copy_(s.x)
    graph.replay()
    torch.cuda.synchronize()
    assert same(x, reference.dpgd_step(*s.tensors, **s.bounds))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices here")
def test_runs_on_the_device_of_its_tensors():
    s = get_sample("realistic", torch.float32, "cuda:1")
    assert torch.cuda.current_device() == 0
    assert same(ops.dpgd_step(*s.tensors, **s.bounds), reference.dpgd_step(*s.tensors, **s.bounds))
    assert torch.cuda.current_device() == 0


# ------------------------------------------------------------------------------------------- in place, autograd
