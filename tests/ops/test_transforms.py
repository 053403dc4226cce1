"""The ops under torch.func's transforms, forward-mode differentiation and torch.compile, against the ops themselves."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from matrix_cases import needs_native
from op_samples import generator
from torch import Tensor
from torch.autograd import forward_ad

from segp_ext import ops
from segp_ext.ops import _dispatch

pytestmark = pytest.mark.filterwarnings("ignore:segp_ext has no native kernels for torch.func")
EQUAL = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture(autouse=True)
def eager_is_allowed(monkeypatch):
    """Transforms take the eager path, which the suite may be run to forbid."""
    monkeypatch.delenv("SEGP_EXT_REQUIRE_NATIVE", raising=False)


@dataclass(frozen=True)
class Case:
    """An op on matrices of one shape, so that any two of them may be one tensor.

    Attributes:
        function: takes the tensors; its result, the first one where there are more.
        tensors: how many matrices, or images, it takes.
        target: whether a target follows them.
        differentiable: how many of the first have gradients.
        constants: names of the others.
    """

    name: str
    function: Callable[..., Any]
    tensors: int
    target: bool = False
    differentiable: int = 0
    constants: tuple[str, ...] = ()

    def arguments(self, count: int = 3) -> tuple[Tensor, ...]:
        """Arguments for `count` calls, stacked."""
        random = generator(len(self.name))
        shape = (count, 4, 3, 5, 5) if self.name.startswith("dpgd") else (count, 6, 8)
        made = [torch.randn(shape, generator=random, dtype=torch.float64) for _ in range(self.tensors)]
        return (*made, torch.randint(6, (count, 6), generator=random)) if self.target else tuple(made)


def first(op, settings, *arguments):
    result = op(*arguments, **settings)
    return result[0] if isinstance(result, tuple) else result


def case(name, settings, tensors, **more):
    return Case(name, partial(first, getattr(ops, name), settings), tensors, **more)


WALK = {"step_size": 0.1, "epsilon": [0.5, 0.6, 0.7], "lower": -1.0}
CASES = [
    case("dpgd_step", WALK, 3, constants=("x", "grad", "seed")),
    case("dpgd_step_", WALK, 3, constants=("x", "grad", "seed")),
    case("dual_target_loss", {"logit_scale": 5.0, "visual_weight": 0.7}, 4, target=True, differentiable=2,
         constants=("text", "prototypes")),
    case("geometry_distill", {"logit_scale": 9.0, "temperature": 3.0}, 4, differentiable=2,
         constants=("teacher", "teacher_text")),
    case("prototype_drift", {"temperature": 0.1}, 3, constants=("prototypes", "before", "after")),
    case("prototype_transfer", {}, 3, target=True, constants=("prototypes", "before", "after")),
]  # fmt: skip


def each(cases):
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


each_case = each(CASES)
each_loss = each([case for case in CASES if case.differentiable])
each_returning = each([case for case in CASES if case.name != "dpgd_step_"])
each_targeted = each([case for case in CASES if case.target])


def one_by_one(case, arguments):
    return torch.stack([case.function(*(t[k].clone() for t in arguments)) for k in range(len(arguments[0]))])


@each_case
def test_vmap_gives_what_single_calls_give(case):
    arguments = case.arguments()
    mapped = torch.vmap(case.function)(*(t.clone() for t in arguments))
    torch.testing.assert_close(mapped, one_by_one(case, arguments), **EQUAL)


@each_returning  # what is written in place must have the batch, to torch too
def test_vmap_over_one_argument_alone(case):
    arguments = case.arguments()
    for place in range(len(arguments)):
        dims = tuple(0 if i == place else None for i in range(len(arguments)))
        given = [t if i == place else t[0] for i, t in enumerate(arguments)]
        expanded = [t if i == place else t[:1].expand(t.shape) for i, t in enumerate(arguments)]
        mapped = torch.vmap(case.function, dims)(*(t.clone() for t in given))
        torch.testing.assert_close(mapped, one_by_one(case, expanded), **EQUAL)


def with_gradients(case, arguments):
    return tuple(t.clone().requires_grad_(i < case.differentiable) for i, t in enumerate(arguments))


def gradients(case, arguments, function):
    """Gradients of a sum with weights that differ."""
    given = with_gradients(case, arguments)
    result = function(*given)
    weight = torch.linspace(0.5, 2, result.numel(), dtype=result.dtype).reshape(result.shape)
    return torch.autograd.grad((weight * result).sum(), given[: case.differentiable])


@each_loss
def test_a_backward_pass_reaches_through_vmap(case):
    arguments = case.arguments()
    got = gradients(case, arguments, torch.vmap(case.function))
    wanted = gradients(case, arguments, lambda *given: one_by_one(case, given))
    for mine, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(mine, theirs, **EQUAL)


@each_loss
def test_functional_derivatives(case):
    arguments = tuple(t[0] for t in case.arguments())

    def total(*given):
        return case.function(*given).sum()

    given = with_gradients(case, arguments)
    inputs = given[: case.differentiable]
    wanted = torch.autograd.grad(total(*given), inputs)
    for mine, theirs in zip(torch.func.grad(total, argnums=(0, 1))(*arguments), wanted, strict=True):
        torch.testing.assert_close(mine, theirs, **EQUAL)

    direction = torch.randn(arguments[0].shape, generator=generator(4), dtype=torch.float64)
    along = (wanted[0] * direction).sum()
    rest = arguments[1:]
    _, tangent = torch.func.jvp(lambda first: total(first, *rest), (arguments[0],), (direction,))
    torch.testing.assert_close(tangent, along, **EQUAL)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(arguments[0], direction)
        torch.testing.assert_close(forward_ad.unpack_dual(total(dual, *rest)).tangent, along, **EQUAL)
    hessian = torch.func.hessian(lambda first: total(first, *rest))(arguments[0])
    assert hessian.shape == arguments[0].shape * 2 and hessian.abs().max() > 0.01


@each_loss
def test_gradients_sample_by_sample(case):
    arguments = case.arguments()
    got = torch.vmap(torch.func.grad(lambda *given: case.function(*given).sum()))(*arguments)
    for k in range(len(got)):
        given = with_gradients(case, tuple(t[k] for t in arguments))
        torch.testing.assert_close(got[k], torch.autograd.grad(case.function(*given).sum(), given[0])[0], **EQUAL)


@each_loss
def test_many_incoming_gradients_at_once(case):
    """Which torch passes through the backward pass by vmap."""
    given = with_gradients(case, tuple(t[0] for t in case.arguments()))
    inputs = given[: case.differentiable]
    result = case.function(*given)
    incoming = torch.randn(3, *result.shape, generator=generator(2), dtype=torch.float64)
    batched = torch.autograd.grad(result, inputs, incoming, is_grads_batched=True, retain_graph=True)
    for k in range(3):
        alone = torch.autograd.grad(case.function(*given), inputs, incoming[k])
        for mine, theirs in zip(batched, alone, strict=True):
            torch.testing.assert_close(mine[k], theirs, **EQUAL)


@each_case
def test_what_has_no_gradient_is_refused_in_transforms_too(case):
    arguments = case.arguments()
    for place, name in enumerate(case.constants, start=case.differentiable):
        message = f"{case.name}: {name} requires grad, but the op has no gradient"
        outside = [t.clone().requires_grad_(i == place) for i, t in enumerate(arguments)]
        with pytest.raises(ValueError, match=message):
            torch.vmap(case.function)(*outside)

        def of_one(value, place=place):
            given = [t[0].clone() for t in arguments]
            given[place] = value
            return case.function(*given).sum()

        value = arguments[place][0]
        with pytest.raises(ValueError, match=message):
            torch.func.grad(of_one)(value)
        with pytest.raises(ValueError, match=message):
            torch.func.jvp(of_one, (value,), (value,))
        with torch.no_grad():
            torch.vmap(case.function)(*(t.detach().clone() for t in arguments))


@needs_native
def test_the_eager_path_of_transforms_is_said_once(monkeypatch):
    monkeypatch.setattr(_dispatch, "_warned", set())
    matrices = torch.randn(2, 4, 5), torch.randn(2, 6, 5), torch.randn(2, 6, 5)
    drift = torch.vmap(partial(ops.prototype_drift, temperature=0.1))
    with pytest.warns(RuntimeWarning, match="no native kernels for torch.func's transforms"):
        drift(*matrices)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drift(*matrices)


@needs_native
@each_case
def test_transforms_are_refused_where_native_is_demanded(case, monkeypatch):
    monkeypatch.setattr(_dispatch, "_warned", set())
    monkeypatch.setenv("SEGP_EXT_REQUIRE_NATIVE", "1")
    with pytest.raises(
        RuntimeError, match="transforms and forward-mode differentiation, and SEGP_EXT_REQUIRE_NATIVE=1"
    ):
        torch.vmap(case.function)(*case.arguments())


@each_targeted
def test_a_target_out_of_range_in_vmap(case):
    arguments = case.arguments()
    arguments[-1][1, 2] = 6
    result = torch.vmap(case.function)(*arguments)
    assert result[0].isfinite().all() and result[2].isfinite().all() and result[1].isnan().any()


# ------------------------------------------------------------------------------------------------ torch.compile


@each_case
def test_compiles_where_two_arguments_are_one_tensor(case):
    """A model without a projection (SigLIP) has one tensor as embedding and as raw feature; a walk begins at its seed."""
    for one, other in itertools.combinations(range(case.tensors), 2):
        torch._dynamo.reset()  # each as the first one that it sees
        arguments = [t[0] for t in case.arguments()]
        fixed = {one, other} if other >= case.differentiable else set()  # what has no gradient may not require one
        results = []
        for function in (case.function, torch.compile(case.function, fullgraph=True, backend="aot_eager")):
            given = [
                t.clone().requires_grad_(i < case.differentiable and i not in fixed) for i, t in enumerate(arguments)
            ]
            given[other] = given[one]
            result = function(*given)
            inputs = list({id(t): t for t in given if t.requires_grad}.values())
            found = torch.autograd.grad(result.sum(), inputs) if inputs else ()
            results.append([result.detach(), *found])
        for mine, theirs in zip(*results, strict=True):
            torch.testing.assert_close(mine, theirs, **EQUAL)


@each_returning
def test_vmap_compiles(case):
    torch._dynamo.reset()
    arguments = case.arguments()
    compiled = torch.compile(torch.vmap(case.function), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*arguments), one_by_one(case, arguments), **EQUAL)
