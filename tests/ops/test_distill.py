from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from op_samples import DEVICES, DTYPES, MatrixSample, generator, matrix_samples

from segp_ext import ops, reference

SETTINGS = {"logit_scale": 100.0, "temperature": 20.0}
SAMPLES = [sample.name for sample in matrix_samples()]
# Sharpness 5 on float32 cosines; tau^2 = 400 amplifies what is left of two nearly equal logarithms.
TOLERANCE = {torch.float32: 2e-4, torch.float64: 1e-11, torch.float16: 2e-4, torch.bfloat16: 2e-4}


def sample(name: str, dtype: torch.dtype = torch.float64) -> MatrixSample:
    return next(s for s in matrix_samples(dtype) if s.name == name)


def arguments(s: MatrixSample) -> tuple[torch.Tensor, ...]:
    return s.rows, s.classes, s.other_rows, s.other_classes


def test_by_hand():
    """ACGD of two anchors and three classes, the classes along the axes, s / tau = ln 2.

    Anchor 1: the teacher looks at class 1, (2, 1, 1)/4, the student at class 2, (1, 2, 1)/4:
              KL = 2/4 ln 2 + 1/4 ln 1/2 + 0 = 1/4 ln 2.
    Anchor 2: both look at class 3: KL = 0.
    tau^2 times the mean = 4 * (1/8) ln 2.
    """
    axes = torch.eye(3, dtype=torch.float64)
    teacher = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    student = torch.tensor([[0.0, 0.5, 0.0], [0.0, 0.0, 9.0]], dtype=torch.float64)
    loss = ops.geometry_distill(student, 7 * axes, teacher, 2 * axes, logit_scale=2 * math.log(2), temperature=2.0)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(math.log(2) / 2, rel=1e-14)


def test_equal_students_lose_nothing():
    s = sample("prime")
    loss = ops.geometry_distill(s.rows, s.classes, s.rows * 3, s.classes / 2, **SETTINGS)
    assert loss.item() == pytest.approx(0, abs=1e-12)


def near_teacher(apart, dtype, seed=0):
    """Students that differ little from their teachers."""
    random = generator(seed)
    teacher, text = (torch.randn(n, 64, generator=random) for n in (32, 90))
    moved = [t + apart * torch.randn(t.shape, generator=random) for t in (teacher, text)]
    return tuple(t.to(dtype) for t in (*moved, teacher, text))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("apart", [1e-4, 1e-2, 0.2])
def test_what_is_left_of_small_differences(apart, device):
    """tau^2 = 400 makes rounding show: a sum of terms of both signs is off by 1e-4 here, whatever the loss."""
    given = near_teacher(apart, torch.float32)
    loss = ops.geometry_distill(*(t.to(device) for t in given), **SETTINGS)
    wanted = reference.geometry_distill(*(t.double() for t in given), **SETTINGS)
    assert 0 < wanted < 20
    torch.testing.assert_close(loss.cpu().double(), wanted, rtol=2e-3, atol=0)


@pytest.mark.parametrize("path", ["native", "eager"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_never_negative(path, dtype):
    with ops.eager() if path == "eager" else nullcontext():
        for seed in range(20):
            for apart in (0, 1e-7, 1e-5):
                assert ops.geometry_distill(*near_teacher(apart, dtype, seed), **SETTINGS) >= 0


def test_the_references_gradient_is_that_of_the_unrounded_loss():
    """Where rounding would make the loss negative, it is 0, and its gradient is not."""
    lost = 0
    for seed in range(20):
        given = near_teacher(1e-5, torch.float32, seed)
        student = given[0].clone().requires_grad_()
        loss = reference.geometry_distill(student, *given[1:], **SETTINGS)
        lost += loss.item() == 0
        exact = given[0].double().requires_grad_()
        reference.geometry_distill(exact, *(t.double() for t in given[1:]), **SETTINGS).backward()
        loss.backward()
        assert (student.grad - exact.grad).norm() < 0.1 * exact.grad.norm()
    assert lost > 0


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SAMPLES)
def test_against_float64(name, dtype, device):
    s = sample(name, dtype)
    loss = ops.geometry_distill(*(t.to(device) for t in arguments(s)), **SETTINGS)
    wanted = reference.geometry_distill(*(t.double() for t in arguments(s)), **SETTINGS)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.item() >= 0
    torch.testing.assert_close(loss.cpu().double(), wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_matches_kl_div():
    """An independent formulation, at a logit scale that makes some probabilities vanish."""
    s = sample("extreme_logits")
    unit = torch.nn.functional.normalize
    student = torch.log_softmax(500 * unit(s.rows) @ unit(s.classes).T, dim=1)
    teacher = torch.log_softmax(500 * unit(s.other_rows) @ unit(s.other_classes).T, dim=1)
    wanted = torch.nn.functional.kl_div(student, teacher, reduction="batchmean", log_target=True)
    loss = ops.geometry_distill(*arguments(s), logit_scale=500.0, temperature=1.0)
    torch.testing.assert_close(loss, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "zero_vectors"])
def test_gradients(name):
    s = sample(name)
    rows, classes = s.rows.clone().requires_grad_(), s.classes.clone().requires_grad_()

    def loss(rows, classes):  # not the plain loss, so that the incoming gradient is not 1
        return 0.3 * ops.geometry_distill(rows, classes, s.other_rows, s.other_classes, logit_scale=10.0,
                                          temperature=2.0)  # fmt: skip

    assert torch.autograd.gradcheck(loss, (rows, classes), fast_mode=name == "realistic")


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_rows_have_zero_gradients(dtype):
    s = sample("zero_vectors", dtype)
    rows, classes = s.rows.clone().requires_grad_(), s.classes.clone().requires_grad_()
    loss = ops.geometry_distill(rows, classes, s.other_rows, s.other_classes, **SETTINGS)
    loss.backward()
    assert loss.isfinite()
    assert rows.grad.isfinite().all()
    assert (rows.grad[2] == 0).all()
    assert (classes.grad[1] == 0).all()
    assert (rows.grad[0] != 0).any()


def test_nothing_to_distill_is_zero():
    full, none = torch.rand(3, 4, requires_grad=True), torch.rand(0, 4, requires_grad=True)
    for student, text in ((none, full), (full, none)):
        loss = ops.geometry_distill(student, text, student.detach(), text.detach(), **SETTINGS)
        assert loss.item() == 0
        loss.backward()
        assert student.grad.isfinite().all()


def test_compiles_without_graph_breaks():
    s = sample("prime")
    step = torch.compile(lambda *t: ops.geometry_distill(*t, **SETTINGS), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(step(*arguments(s)), ops.geometry_distill(*arguments(s), **SETTINGS))


BROKEN = [
    ("student_type", "student must be a Tensor; got list", TypeError, {0: [1.0]}, {}),
    ("text_dtype", "student_text must be float32", TypeError, {1: torch.zeros(5, 13).bool()}, {}),
    ("text_width", "student_text must have the width of student, 13", ValueError,
     {1: torch.zeros(5, 12), 3: torch.zeros(5, 12)}, {}),
    ("teacher_shape", r"teacher must be \[B, De\] like student; got \[6, 13\] and \[7, 13\]", ValueError,
     {2: torch.zeros(6, 13)}, {}),
    ("teacher_text_shape", r"teacher_text must be \[C, De\] like student_text", ValueError,
     {3: torch.zeros(4, 13)}, {}),
    ("teacher_device", "teacher must be on the device of student", ValueError,
     {2: torch.zeros(7, 13, device="meta")}, {}),
    ("scale", r"logit_scale must be from 0 to 1e\+06; got inf", ValueError, {}, {"logit_scale": math.inf}),
    ("temperature", "temperature must be from 1e-06 to 1e\\+06; got 0", ValueError, {}, {"temperature": 0.0}),
    ("temperature_type", "temperature must be a number", TypeError, {}, {"temperature": "20"}),
]  # fmt: skip


@pytest.mark.parametrize(("message", "kind", "changes", "settings"), [case[1:] for case in BROKEN],
                         ids=[case[0] for case in BROKEN])  # fmt: skip
def test_errors_name_op_and_argument(message, kind, changes, settings):
    given = [changes.get(i, t) for i, t in enumerate(arguments(sample("prime")))]
    with pytest.raises(kind, match=f"^geometry_distill: {message}"):
        ops.geometry_distill(*given, **{**SETTINGS, **settings})
