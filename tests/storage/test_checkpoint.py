"""Saving and loading a learner."""

import copy
import json
import os
from typing import get_args

import pytest
import torch
from made import learnt_glyph, made_images, reseal, small_config

import segp_ext
from segp_ext.clip import glyph
from segp_ext.config import MethodConfig, Precision, PrototypesConfig
from segp_ext.config.methods import METHODS
from segp_ext.method.learner import SeGPCL
from segp_ext.storage import sealed
from segp_ext.storage.checkpoint import read_learner


@pytest.fixture(scope="module")
def learner():
    return learnt_glyph()


def test_a_loaded_learner_predicts_the_same_and_goes_on_the_same(learner, tmp_path):
    learner.save(tmp_path / "saved")
    images = [made_images(2, 4)[i][0] for i in range(8)]
    loaded = segp_ext.SeGPCL.load(tmp_path / "saved")
    assert loaded.class_names == learner.class_names and loaded.config == learner.config
    assert loaded.predict(images) == learner.predict(images)
    again = segp_ext.SeGPCL.load(tmp_path / "saved")
    for each in (loaded, again):
        each.learn_task(made_images(2, 4, seed=5), ["4", "5"])
    assert torch.equal(loaded.prototypes, again.prototypes)


@pytest.mark.slow
@pytest.mark.parametrize("score", ["cosine", "mahalanobis"])
@pytest.mark.parametrize("precision", get_args(Precision))
def test_every_precision_is_loaded_as_it_was_saved(precision, score, tmp_path):
    config = MethodConfig(prototypes=PrototypesConfig(score=score))
    config.lora.rank, config.training.epochs = 4, 1
    learner = SeGPCL(segp_ext.load_clip("glyph", precision=precision), config)
    learner.learn_task(made_images(2, 8), ["0", "1"])
    learner.save(tmp_path / "saved")
    loaded = SeGPCL.load(tmp_path / "saved")
    images = [image for image, _ in made_images(2, 4)]
    assert loaded.predict(images) == learner.predict(images)
    for each in (learner, loaded):
        each.learn_task(made_images(2, 8, seed=2), ["2", "3"])
    assert torch.equal(loaded.prototypes, learner.prototypes) and loaded.prototypes.dtype == loaded.backbone.dtype


@pytest.mark.parametrize("method", [name for name, fixed in METHODS.items() if fixed.get("training.epochs") == 0])
def test_a_frozen_learner_is_loaded_as_it_was(method, tmp_path):
    config = MethodConfig(method=method, min_images_per_class=2, prototypes=PrototypesConfig(random_features=20))
    frozen = SeGPCL(segp_ext.load_clip("glyph"), config)
    frozen.learn_task(made_images(2, 4), ["0", "1"])
    if not frozen.config.training.joint:
        frozen.learn_task(made_images(2, 4, seed=2), ["2", "3"])
    frozen.save(tmp_path / "saved")
    loaded = segp_ext.SeGPCL.load(tmp_path / "saved")
    images = [image for image, _ in made_images(2, 4)]
    for path in ("text", "visual", "dual"):
        assert loaded.predict(images, path=path) == frozen.predict(images, path=path)


def test_saving_replaces_a_checkpoint_but_nothing_else(learner, tmp_path):
    learner.save(tmp_path / "saved")
    learner.save(tmp_path / "saved")
    assert sorted(os.listdir(tmp_path)) == ["saved"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").touch()
    with pytest.raises(FileExistsError, match="photos exists and is not a checkpoint"):
        learner.save(tmp_path / "photos")


def test_a_failed_save_leaves_the_old_checkpoint(learner, tmp_path, monkeypatch):
    learner.save(tmp_path / "saved")
    before = (tmp_path / "saved" / "learner.json").read_bytes()

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(sealed, "_write", full)
    with pytest.raises(OSError, match="no space"):
        learner.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "learner.json").read_bytes() == before and os.listdir(tmp_path) == ["saved"]


def test_missing_and_foreign_checkpoints(learner, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*nowhere"):
        SeGPCL.load(tmp_path / "nowhere")
    learner.save(tmp_path / "saved")
    state = json.loads((tmp_path / "saved" / "learner.json").read_text())
    for change, message in [
        ({"format": 99}, "format is 99"),
        ({"config": {**state["config"], "colour": 1}}, "no such setting: colour"),
        (
            {"backbone": {**state["backbone"], "weights": "0" * 64}},
            "glyph with its own weights is not the model it was trained on; the weights differ",
        ),
        ({"task_sizes": [2, 3]}, r"task_sizes must add up to 4 classes; got \[2, 3\]"),
    ]:
        reseal(tmp_path / "saved", {"learner.json": json.dumps({**state, **change}).encode()})
        with pytest.raises(ValueError, match=message):
            SeGPCL.load(tmp_path / "saved")
    reseal(tmp_path / "saved", {"learner.json": b"{"})
    with pytest.raises(ValueError, match="cannot load the checkpoint .*learner.json is damaged"):
        SeGPCL.load(tmp_path / "saved")


def test_a_checkpoint_of_the_earlier_method_is_refused(learner, tmp_path):
    """As segp_ext 0.1 wrote it: format 3, no version, and null for the layers."""
    learner.save(tmp_path / "saved")
    state = json.loads((tmp_path / "saved" / "learner.json").read_text())
    assert state["format"] == 6 and state["version"] == segp_ext.__version__
    del state["version"]
    config = {**state["config"], "lora": {**state["config"]["lora"], "targets": None}}
    reseal(tmp_path / "saved", {"learner.json": json.dumps({**state, "format": 3, "config": config}).encode()})
    for read in (SeGPCL.load, read_learner):
        with pytest.raises(
            ValueError, match=r"saved: it was made by segp_ext 0.1 \(format 3\), whose method differed .* learn anew"
        ):
            read(tmp_path / "saved")


def test_the_adapter_opens_with_peft_on_the_plain_model(learner, tmp_path):
    from peft import PeftModel

    learner.save(tmp_path / "saved")
    backbone, (plain, _) = learner.backbone, glyph.build()
    peft = PeftModel.from_pretrained(plain, str(tmp_path / "saved")).eval()
    images = torch.rand(2, 3, backbone.image_size, backbone.image_size)
    with torch.no_grad():
        embedding = backbone.encode_image(images)[0]
        torch.testing.assert_close(
            peft.encode_image((images - backbone.mean) / backbone.std), embedding, rtol=1e-5, atol=1e-5
        )
        with backbone.reference():
            assert (backbone.encode_image(images)[0] - embedding).abs().max() > 1e-5


def test_the_present_folder_is_a_place_too(learner, tmp_path, monkeypatch):
    learner.save(tmp_path / "c")
    monkeypatch.chdir(tmp_path / "c")
    with pytest.raises(FileExistsError, match="is the folder that this process works in"):
        learner.save(".")
    assert SeGPCL.load(".").class_names == learner.class_names


def test_what_could_not_be_loaded_is_not_saved(learner, tmp_path):
    learner.save(tmp_path / "saved")
    before = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    for odd, message in (
        (learner.prototypes.double(), "must be torch.float32; got torch.float64"),
        (learner.prototypes / 0, "not finite"),
    ):
        broken = learner.copy()
        broken.prototypes = odd
        for place in ("saved", "elsewhere"):
            with pytest.raises(ValueError, match=f"cannot be saved, as it could not be loaded again: .*{message}"):
                broken.save(tmp_path / place)
    assert {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def with_settings(learner, **changes):
    """A copy whose settings have been changed since it learnt."""
    twin = copy.deepcopy(learner)
    for dotted, value in changes.items():
        section, _, name = dotted.partition("__")
        setattr(getattr(twin.config, section) if name else twin.config, name or section, value)
    return twin


@pytest.mark.slow
def test_a_learner_that_does_not_fit_its_settings_is_not_saved(learner, tmp_path):
    """Whatever `load` checks, `save` checks before it replaces what is there."""
    learner.save(tmp_path / "saved")
    before = {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()}
    uneven, nameless = learner.copy(), learner.copy()
    uneven.task_sizes = [*learner.task_sizes, 3]
    nameless.backbone.name = "made-up"
    ridge = SeGPCL(
        segp_ext.load_clip("glyph"), MethodConfig(method="ranpac", prototypes=PrototypesConfig(random_features=20))
    )
    ridge.learn_task(made_images(2, 4), ["0", "1"])
    for odd, message in (
        (with_settings(learner, lora__rank=8), r"adapter tensor .* must be \[8, .*; got \[4, "),
        (with_settings(learner, lora__alpha=64), "its adapter is not as config.lora says"),
        (with_settings(learner, lora__encoders="vision"), "adapter tensors do not match"),
        (with_settings(learner, training__epochs=0), "adapter tensors do not match"),
        (
            with_settings(learner, prototypes__score="mahalanobis"),
            r"the head's tensors must be \['counts', .*; got \[\]",
        ),
        (
            with_settings(learner, template="one two three four five six seven eight nine ten eleven twelve {}"),
            "does not fit",
        ),
        (with_settings(ridge, prototypes__random_features=30), r"head.gram must be \[30, 30\] .*; got \[20, 20\]"),
        (with_settings(ridge, seed=3), "its head was made with other settings"),
        (uneven, r"task_sizes must add up to 4 classes; got \[2, 2, 3\]"),
        (nameless, "no model named 'made-up'"),
    ):
        for place in ("saved", "elsewhere"):
            with pytest.raises(ValueError, match=f"cannot be saved.*: .*{message}|cannot be saved as it is.*{message}"):
                odd.save(tmp_path / place)
    assert {path.name: path.read_bytes() for path in (tmp_path / "saved").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize(
    "way",
    [
        "in place",
        *(pytest.param(way, marks=pytest.mark.slow) for way in ("through .data", "before learning", "load_weights")),
    ],
)
def test_weights_of_ones_own_are_saved_with_the_learner_or_not_at_all(way, tmp_path):
    def change(backbone):
        if way == "load_weights":
            backbone.load_weights({name: tensor * 1.3 for name, tensor in backbone.weights().items()})
        for name, parameter in backbone.clip.named_parameters():
            if ".lora_" not in name and way != "load_weights":
                parameter.data.mul_(1.3) if way == "through .data" else parameter.detach().mul_(1.3)

    config = MethodConfig(min_images_per_class=2)
    config.lora.rank, config.training.epochs = 4, 1
    learner = SeGPCL(segp_ext.load_clip("glyph"), config)
    known = learner.backbone.weights_hash()
    learner.save(tmp_path / "saved")
    if way == "before learning":
        change(learner.backbone)
    learner.learn_task(made_images(2, 4), ["0", "1"])
    images = [image for image, _ in made_images(2, 4)]
    learner.predict(images)  # what it made for that must not outlive the change
    if way != "before learning":
        change(learner.backbone)
    assert learner.backbone.weights_hash() != known
    with pytest.raises(
        ValueError, match="weights are others than those of glyph with its own weights.*with_weights=True"
    ):
        learner.save(tmp_path / "saved")
    assert SeGPCL.load(tmp_path / "saved").class_names == ()
    learner.save(tmp_path / "saved", with_weights=True)
    loaded = SeGPCL.load(tmp_path / "saved")
    assert loaded.predict(images) == (learner.copy() if way == "through .data" else learner).predict(images)
    with pytest.raises(ValueError, match="with_weights=True"):  # that they are others is known of what was loaded, too
        loaded.save(tmp_path / "bare", with_weights=False)


def test_a_folder_with_hidden_files_alone_takes_a_learner(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new/.DS_Store").write_bytes(b"x")
    SeGPCL(segp_ext.load_clip("glyph")).save(tmp_path / "new")
    assert SeGPCL.load(tmp_path / "new").class_names == () and (tmp_path / "new/.DS_Store").is_file()


def test_an_empty_folder_may_be_saved_to_and_a_tilde_is_the_home_folder(learner, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "made").mkdir()
    learner.save("~/made")
    assert SeGPCL.load("~/made").class_names == learner.class_names and [p.name for p in tmp_path.iterdir()] == ["made"]


def test_names_in_any_writing_are_learnt_and_saved(tmp_path):
    names = ["猫", "قط", "cat 🐈", "a/b", "{x}", "%s \\n"]
    learner = SeGPCL(segp_ext.load_clip("glyph"), small_config())
    learner.learn_task(made_images(6, 4), names)
    learner.save(tmp_path / "saved")
    loaded, image = SeGPCL.load(tmp_path / "saved"), made_images(1, 1)[0][0]
    assert loaded.class_names == learner.class_names == tuple(names)
    assert loaded.predict(image, topk=None) == learner.predict(image, topk=None)


def test_a_learner_is_saved_when_the_present_folder_is_gone(learner, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    learner.save(tmp_path / "saved")
    monkeypatch.undo()
    os.chdir(tmp_path)
    assert SeGPCL.load(tmp_path / "saved").class_names == learner.class_names
