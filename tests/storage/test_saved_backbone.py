"""Loading a learner whose backbone's weights were moved, changed or named in another way."""

import json
import pwd
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from made_clips import (
    local_model,
    same_features,
    weights,
)
from safetensors.torch import save_file

from segp_ext.clip.model_names import model_in_words
from segp_ext.clip.pretrained import load_clip
from segp_ext.method.learner import SeGPCL
from segp_ext.storage import sealed

pytestmark = pytest.mark.usefixtures("made_models")


@pytest.mark.slow
def test_a_learner_keeps_the_activation_when_its_weights_go_elsewhere(tmp_path):
    """What told of QuickGELU, a file beside the weights, stays behind; and what tells of it there is of other weights."""
    for quick in (True, False):
        model, state = weights(force_quick_gelu=quick)
        folder = tmp_path / str(quick)
        folder.mkdir()
        save_file(state, folder / "w.safetensors")
        config = folder / "config.json" if quick else tmp_path / "config.json"
        config.write_text(json.dumps({"model_type": "clip", "text_config": {}, "vision_config": {}}))
        with warnings.catch_warnings(action="ignore"):
            learner = SeGPCL(load_clip("made-tiny", str(folder / "w.safetensors")))
        learner.save(tmp_path / "kept")
        (folder / "w.safetensors").rename(tmp_path / "w.safetensors")
        with warnings.catch_warnings(action="error"):
            same_features(SeGPCL.load(tmp_path / "kept").backbone, model)


def test_a_learner_keeps_how_its_images_are_resized(tmp_path):
    local_model(tmp_path / "mine")
    name = f"local-dir:{tmp_path / 'mine'}"
    SeGPCL(load_clip(name, resize_mode="shortest", precision="bf16")).save(tmp_path / "kept")
    learner = SeGPCL.load(tmp_path / "kept")
    assert (learner.backbone.resize_mode, learner.backbone.precision) == ("shortest", "bf16")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_learner_finds_its_weights_where_they_went(kind, tmp_path, monkeypatch):
    """It was made with a path relative to a folder that is no longer the present one."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    if kind == "file":
        torch.save(weights()[1], "w.pt")
        learner, name = SeGPCL(load_clip("made-tiny", "w.pt")), "w.pt"
    else:
        local_model(tmp_path / "work/w")
        learner, name = SeGPCL(load_clip("local-dir:w")), "w"
    words = model_in_words(learner.backbone.name, learner.backbone.pretrained)
    learner.save(tmp_path / "kept/animals")
    expected = learner.backbone.weights_hash()

    def loads(**given):
        return SeGPCL.load(tmp_path / "kept/animals", **given).backbone.weights_hash() == expected

    monkeypatch.chdir(tmp_path)
    assert loads()  # from where they were
    moved = tmp_path / "else/where"
    moved.mkdir(parents=True)
    (tmp_path / "work" / name).rename(moved / name)
    with pytest.raises(
        FileNotFoundError, match=f"stands on {words}, which is not there. Looked for: .*SEGP_EXT_WEIGHTS"
    ):
        loads()
    with monkeypatch.context() as container:  # a user whom the system does not know, as containers have them
        container.delenv("HOME", raising=False)
        container.setattr(pwd, "getpwuid", {}.__getitem__)
        with pytest.raises(FileNotFoundError, match="which is not there. Looked for: "):
            loads()
    assert loads(pretrained=moved / name)
    for place in (moved, moved / name):
        monkeypatch.setenv("SEGP_EXT_WEIGHTS", str(place))
        assert loads()
    monkeypatch.delenv("SEGP_EXT_WEIGHTS")
    (moved / name).rename(tmp_path / "kept" / name)
    assert loads()  # beside the learner
    if kind == "file":
        torch.save({name: 2 * tensor for name, tensor in weights()[1].items()}, tmp_path / "work/w.pt")
        (tmp_path / "kept/w.pt").rename(tmp_path / "w.pt")
        assert loads()  # in the present folder; those at the recorded place are others
        with pytest.raises(
            ValueError, match="made-tiny with the weights file .*work/w.pt is not the model it was trained on"
        ):
            loads(pretrained=tmp_path / "work/w.pt")


@pytest.mark.parametrize("kind", ["file", pytest.param("folder", marks=pytest.mark.slow)])
def test_weights_are_looked_for_where_they_were_read_and_everywhere_else(kind, tmp_path, monkeypatch):
    """Wherever the process is when it saves, and though they are gone by then."""
    (tmp_path / "work").mkdir()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    if kind == "file":
        torch.save(weights()[1], "w.pt")
        learner, name = SeGPCL(load_clip("made-tiny", Path("w.pt"))), "w.pt"
    else:
        local_model(tmp_path / "work/w")
        learner, name = SeGPCL(load_clip("local-dir:w")), "w"
    monkeypatch.chdir(tmp_path / "other")
    for each in (learner, learner.copy()):
        each.save(tmp_path / "kept")
        assert json.loads((tmp_path / "kept/learner.json").read_text())["backbone"]["place"] == str(
            tmp_path / "work" / name
        )
        SeGPCL.load(tmp_path / "kept")
    learner.save(tmp_path / "whole", with_weights=True)
    SeGPCL.load(tmp_path / "whole").save(tmp_path / "kept", with_weights=False)
    SeGPCL.load(tmp_path / "kept")
    (tmp_path / "work" / name).rename(tmp_path / name)
    learner.save(tmp_path / "kept")
    with monkeypatch.context() as said:  # where the user says goes first
        (shutil.copytree if kind == "folder" else shutil.copy)(tmp_path / name, tmp_path / "said")
        said.setenv("SEGP_EXT_WEIGHTS", str(tmp_path / "said"))
        assert SeGPCL.load(tmp_path / "kept").weights_from == str(tmp_path / "said")
    assert SeGPCL.load(tmp_path / "kept").weights_from == str(tmp_path / name)  # beside the learner
    state = json.loads((tmp_path / "kept/learner.json").read_text())
    state["backbone"]["place"] = None  # as earlier versions wrote it
    files = {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir() if path.name != sealed.SUMS}
    sealed.seal(tmp_path / "kept", {**files, "learner.json": json.dumps(state).encode()})
    assert SeGPCL.load(tmp_path / "kept").weights_from == str(tmp_path / name)
    (tmp_path / name).rename(tmp_path / "other/elsewhere")
    with pytest.raises(FileNotFoundError, match=f"Looked for: .*kept/{name}.*pretrained=PLACE.*SEGP_EXT_WEIGHTS"):
        SeGPCL.load(tmp_path / "kept")
    monkeypatch.setenv("SEGP_EXT_WEIGHTS", str(tmp_path / "other/elsewhere"))
    SeGPCL.load(tmp_path / "kept")


def test_a_file_that_is_called_like_weights_of_a_model_is_none_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").touch()
    SeGPCL(load_clip("glyph")).save(tmp_path / "kept")
    assert (
        SeGPCL.load(tmp_path / "kept").weights_from
        == SeGPCL.load(tmp_path / "kept", pretrained="openai").weights_from
        == "own"
    )


def test_a_checkpoint_may_be_called_like_its_models_folder(tmp_path):
    """The folder beside a checkpoint that has the name of the weights is then the checkpoint itself."""
    local_model(tmp_path / "models/pets")
    SeGPCL(load_clip(f"local-dir:{tmp_path / 'models/pets'}")).save(tmp_path / "kept/pets")
    assert SeGPCL.load(tmp_path / "kept/pets").weights_from == str(tmp_path / "models/pets")
