"""Images of classes that were learnt before: what takes them, what stays, and what is refused."""

import json

import pytest
import torch
from made import learnt_glyph, made_images, reseal, small_config, tiny_backbone
from method.learners import FIRST, SECOND, same, state
from safetensors.torch import load, save

from segp_ext.config import MethodConfig, TrainingConfig
from segp_ext.method import state as state_module
from segp_ext.method.learner import SeGPCL

IMAGES = made_images(3, 10)
HEADS = {
    "cosine": {},
    "shared covariance": {"prototypes__score": "mahalanobis", "prototypes__shrinkage": 0.1},
    "own covariances": {
        "prototypes__score": "mahalanobis",
        "prototypes__own_covariance": 0.5,
        "prototypes__shrinkage": 0.1,
    },
    "ridge": {"prototypes__score": "ridge"},
}


def made(method="frozen-prototypes", **changes):
    """A learner of no class. Settings are changed after the method's own, which would go before them."""
    config = small_config(**changes)
    if method != "segp":
        config.training.epochs, config.anchors.kind, config.prototypes.transfer = 0, "none", "none"
    config.known_classes = changes.get("known_classes", "update")
    return SeGPCL(tiny_backbone(), config)


def everything(learner):
    plain = learner.records, tuple(learner.task_sizes), learner.calibration, learner.class_names
    return plain, {name: tensor.clone() for name, tensor in {**learner.tensors(), **state(learner)}.items()}


@pytest.mark.parametrize("features", ["unit", "raw"])
@pytest.mark.parametrize("head", HEADS)
def test_images_that_come_later_count_as_if_they_had_come_at_once(head, features):
    """In the trained model and in the frozen one; with images held back, which both take at last."""
    changes = {**HEADS[head], "prototypes__features": features}
    changes |= {"prototypes__frozen_head": True, "calibration__fraction": 0.2}
    later, more = made(**changes), [(image, label) for image, label in made_images(3, 6, seed=1)]
    first = [(image, label) for image, label in IMAGES]
    report = later.learn_task(first, FIRST)
    assert report.held_back == 6
    report = later.learn_task(more, FIRST)
    assert (report.classes, report.held_back, later.task_sizes) == ([], 0, [3, 0])
    once = made(**changes)
    once.learn_task(first + more, FIRST)
    if head == "ridge":  # the penalty is chosen on the first task's images
        once.head._take(once.head.gram, once.head.targets, later.head.power)
    found, expected = later.tensors(), once.tensors()
    names = {name for name in expected if not name.startswith("held.")}
    assert {"counts", "frozen.head.scatters", "frozen.counts"} <= names
    for name in names:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)
    assert [record.images for record in later.records] == [16, 16, 16] == found["counts"].tolist()


@pytest.mark.parametrize("head", HEADS)
def test_the_same_images_twice_are_the_doubled_set(head):
    twice, doubled = made(**HEADS[head]), made(**HEADS[head])
    images = [(image, label) for image, label in IMAGES]
    for _ in range(2):
        twice.learn_task(images, FIRST)
    doubled.learn_task(images * 2, FIRST)
    if head == "ridge":
        doubled.head._take(doubled.head.gram, doubled.head.targets, twice.head.power)
    for name, tensor in doubled.tensors().items():
        torch.testing.assert_close(twice.tensors()[name], tensor, rtol=1e-5, atol=1e-6)
    assert [record.images for record in twice.records] == [20, 20, 20]


def test_an_update_alone_leaves_the_adapter_and_other_classes_bit_for_bit():
    learner = made("segp")
    learner.learn_task(IMAGES, FIRST)
    learner.learn_task(made_images(2, 10, seed=3), SECOND)
    before, records, text = state(learner), learner.records, learner.text_embeddings()
    report = learner.learn_task(made_images(2, 6, seed=7), ["dog", "red"])
    after = state(learner)
    assert (report.steps, report.anchors, report.classes) == (0, 0, [])
    assert all(torch.equal(after[name], before[name]) for name in before if name != "prototypes")
    moved = (after["prototypes"] != before["prototypes"]).any(dim=1).tolist()
    assert moved == [True, False, False, False, True] and torch.equal(learner.text_embeddings(), text)
    assert [record.images for record in learner.records] == [16, 10, 10, 10, 16]
    assert learner.records[1:4] == records[1:4] and learner.task_sizes == [3, 2, 0]


@pytest.mark.parametrize("known", ["update", "train"])
def test_known_and_new_classes_in_one_task(known):
    learner = made("segp", known_classes=known, training__classes="seen")
    learner.learn_task(IMAGES, FIRST)
    before = state(learner)
    mixed = [(image, label) for image, label in made_images(2, 10, seed=3)]
    report = learner.learn_task(mixed, ["cat", "blue"])
    assert (report.classes, learner.class_names) == (["cat"], ("red", "green", "blue", "cat"))
    assert [(record.task, record.images) for record in learner.records] == [(1, 10), (1, 10), (1, 20), (2, 10)]
    # Two epochs of batches of 8: over 10 images of the new class, or over all 20.
    assert report.steps == {"update": 4, "train": 6}[known] and not same(state(learner), before)


def test_training_on_known_classes_alone_changes_the_adapter():
    learner = made("segp", known_classes="train", training__classes="seen")
    learner.learn_task(IMAGES, FIRST)
    before = state(learner)
    report = learner.learn_task(made_images(2, 8, seed=7), ["red", "blue"])
    assert report.steps == 4 and learner.task_sizes == [3, 0] and len(learner.prototypes) == 3
    assert any(not torch.equal(before[name], tensor) for name, tensor in state(learner).items() if ".lora_" in name)


def test_by_default_a_known_class_is_refused_and_the_message_says_what_to_do():
    learner = SeGPCL(tiny_backbone(), small_config(method="frozen-prototypes"))
    learner.learn_task(IMAGES, FIRST)
    before = everything(learner)
    with pytest.raises(
        ValueError,
        match="class name 'red' is learnt already; .* setting known_classes update or train, a learnt class takes",
    ):
        learner.learn_task(made_images(2, 4), ["cat", "red"])
    assert everything(learner)[0] == before[0] and same(everything(learner)[1], before[1])


def test_training_on_known_classes_needs_their_prompts():
    with pytest.raises(ValueError, match="training.classes must be seen with known_classes train; got 'new'"):
        MethodConfig(known_classes="train")
    assert MethodConfig(known_classes="train", training=TrainingConfig(classes="seen")).known_classes == "train"


@pytest.mark.parametrize("head", HEADS)
def test_images_held_back_are_learnt_at_last(head):
    plain, holding = made(**HEADS[head]), made(**HEADS[head], calibration__fraction=0.3)
    for each in (plain, holding):
        each.learn_task(IMAGES, FIRST)
    assert len(holding.held) == 9 and len(plain.held) == 0
    if head == "ridge":  # the penalty is chosen on images that were not held back
        plain.head._take(plain.head.gram, plain.head.targets, holding.head.power)
    for name, tensor in plain.tensors().items():
        torch.testing.assert_close(holding.tensors()[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("where", ["calibrate", "encode_classes"])
def test_a_task_that_is_stopped_at_its_end_leaves_the_learner_as_before(where, monkeypatch):
    """While it measures itself, its adapter, classes and prototypes are the new ones already."""
    learner = made("segp", calibration__fraction=0.2)
    learner.learn_task(IMAGES, FIRST)
    images = [image for image, _ in made_images(3, 2)]
    before, predicted = everything(learner), learner.predict(images)
    called, original = [], getattr(state_module, where)

    def interrupted(*given):
        called.append(given)
        if where == "calibrate" or len(given[1]) == 5:  # prompts of all five classes, after training
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(state_module, where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        learner.learn_task(made_images(2, 10, seed=3), SECOND)
    monkeypatch.undo()
    assert called and everything(learner)[0] == before[0] and same(everything(learner)[1], before[1])
    assert learner.predict(images) == predicted
    learner.learn_task(made_images(2, 10, seed=3), SECOND)
    assert learner.task_sizes == [3, 2]


def older(folder):
    """Makes a saved learner one of segp_ext 0.2: format 4, names alone, neither lengths nor counts."""
    found = json.loads((folder / "learner.json").read_text())
    names = [entry["name"] for entry in found.pop("classes")]
    for name in ("known_classes", "calibration"):
        del found["config"][name]
    del found["config"]["prototypes"]["frozen_head"]
    tensors = load((folder / "learner.safetensors").read_bytes())
    kept = {name: tensor for name, tensor in tensors.items() if name not in ("lengths", "counts")}
    content = json.dumps({**found, "format": 4, "version": "0.2.0", "class_names": names}).encode()
    reseal(folder, {"learner.json": content, "learner.safetensors": save(kept)})


def test_a_learner_of_the_version_before_loads_and_says_what_it_lacks(tmp_path):
    learner = learnt_glyph()
    images = [image for image, _ in made_images(2, 2)]
    learner.save(tmp_path / "saved")
    older(tmp_path / "saved")
    loaded = SeGPCL.load(tmp_path / "saved")
    assert loaded.class_names == learner.class_names and loaded.predict(images) == learner.predict(images)
    assert [(record.task, record.images, record.learnt) for record in loaded.records] == [
        (1, None, ""), (1, None, ""), (2, None, ""), (2, None, "")
    ]  # fmt: skip
    loaded.config.known_classes = "update"
    before = everything(loaded)
    with pytest.raises(
        ValueError, match="classes that segp_ext 0.2 learnt take no more images: it did not keep how many"
    ):
        loaded.learn_task(made_images(2, 4), ["0", "4"])
    assert everything(loaded)[0] == before[0] and same(everything(loaded)[1], before[1])
    loaded.learn_task(made_images(2, 4, seed=5), ["4", "5"])  # new classes are learnt, and may take more
    loaded.learn_task(made_images(1, 4, seed=6), ["5"])
    loaded.save(tmp_path / "again")
    assert [record.images for record in SeGPCL.load(tmp_path / "again").records] == [None] * 4 + [4, 8]


def test_a_task_of_known_classes_alone_leaves_the_penalty_of_ridge_regression():
    """It is chosen on a task's new classes, of which there are none."""
    learner = made(prototypes__score="ridge")
    learner.learn_task(IMAGES, FIRST)
    power = learner.head.power
    learner.learn_task(made_images(3, 6, seed=1), FIRST)
    assert learner.head.power == power != min(learner.head._POWERS)
