"""What a process sets for all of torch changes nothing here: default dtype and device, gradients off, inference mode ..."""

from contextlib import contextmanager, nullcontext

import pytest
import torch
from made import made_images

import segp_ext
from segp_ext import ops
from segp_ext.config import MethodConfig
from segp_ext.data.images import Images
from segp_ext.method.learner import SeGPCL
from segp_ext.run.evaluation import EvaluationSet, Evaluator


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def matmul_precision():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


STATES = {
    "float64 by default": lambda: default_dtype(torch.float64),
    "float16 by default": lambda: default_dtype(torch.float16),
    "another device by default": lambda: torch.device("meta"),  # on which nothing can be computed
    "deterministic algorithms": deterministic,
    "matrix products in medium precision": matmul_precision,
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "search for anomalies": torch.autograd.detect_anomaly,
}
IMAGES = [image for image, _ in made_images(4, 2)]


def config(method):
    config = MethodConfig(method=method)
    config.lora.rank, config.training.epochs, config.training.batch_size = 4, 2, 8
    config.anchors.seeds_per_class = config.anchors.steps = 2
    config.prototypes.random_features = 20
    return config


def story(method, folder, state=nullcontext):
    """Two tasks, with evaluation, prediction, saving and loading; each step in `state`. The last predictions and the prototypes."""
    with state():
        learner = SeGPCL(segp_ext.load_clip("glyph"), config(method))
        tests = [
            EvaluationSet([str(2 * t), str(2 * t + 1)], Images(made_images(2, 2), learner.reader)) for t in range(2)
        ]
        evaluator = Evaluator(learner, tests, evaluate_global=True)
    for task in range(2):
        images = Images(made_images(2, 8, seed=task), learner.reader)
        with state():
            learner.learn_task(images, [str(2 * task), str(2 * task + 1)])
            evaluator.after_task()
            predicted = learner.predict(IMAGES)
            if learner.calibration is not None:
                predicted += learner.predict(IMAGES, others=["a dog"]) + learner.predict(IMAGES, unknown=0.2)
            learner.save(folder / "saved")
        with state():
            learner = SeGPCL.load(folder / "saved")
            evaluator.learner = learner
            assert learner.predict(IMAGES) == predicted[: len(IMAGES)]
    return predicted, learner.prototypes


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    known = {}

    def of(method):
        if method not in known:
            known[method] = story(method, tmp_path_factory.mktemp("plain"))
        return known[method]

    return of


@pytest.mark.parametrize(
    ("method", "state"),
    [
        ("segp", "another device by default"),
        *(pytest.param("auto", state, marks=pytest.mark.slow) for state in STATES),
        *(
            pytest.param(method, state, marks=pytest.mark.slow)
            for method in ("segp", "adc", "ranpac", "rda")
            for state in ("float64 by default", "inference mode")
        ),
    ],
)
def test_learning_predicting_saving_and_loading_are_as_ever(method, state, plain, tmp_path):
    predicted, prototypes = story(method, tmp_path, STATES[state])
    expected, expected_prototypes = plain(method)
    assert prototypes.dtype == torch.float32 and prototypes.device.type == "cpu"
    if state == "matrix products in medium precision":  # which the processor may take up
        return
    assert predicted == expected
    assert torch.equal(prototypes, expected_prototypes)


@pytest.mark.parametrize(
    ("dtype", "pretrained"),
    [
        (torch.bfloat16, "own"),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((torch.float64, "own"), (torch.float16, "own"), (torch.float64, None), (torch.bfloat16, None))
        ),
    ],
    ids=str,
)
def test_what_is_saved_under_one_default_dtype_loads_under_another(dtype, pretrained, tmp_path):
    def learner():
        made = SeGPCL(segp_ext.load_clip("glyph", pretrained), config("segp"))
        made.learn_task(made_images(2, 8), ["0", "1"])
        return made

    plain = learner()
    expected = plain.predict(IMAGES)
    plain.save(tmp_path / "plain")
    with default_dtype(dtype):
        other = learner()
        other.save(tmp_path / "other")
        assert SeGPCL.load(tmp_path / "plain").predict(IMAGES) == other.predict(IMAGES) == expected
    assert SeGPCL.load(tmp_path / "other").predict(IMAGES) == expected


@pytest.mark.parametrize("state", [state for state in STATES if state != "autocast"])  # for it is meant for eager code
def test_the_ops_are_as_ever(state):
    draw = torch.Generator().manual_seed(0)
    matrix = [torch.randn(n, 8, generator=draw) for n in (6, 4, 6, 4)]
    target = torch.arange(6) % 4
    seed = torch.rand(2, 3, 4, 4, generator=draw)
    grad = torch.randn(2, 3, 4, 4, generator=draw)

    def results():
        student, text, after, prototypes = matrix
        return [
            ops.dpgd_step(seed, grad, seed, step_size=1e-2, epsilon=4 / 255),
            ops.geometry_distill(student, text, after, prototypes, logit_scale=100.0, temperature=20.0),
            ops.dual_target_loss(student, after, text, prototypes, target, logit_scale=100.0, visual_weight=0.5),
            ops.prototype_drift(prototypes, student, after, temperature=0.1)[0],
            ops.prototype_transfer(prototypes, student, after, target),
        ]

    expected = results()
    for eager in (nullcontext, ops.eager):
        with eager():
            alike = expected if eager is nullcontext else results()
            with STATES[state]():
                found = results()
        for got, wanted in zip(found, alike, strict=True):
            assert got.dtype == wanted.dtype and got.device == wanted.device
            torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6 if "precision" in state else 0)
