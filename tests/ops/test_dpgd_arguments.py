"""Arguments of `dpgd_step`: memory that they share, gradients that they require, and what is refused."""

from __future__ import annotations

import math
import os

import pytest
import torch
from matrix_cases import needs_native
from op_samples import PAPER, images

import segp_ext
from segp_ext import ops

NATIVE = segp_ext.build_info()["ops_path"] == "native"


def test_in_place_where_the_inputs_are_x_itself():
    x, grad, _ = images((2, 3, 8, 8), torch.float32)
    wanted = ops.dpgd_step(x, grad, x, **PAPER)
    walker = x.clone()
    assert torch.equal(ops.dpgd_step_(walker, grad, walker, **PAPER), wanted)
    walker = x.clone()
    assert torch.equal(ops.dpgd_step_(walker, walker, walker, **PAPER), ops.dpgd_step(x, x, x, **PAPER))


@needs_native
def test_in_place_refuses_shared_memory():
    base = torch.rand(3, 3, 4, 4)
    other = torch.rand(2, 3, 4, 4)
    with pytest.raises(RuntimeError, match=r"dpgd_step_: x .*share memory"):
        ops.dpgd_step_(torch.rand(1, 3, 4, 4).expand(2, 3, 4, 4), other, other, **PAPER)
    with pytest.raises(RuntimeError, match=r"dpgd_step_: x .*shares memory with grad"):
        ops.dpgd_step_(base[:2], base[1:], other, **PAPER)
    with pytest.raises(RuntimeError, match=r"dpgd_step_: x .*shares memory with seed"):
        ops.dpgd_step_(base[:2], other, base[1:], **PAPER)
    with pytest.raises(RuntimeError, match=r"dpgd_step_: x .*shares memory with seed"):
        square = base[:2]
        ops.dpgd_step_(square, other, square.transpose(2, 3), **PAPER)


def test_in_place_is_noticed_by_autograd():
    weight = torch.rand(1, 3, 2, 2, requires_grad=True)
    x = torch.rand(1, 3, 2, 2)
    saved = (weight * x).sum()
    with torch.no_grad():
        ops.dpgd_step_(x, torch.ones_like(x), x.clone(), **PAPER)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        saved.backward()


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("op", [ops.dpgd_step, ops.dpgd_step_])
def test_raises_under_autograd(op, which):
    tensors = list(images((1, 3, 4, 4), torch.float32))
    tensors[which].requires_grad_()
    name = ("x", "grad", "seed")[which]
    with pytest.raises(ValueError, match=f"{op.__name__}: {name} requires grad, but the op has no gradient"):
        op(*tensors, **PAPER)
    with torch.no_grad():
        assert not op(*tensors, **PAPER).isnan().any()


# ------------------------------------------------------------------------------------------------- errors

GOOD = (torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4))
BROKEN = [
    ("x", "x must be a Tensor", TypeError, [[1.0], *GOOD[1:]], {}),
    ("x_dtype", "x must be float32", TypeError, [GOOD[0].int(), *GOOD[1:]], {}),
    ("grad_dtype", "grad must be float32", TypeError, [GOOD[0], GOOD[1].bool(), GOOD[2]], {}),
    ("seed_dtype", "seed must have the dtype of x", TypeError, [*GOOD[:2], GOOD[2].double()], {}),
    ("x_dims", r"x must be \[B, C, H, W\]; got \[3, 4, 4\]", ValueError, [t[0] for t in GOOD], {}),
    ("grad_shape", r"grad must be .* like x; got \[1, 3, 4, 4\]", ValueError, [GOOD[0], GOOD[1][:1], GOOD[2]], {}),
    ("seed_shape", "seed must be .* like x", ValueError, [*GOOD[:2], GOOD[2][..., :2]], {}),
    ("device", "grad must be on the device of x", ValueError, [GOOD[0], GOOD[1].to("meta"), GOOD[2]], {}),
    ("step_negative", "step_size must be finite and >= 0; got -0.1", ValueError, GOOD, {"step_size": -0.1}),
    ("step_infinite", "step_size must be finite", ValueError, GOOD, {"step_size": math.inf}),
    ("epsilon_negative", "epsilon must be finite and >= 0", ValueError, GOOD, {"epsilon": [0.1, -0.1, 0.1]}),
    ("epsilon_nan", "epsilon must be finite", ValueError, GOOD, {"epsilon": math.nan}),
    ("lower_infinite", "lower must be finite; got -inf", ValueError, GOOD, {"lower": -math.inf}),
    ("upper_nan", "upper must be finite", ValueError, GOOD, {"upper": math.nan}),
    ("crossed", "lower must be <= upper; got 2.0 > 1.0", ValueError, GOOD, {"lower": 2.0}),
    ("crossed_channel", "lower must be <= upper; got 0.5 > 0.25", ValueError, GOOD,
     {"lower": 0.5, "upper": [1.0, 0.25, 1.0]}),
    ("too_few", "epsilon must have one value per channel, 3; got 2", ValueError, GOOD, {"epsilon": [0.1, 0.2]}),
    ("too_many", "lower must have one value per channel, 3; got 4", ValueError, GOOD, {"lower": torch.zeros(4)}),
    ("matrix", "upper must be a number or one number per channel", ValueError, GOOD, {"upper": torch.ones(3, 1)}),
    ("text", "step_size must be a number", TypeError, GOOD, {"step_size": "0.1"}),
    ("boolean", "step_size must be a number", TypeError, GOOD, {"step_size": True}),
    ("list_of_text", "epsilon must hold numbers", TypeError, GOOD, {"epsilon": [0.1, "0.2", 0.3]}),
]  # fmt: skip


@pytest.mark.parametrize(("message", "kind", "tensors", "bounds"), [case[1:] for case in BROKEN],
                         ids=[case[0] for case in BROKEN])  # fmt: skip
@pytest.mark.parametrize("op", [ops.dpgd_step, ops.dpgd_step_])
def test_errors_name_op_and_argument(op, message, kind, tensors, bounds):
    with pytest.raises(kind, match=f"^{op.__name__}: {message}"):
        op(*tensors, **{**PAPER, **bounds})


@needs_native
def test_the_op_itself_protects_memory():
    """torch.ops.segp_ext.dpgd_step bypasses Python's checks, but not C++'s."""
    op = torch.ops.segp_ext.dpgd_step.default
    one = [0.1]
    with pytest.raises(RuntimeError, match="dpgd_step: grad must be"):
        op(GOOD[0], GOOD[1][:1], GOOD[2], one, one, one, one)
    with pytest.raises(RuntimeError, match="dpgd_step: step_size must have 1 or 3 values"):
        op(*GOOD, [0.1, 0.1], one, one, one)
    with pytest.raises(RuntimeError, match="dpgd_step: x must be float32"):
        op(GOOD[0].int(), GOOD[1], GOOD[2], one, one, one, one)
    with pytest.raises(RuntimeError, match="dpgd_step: epsilon must be finite"):
        op(*GOOD, one, [math.nan], one, one)


def test_integers_and_tensors_are_numbers():
    x, grad, seed = images((1, 3, 4, 4), torch.float32)
    wanted = ops.dpgd_step(x, grad, seed, step_size=1.0, epsilon=[0.1, 0.2, 0.3], lower=0.0, upper=1.0)
    for epsilon in ((0.1, 0.2, 0.3), torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)):
        assert torch.equal(ops.dpgd_step(x, grad, seed, step_size=1, epsilon=epsilon, upper=torch.tensor(1.0)), wanted)


@pytest.mark.skipif(os.environ.get("SEGP_EXT_REQUIRE_NATIVE") != "1", reason="SEGP_EXT_REQUIRE_NATIVE is not set")
def test_the_native_path_runs_where_it_was_demanded():
    assert NATIVE
    assert "cpu" in segp_ext.build_info()["devices"]
