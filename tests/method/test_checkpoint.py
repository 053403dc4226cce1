"""Saving and loading a learner."""

import json
import os

import pytest
import torch
from method.made import made_images

import segp_ext
from segp_ext import checkpoint
from segp_ext.config import MethodConfig
from segp_ext.learner import SeGPCL


@pytest.fixture(scope="module")
def learner():
    config = MethodConfig(min_images_per_class=2)
    config.lora.rank, config.training.epochs = 4, 1
    learner = SeGPCL(segp_ext.load_clip("glyph"), config)
    learner.learn_task(made_images(2, 4), ["0", "1"])
    learner.learn_task(made_images(2, 4, seed=2), ["2", "3"])
    return learner


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


def test_saving_replaces_a_checkpoint_but_nothing_else(learner, tmp_path):
    learner.save(tmp_path / "saved")
    learner.save(tmp_path / "saved")
    assert sorted(os.listdir(tmp_path)) == ["saved"]
    (tmp_path / "photos").mkdir()
    with pytest.raises(FileExistsError, match="photos exists and is not a checkpoint"):
        learner.save(tmp_path / "photos")


def test_a_failed_save_leaves_the_old_checkpoint(learner, tmp_path, monkeypatch):
    learner.save(tmp_path / "saved")
    before = (tmp_path / "saved" / "learner.json").read_bytes()

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint, "write_atomically", full)
    with pytest.raises(OSError, match="no space"):
        learner.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "learner.json").read_bytes() == before and os.listdir(tmp_path) == ["saved"]


@pytest.mark.parametrize("name", ["learner.safetensors", "adapter_model.safetensors"])
def test_damage_is_named(learner, tmp_path, name):
    learner.save(tmp_path / "saved")
    content = bytearray((tmp_path / "saved" / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / "saved" / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        SeGPCL.load(tmp_path / "saved")
    (tmp_path / "saved" / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        SeGPCL.load(tmp_path / "saved")


def test_missing_and_foreign_checkpoints(learner, tmp_path):
    with pytest.raises(FileNotFoundError, match="no checkpoint at .*nowhere"):
        SeGPCL.load(tmp_path / "nowhere")
    learner.save(tmp_path / "saved")
    file = tmp_path / "saved" / "learner.json"
    state = json.loads(file.read_text())
    for change, message in [
        ({"format": 99}, "format is 99"),
        ({"sha256": {"../elsewhere": ""}}, "unknown file '../elsewhere'"),
        ({"config": {**state["config"], "colour": 1}}, "no such setting: colour"),
        (
            {"backbone": {**state["backbone"], "weights": "0" * 64}},
            "weights of glyph .* are not those it was trained on",
        ),
        ({"task_sizes": [2, 3]}, r"prototypes must be \[4, 128\]"),
    ]:
        file.write_text(json.dumps({**state, **change}))
        with pytest.raises(ValueError, match=message):
            SeGPCL.load(tmp_path / "saved")
    file.write_text("{")
    with pytest.raises(ValueError, match="cannot load the checkpoint"):
        SeGPCL.load(tmp_path / "saved")
