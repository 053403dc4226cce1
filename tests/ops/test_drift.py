from __future__ import annotations

import math

import pytest
import torch
from op_samples import DEVICES, DTYPES, MatrixSample, matrix_samples

from segp_ext import ops, reference

SAMPLES = [sample.name for sample in matrix_samples()]
# Float32 cosines divided by a temperature of 0.1, then a weighted sum of values below about 10; the extreme
# sample's rows are a thousand times larger, hence the relative part.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-13, torch.float16: 2e-5, torch.bfloat16: 2e-5}


def sample(name: str, dtype: torch.dtype = torch.float64) -> MatrixSample:
    return next(s for s in matrix_samples(dtype) if s.name == name)


def test_by_hand_with_equal_weights():
    """Two anchors at 45 degrees on either side of the first prototype weigh 1/2 each; the second looks away."""
    prototypes = torch.tensor([[3.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    before = torch.tensor([[1.0, 1.0], [2.0, -2.0]], dtype=torch.float64)
    after = before + torch.tensor([[2.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    drift, proximity = ops.prototype_drift(prototypes, before, after, temperature=0.1)
    torch.testing.assert_close(drift, torch.tensor([[1.0, 2.0], [1.0, 2.0]], dtype=torch.float64))
    assert proximity.tolist() == pytest.approx([math.sqrt(0.5), 0.0], rel=1e-14)


def test_by_hand_with_unequal_weights():
    """Cosines 1 and 0 at temperature 1 / ln 3 weigh 3/4 and 1/4."""
    prototypes = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    before = torch.tensor([[5.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    after = before + torch.tensor([[4.0, 0.0], [0.0, 8.0]], dtype=torch.float64)
    drift, proximity = ops.prototype_drift(prototypes, before, after, temperature=1 / math.log(3))
    torch.testing.assert_close(drift, torch.tensor([[3.0, 2.0]], dtype=torch.float64))
    assert proximity.item() == pytest.approx(0.75, rel=1e-14)


def test_a_space_that_shifts_as_a_whole_takes_its_prototypes_along():
    s = sample("realistic")
    shift = torch.linspace(-1, 1, s.rows.shape[1], dtype=torch.float64)
    drift, _ = ops.prototype_drift(s.classes, s.rows, s.rows + shift, temperature=0.1)
    torch.testing.assert_close(drift, shift.expand_as(drift))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SAMPLES)
def test_against_float64(name, dtype, device):
    s = sample(name, dtype)
    given = (s.classes, s.rows, s.other_rows)
    drift, proximity = ops.prototype_drift(*(t.to(device) for t in given), temperature=0.1)
    wanted, wanted_proximity = reference.prototype_drift(*(t.double() for t in given), temperature=0.1)
    tolerance = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    assert drift.dtype == proximity.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(drift.cpu().double(), wanted, **tolerance)
    torch.testing.assert_close(proximity.cpu().double(), wanted_proximity, **tolerance)
    assert (proximity >= 0).all()
    assert (proximity <= 1 + 1e-6).all()


def test_a_small_temperature_picks_the_nearest_anchor():
    """Similarities of +-1 over 1e-3 would overflow an exponential that is not shifted by its maximum."""
    before = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.9, 0.1]])
    after = before + torch.tensor([[1.0, 2.0], [5.0, 5.0], [9.0, 9.0]])
    drift, proximity = ops.prototype_drift(torch.tensor([[1.0, 0.0]]), before, after, temperature=1e-4)
    torch.testing.assert_close(drift, torch.tensor([[1.0, 2.0]]))
    torch.testing.assert_close(proximity, torch.tensor([1.0]))


def test_no_anchors_no_drift():
    drift, proximity = ops.prototype_drift(torch.rand(3, 4), torch.rand(0, 4), torch.rand(0, 4), temperature=0.1)
    assert drift.tolist() == [[0.0] * 4] * 3
    assert proximity.tolist() == [0.0] * 3


def test_no_prototypes():
    drift, proximity = ops.prototype_drift(torch.rand(0, 4), torch.rand(5, 4), torch.rand(5, 4), temperature=0.1)
    assert drift.shape == (0, 4)
    assert proximity.shape == (0,)


def test_zero_rows_stay_finite():
    s = sample("zero_vectors")
    drift, proximity = ops.prototype_drift(s.classes, s.rows, s.other_rows, temperature=0.1)
    assert drift.isfinite().all()
    assert proximity[1] == 0  # a prototype without direction is near nothing
    torch.testing.assert_close(drift[1], (s.other_rows - s.rows).mean(0))


def test_compiles_without_graph_breaks():
    s = sample("prime")
    step = torch.compile(lambda *t: ops.prototype_drift(*t, temperature=0.1), fullgraph=True, backend="aot_eager")
    for got, wanted in zip(step(s.classes, s.rows, s.other_rows),
                           ops.prototype_drift(s.classes, s.rows, s.other_rows, temperature=0.1), strict=True):  # fmt: skip
        torch.testing.assert_close(got, wanted)


BROKEN = [
    ("prototypes_dtype", "prototypes must be float32", TypeError, {0: torch.zeros(5, 13).int()}, 0.1),
    ("prototypes_dims", r"prototypes must be \[C, Dr\]", ValueError, {0: torch.zeros(13)}, 0.1),
    ("before_width", "before must have the width of prototypes", ValueError, {1: torch.zeros(7, 12)}, 0.1),
    ("after_shape", r"after must be \[A, Dr\] like before", ValueError, {2: torch.zeros(6, 13)}, 0.1),
    ("after_device", "after must be on the device", ValueError, {2: torch.zeros(7, 13, device="meta")}, 0.1),
    ("temperature", "temperature must be from 1e-06 to 1e\\+06; got -0.1", ValueError, {}, -0.1),
]


@pytest.mark.parametrize(("message", "kind", "changes", "temperature"), [case[1:] for case in BROKEN],
                         ids=[case[0] for case in BROKEN])  # fmt: skip
def test_errors_name_op_and_argument(message, kind, changes, temperature):
    s = sample("prime")
    given = [changes.get(i, t) for i, t in enumerate((s.classes, s.rows, s.other_rows))]
    with pytest.raises(kind, match=f"^prototype_drift: {message}"):
        ops.prototype_drift(*given, temperature=temperature)
