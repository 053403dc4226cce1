"""Every method learns its tasks, in the learner and in runs."""

import json

import pytest
import torch
from made import tiny_backbone
from method.learners import FIRST, SECOND, learnt
from trees import make

from segp_ext import train
from segp_ext.config import (
    AnchorsConfig,
    DataConfig,
    LoraConfig,
    MethodConfig,
    PrototypesConfig,
    TrainingConfig,
)
from segp_ext.config.methods import METHODS
from segp_ext.data import load_scenario
from segp_ext.method.learner import SeGPCL
from segp_ext.run.command_line import parse


@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("zscl", "joint", "linear-probe")])
def test_every_method_learns_two_tasks(method):
    learner, (first, second) = learnt(method=method)
    assert list(learner.class_names) == FIRST + SECOND and learner.task_sizes == [3, 2]
    assert learner.prototypes.shape == (5, learner.backbone.raw_dim) and learner.prototypes.isfinite().all()
    assert first.anchors == 0
    frozen = METHODS[method].get("training.epochs") == 0
    anchors = 0 if frozen else {"lora": 0, "lwf": 20, "sdc": 20, "adc": 3 * 20}.get(method, 3 * 3)
    distils = anchors and METHODS[method].get("distillation.weight") != 0
    assert second.anchors == anchors and (second.steps == 0) == frozen
    assert (
        set(second.losses) == set()
        if frozen
        else {"classification"} | ({"acgd"} if distils else set()) <= set(second.losses)
    )
    assert ("tsgr" in second.losses) == (not frozen and METHODS[method].get("text_geometry.weight") != 0)
    assert (learner.untransferred is not None) == (anchors > 0)


@pytest.mark.slow
def test_joint_training_is_learning_all_at_once(tmp_path):
    """Each task of such a run begins from the pre-trained model, with the images of all tasks so far."""
    fast = [
        "--data.max_images_per_class=6",
        "--training.epochs=1",
        "--training.batch_size=16",
        "--data.classes_per_task=5",
    ]
    where = [f"--run.directory={tmp_path}", "--run.name=run"]
    assert train.main(["--method=joint", *fast, *where]) == 0
    result = json.loads((tmp_path / "run/result.json").read_text())
    assert [task["images"] for task in result["tasks"]] == [30, 60] and len(
        result["scores"]["joint (text)"]["R"][1]
    ) == 2
    kept = SeGPCL.load(tmp_path / "run/checkpoints/latest")
    assert kept.task_sizes == [5, 5]
    once = SeGPCL.load(tmp_path / "run/checkpoints/task-000")
    tasks = load_scenario(DataConfig(max_images_per_class=6, classes_per_task=5, order=1)).tasks
    images = [(image, label + 5 * n) for n, task in enumerate(tasks) for image, label in task.train]
    once.learn_task(images, [name for task in tasks for name in task.class_names])
    for name, tensor in once.backbone.adapter_state().items():
        torch.testing.assert_close(kept.backbone.adapter_state()[name], tensor)
    torch.testing.assert_close(kept.prototypes, once.prototypes)
    with pytest.raises(ValueError, match="training.joint takes the images of all tasks together: call forget, then"):
        kept.learn_task(images[:30], ["six", "seven", "eight", "nine", "ten"])
    kept.forget()
    kept.learn_task(images, [name for task in tasks for name in task.class_names])
    torch.testing.assert_close(kept.prototypes, once.prototypes)


@pytest.mark.slow
@pytest.mark.parametrize(("own", "counterpart"), [(0.0, "lda"), (0.5, "rda")])
def test_a_run_that_scores_by_covariance_prints_its_frozen_counterpart(own, counterpart, tmp_path):
    fast = ["--data.max_images_per_class=20", "--data.classes_per_task=5"]
    settings = ["--training.epochs=1", "--anchors.steps=1", f"--prototypes.own_covariance={own}"]
    for method, given in (("segp", settings), (counterpart, [])):
        where = [f"--run.directory={tmp_path}", f"--run.name={method}"]
        assert train.main([f"--method={method}", *fast, *given, *where]) == 0
    ours, frozen = (
        json.loads((tmp_path / name / "result.json").read_text())["scores"] for name in ("segp", counterpart)
    )
    assert list(ours)[:3] == ["zero-shot", "frozen prototypes", f"frozen {counterpart}"]
    same = ours[f"frozen {counterpart}"] | {"method": counterpart, "baseline": False}
    assert same == frozen[f"{counterpart} (visual)"] and same["R"] != ours["frozen prototypes"]["R"]
    assert list(frozen)[:3] == ["zero-shot", "frozen prototypes", f"{counterpart} (text)"]


@pytest.mark.parametrize("method", ["sdc", "adc", "zscl", "ranpac", "lda"])
def test_two_tasks_of_every_method(tmp_path, method):
    make(tmp_path / "reference", {f"{part}/{c}": 6 for part in ("train", "test") for c in "xy"})
    make(tmp_path / "data", {f"{part}/{c}": 6 for part in ("train", "test") for c in ("red", "green", "blue", "cat")})
    tasks = load_scenario(DataConfig(root=str(tmp_path / "data"), classes_per_task=2, order=None)).tasks
    config = MethodConfig(
        method=method,
        lora=LoraConfig(rank=4),
        training=TrainingConfig(epochs=2, batch_size=4),
        anchors=AnchorsConfig(seeds_per_class=2, reference=str(tmp_path / "reference")),
        prototypes=PrototypesConfig(random_features=20),
    )
    learner = SeGPCL(tiny_backbone(), config)
    reports = [learner.learn_task(task.train, task.class_names) for task in tasks]
    frozen = method in ("ranpac", "lda")
    assert (learner.untransferred is not None) == (not frozen) and learner.prototypes.isfinite().all()
    if method == "zscl":
        assert reports[1].anchors == 4 and reports[1].losses["acgd"] > 0
    if method in ("sdc", "adc"):
        assert reports[1].anchors == {"sdc": 12, "adc": 24}[method]
    images = [tasks[0].test[0][0]]
    for path in ("text", "visual", "dual"):
        assert len(learner.predict(images, path=path)[0]) == 4
    if frozen:
        learner.backbone.pretrained = None
        twin = learner.copy()
        assert twin.predict(images, path="visual") == learner.predict(images, path="visual")
        learner.learn_task(tasks[0].train, ["w", "of"])
        assert len(twin.predict(images, path="visual", topk=9)[0]) == 4


@pytest.mark.slow
def test_every_method_says_what_it_is():
    for method in METHODS:
        assert parse([f"--method={method}", "--anchors.reference=digits"]).method == method
