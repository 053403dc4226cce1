"""A whole run on each device: it learns, goes on after a stop, and its learner moves. `benchmarks/run_gpu.sh` tests a GPU with this."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from small_run import small_run, stopped_run

import segp_ext
from segp_ext import train
from segp_ext.report.result import RunResult

CASES = [("cpu", "fp32"), ("cuda", "fp32"), ("cuda", "bf16"), ("cuda", "fp16")]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def run(request, tmp_path_factory) -> tuple[Path, list[str]]:
    """The folder of a run, and the arguments that it was begun with."""
    device, precision = request.param
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    arguments = [f"--model.device={device}", f"--model.precision={precision}"]
    folder = tmp_path_factory.mktemp("devices")
    assert small_run(folder, *arguments) == 0
    return folder / "run", arguments


def result(folder: Path) -> RunResult:
    return RunResult.read(folder / "result.json")


def test_the_run_used_the_device_and_learnt(run, finished):
    folder, (device, _) = run
    there, plain = result(folder), result(finished)
    assert there.settings["model"]["device"] == device.partition("=")[2]
    for row in there.own:
        expected = next(each for each in plain.own if each.path == row.path)
        assert row.scores.metrics()["last"] == pytest.approx(expected.scores.metrics()["last"], abs=0.1), row.path


def test_a_stopped_run_goes_on_to_the_same_numbers(run, tmp_path):
    folder, arguments = run
    stopped = stopped_run(tmp_path, *arguments)
    assert train.main(["--resume", str(stopped)]) == 0
    whole, parts = result(folder), result(stopped)
    assert [task.losses for task in parts.tasks] == [
        {name: pytest.approx(loss, rel=1e-2, abs=1e-4) for name, loss in task.losses.items()} for task in whole.tasks
    ]


@pytest.mark.parametrize("path", ["text", "dual"])
def test_its_learner_predicts_alike_on_the_processor(path, run):
    """All classes are compared: which are the best five, rounding may decide."""
    folder, (device, precision) = run
    learner = segp_ext.SeGPCL.load(folder / "checkpoints/latest", device.partition("=")[2])
    images = [Image.effect_noise((28, 28), sigma) for sigma in (10, 50, 100)]
    there, here = learner.predict(images, None, path), learner.to("cpu").predict(images, None, path)
    tolerance = 1e-3 if precision.endswith("fp32") else 0.1
    for expected, found in zip(here, there, strict=True):
        assert {p.name: p.score for p in found} == pytest.approx({p.name: p.score for p in expected}, abs=tolerance)
