"""A learner's state: copied, moved, reset, and its settings changed."""

import math

import numpy as np
import pytest
import torch
from made import made_images, small_config, tiny_backbone
from method.learners import FIRST, SECOND, learnt, same, state
from PIL import Image

from segp_ext.data.images import Images
from segp_ext.method.learner import SeGPCL


def test_putting_the_adapter_back_counts_as_a_change():
    """A classifier that is kept follows, whatever changed the adapter."""
    learner, _ = learnt()
    versions = [parameter._version for parameter in learner.backbone.trained_parameters()]
    learner.forget()
    assert all(p._version > v for p, v in zip(learner.backbone.trained_parameters(), versions, strict=True))


@pytest.mark.parametrize("method", ["segp", "lora", "frozen-prototypes"])
def test_a_learner_is_moved_as_a_whole(method, monkeypatch):
    """To a device without memory, which is there on every machine; a classifier of before goes on."""
    learner, _ = learnt(method=method)
    images = [image for image, _ in made_images(3, 4)]
    classifier, before = learner.classifier(), learner.predict(images)
    assert learner.to("cpu") is learner and learner.predict(images) == before
    monkeypatch.setattr("segp_ext.method.state.usable_device", lambda *_: torch.device("meta"))
    assert learner.to("meta") is learner
    parts = [
        *learner.tensors().values(),
        *learner.backbone.parameters(),
        *learner.backbone.buffers(),
        learner.tokens.tokens,
    ]
    parts += [learner.backbone.projection] + ([] if learner.untransferred is None else [learner.untransferred])
    assert {part.device.type for part in parts} == {"meta"} and learner.backbone.device.type == "meta"
    assert classifier.predict(images) == before


def test_a_moved_learner_learns_on_the_same():
    learner, plain = (SeGPCL(tiny_backbone(), small_config(prototypes__score="mahalanobis")) for _ in range(2))
    for each in (learner, plain):
        each.learn_task(made_images(3, 10), FIRST)
    learner.to(torch.device("cpu")).learn_task(made_images(2, 10, seed=3), SECOND)
    plain.learn_task(made_images(2, 10, seed=3), SECOND)
    assert same(state(learner), state(plain))
    for device, message in (
        ("tpu", "device must be auto, cpu, cuda or cuda:<n>; got 'tpu'"),
        (torch.float16, "got 'torch.float16'"),
    ):
        with pytest.raises(ValueError, match=message):
            learner.to(device)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", ["segp", "ranpac", "rda"])
def test_a_learner_goes_to_a_gpu_and_back(method):
    learner, _ = learnt(method=method)
    images = [image for image, _ in made_images(3, 4)]
    before = learner.predict(images)
    on_gpu = learner.to(0).predict(images)
    assert learner.prototypes.is_cuda
    for expected, found in zip(before, on_gpu, strict=True):
        assert {p.name: p.score for p in found} == pytest.approx({p.name: p.score for p in expected}, abs=1e-3)
    assert learner.to("cpu").predict(images) == before


def test_class_names_are_changed_by_learning_alone():
    learner, _ = learnt()
    with pytest.raises(TypeError):
        learner.class_names[0] = "crimson"
    with pytest.raises(AttributeError, match=r"class_names cannot be set: .* rename_class\(old, new\) gives a class"):
        learner.class_names = ["crimson"]
    assert list(learner.class_names) == FIRST + SECOND


def test_a_copy_has_settings_of_its_own():
    learner, _ = learnt()
    images = [image for image, _ in made_images(2, 4)]
    expected, twin = learner.predict(images), learner.copy()
    twin.config.inference.beta, twin.config.inference.path = 100.0, "visual"
    assert learner.predict(images) == expected != twin.predict(images)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("template", "photo", "template must be a string with one {}"),
        ("inference__beta", math.nan, "inference.beta must be"),
        ("inference__beta", "0.5", "inference.beta must be a number"),
        ("inference__batch_size", 0, "inference.batch_size must be"),
        ("min_images_per_class", 0, "min_images_per_class must be 1 or more"),
        ("training__epochs", "3", "training.epochs must be a whole number"),
        ("loading__orientation", "up", "loading.orientation must be one of"),
    ],
)
def test_a_setting_that_is_changed_to_what_it_cannot_be_is_named(name, value, message):
    learner, _ = learnt()
    before = state(learner)
    section, _, field = name.partition("__")
    setattr(getattr(learner.config, section) if field else learner.config, field or section, value)
    with pytest.raises(ValueError, match=message):
        learner.predict(made_images(1, 1)[0][0])
    with pytest.raises(ValueError, match=message):
        learner.learn_task(made_images(2, 10, seed=5), ["fish", "bird"])
    assert same(state(learner), before)


def test_learning_follows_changed_settings_of_loading(tmp_path):
    learner, _ = learnt()
    turned = Image.fromarray(np.random.RandomState(0).randint(0, 256, (8, 8, 3), np.uint8))
    exif = turned.getexif()
    exif[0x112] = 6
    turned.save(tmp_path / "t.png", exif=exif)

    def read():
        return next(iter(Images([(str(tmp_path / "t.png"), 0)], learner.reader).read([torch.tensor([0])])))[1][0]

    stored, reader = read(), learner.reader
    assert reader is learner.reader
    learner.config.loading.orientation = "exif"
    assert torch.equal(read(), stored.rot90(-1, (1, 2))) and not torch.equal(read(), stored)
