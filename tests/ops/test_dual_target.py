from __future__ import annotations

import math

import pytest
import torch
from op_samples import DEVICES, DTYPES, MatrixSample, matrix_samples

from segp_ext import ops, reference

SETTINGS = {"logit_scale": 100.0, "visual_weight": 1.0}
SAMPLES = [sample.name for sample in matrix_samples()]
# The inputs' own rounding, seen through a logit scale of 100: two units in the last place (relative) of a cosine.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-12, torch.float16: 1e-4, torch.bfloat16: 1e-4}


def sample(name: str, dtype: torch.dtype = torch.float64) -> MatrixSample:
    return next(s for s in matrix_samples(dtype) if s.name == name)


def arguments(s: MatrixSample) -> tuple[torch.Tensor, ...]:
    """`other_*` stand for the raw space."""
    return s.rows, s.other_rows, s.classes, s.other_classes, s.target


def test_by_hand():
    """cos(v, u) = (1, 0) at s = ln 3 gives softmax (3/4, 1/4); cos(z, p_0) = 3/5; lambda = 2."""
    loss = ops.dual_target_loss(
        torch.tensor([[2.0, 0.0], [2.0, 0.0]], dtype=torch.float64),
        torch.tensor([[3.0, 4.0], [0.0, 1.0]], dtype=torch.float64),
        torch.tensor([[1.0, 0.0], [0.0, 5.0]], dtype=torch.float64),
        torch.tensor([[2.0, 0.0], [0.0, -1.0]], dtype=torch.float64),
        torch.tensor([0, 1]),
        logit_scale=math.log(3),
        visual_weight=2.0,
    )
    assert loss.tolist() == pytest.approx([math.log(4 / 3) + 2 * (1 - 0.6), math.log(4) + 2 * (1 + 1)], rel=1e-14)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SAMPLES)
def test_against_float64(name, dtype, device):
    s = sample(name, dtype)
    loss = ops.dual_target_loss(*(t.to(device) for t in arguments(s)), **SETTINGS)
    exact = [t.double() if t.is_floating_point() else t for t in arguments(s)]
    wanted = reference.dual_target_loss(*exact, **SETTINGS)
    assert loss.shape == s.target.shape
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(loss.cpu().double(), wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "zero_vectors"])
def test_gradients(name):
    s = sample(name)
    rows, features = s.rows.clone().requires_grad_(), s.other_rows.clone().requires_grad_()

    def loss(rows, features):
        return ops.dual_target_loss(rows, features, s.classes, s.other_classes, s.target, logit_scale=7.0,
                                    visual_weight=0.7)  # fmt: skip

    assert torch.autograd.gradcheck(loss, (rows, features), fast_mode=name == "realistic")


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_rows_have_finite_values_and_zero_gradients(dtype):
    s = sample("zero_vectors", dtype)
    rows = s.rows.clone().requires_grad_()
    features = s.other_rows.clone().requires_grad_()
    loss = ops.dual_target_loss(rows, features, s.classes, s.other_classes, s.target, **SETTINGS)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert loss[2].item() > 0
    assert rows.grad.isfinite().all()
    assert features.grad.isfinite().all()
    assert (rows.grad[2] == 0).all()
    assert (features.grad[0] == 0).all()
    assert (rows.grad[0] != 0).any()


def test_a_sample_does_not_depend_on_its_batch():
    s = sample("realistic")
    whole = ops.dual_target_loss(*arguments(s), **SETTINGS)
    one = ops.dual_target_loss(s.rows[3:4], s.other_rows[3:4], s.classes, s.other_classes, s.target[3:4], **SETTINGS)
    torch.testing.assert_close(whole[3:4], one, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("wrong", [-1, 5, 2**40])
def test_target_out_of_range(wrong):
    s = sample("prime")
    target = s.target.clone()
    target[3] = wrong
    with pytest.raises(ValueError, match=rf"dual_target_loss: target must be in \[0, 5\); got {wrong}"):
        ops.dual_target_loss(*arguments(s)[:4], target, **SETTINGS)
    loss = reference.dual_target_loss(*arguments(s)[:4], target, **SETTINGS)
    assert loss.isnan().tolist() == [False, False, False, True, False, False, False]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_target_out_of_range_on_cuda_is_nan():
    s = sample("prime")
    target = s.target.clone()
    target[3] = 5
    loss = ops.dual_target_loss(*(t.cuda() for t in (*arguments(s)[:4], target)), **SETTINGS)
    assert loss.isnan().tolist() == [False, False, False, True, False, False, False]


def test_compiles_without_graph_breaks():
    s = sample("prime")
    step = torch.compile(lambda *t: ops.dual_target_loss(*t, **SETTINGS), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(step(*arguments(s)), ops.dual_target_loss(*arguments(s), **SETTINGS))


BROKEN = [
    ("embedding_type", "embedding must be a Tensor", TypeError, {0: None}, {}),
    ("embedding_dtype", "embedding must be float32", TypeError, {0: torch.zeros(7, 13, dtype=torch.int64)}, {}),
    ("feature_dims", r"feature must be \[B, Dr\]", ValueError, {1: torch.zeros(7)}, {}),
    ("feature_rows", "feature must have a row per row of embedding, 7", ValueError, {1: torch.zeros(6, 13)}, {}),
    ("text_width", "text must have the width of embedding, 13", ValueError, {2: torch.zeros(5, 12)}, {}),
    ("prototypes_width", "prototypes must have the width of feature", ValueError, {3: torch.zeros(5, 12)}, {}),
    ("prototypes_rows", "prototypes must have a row per row of text, 5", ValueError, {3: torch.zeros(4, 13)}, {}),
    ("target_dtype", "target must be an int64 Tensor; got torch.int32", TypeError, {4: torch.zeros(7).int()}, {}),
    ("target_shape", r"target must be \[7\]", ValueError, {4: torch.zeros(7, 1).long()}, {}),
    ("no_class", "text must have at least one class", ValueError, {2: torch.zeros(0, 13), 3: torch.zeros(0, 13)}, {}),
    ("device", "text must be on the device of embedding", ValueError, {2: torch.zeros(5, 13, device="meta")}, {}),
    ("scale", "logit_scale must be from 0 to 1e\\+06; got -1", ValueError, {}, {"logit_scale": -1.0}),
    ("weight", "visual_weight must be from -1e\\+06 to 1e\\+06; got nan", ValueError, {}, {"visual_weight": math.nan}),
]


@pytest.mark.parametrize(("message", "kind", "changes", "settings"), [case[1:] for case in BROKEN],
                         ids=[case[0] for case in BROKEN])  # fmt: skip
def test_errors_name_op_and_argument(message, kind, changes, settings):
    given = [changes.get(i, t) for i, t in enumerate(arguments(sample("prime")))]
    with pytest.raises(kind, match=f"^dual_target_loss: {message}"):
        ops.dual_target_loss(*given, **{**SETTINGS, **settings})
