"""Loading a model by name: settings, places and devices."""

import open_clip
import pytest
import torch
from made_clips import local_model, same_features, weights

from segp_ext.clip.pretrained import load_clip

pytestmark = pytest.mark.usefixtures("made_models")


def test_a_file_of_weights_may_be_given_as_a_path(tmp_path):
    torch.save(weights()[1], tmp_path / "w.pt")
    assert load_clip("made-tiny", tmp_path / "w.pt").pretrained == str(tmp_path / "w.pt")
    with pytest.raises(FileNotFoundError, match="made-tiny with the weights file .*gone.pt is not there"):
        load_clip("made-tiny", tmp_path / "gone.pt")


@pytest.mark.parametrize(("setting", "value"), [("resize_mode", "wide"), ("precision", "int8")])
def test_settings_that_do_not_exist_are_named(setting, value):
    with pytest.raises(ValueError, match=f"model.{setting} must be one of .*got '{value}'"):
        load_clip("made-tiny", None, **{setting: value})


def test_a_file_in_the_home_folder_and_a_tag_with_hyphens(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    model, state = weights()
    torch.save(state, tmp_path / "w.pt")
    same_features(load_clip("made-tiny", "~/w.pt"), model)
    local_model(tmp_path / "mine")
    assert load_clip("local-dir:~/mine").pretrained == "own"
    monkeypatch.setattr(open_clip, "create_model", lambda name, pretrained, **settings: pytest.fail(pretrained))
    with pytest.raises(pytest.fail.Exception, match="laion2b_s34b_b79k"):
        load_clip("ViT-B-32", "LAION2B-s34b-b79k")


@pytest.mark.parametrize("name", ["glyph", "local-dir:", "hf-hub:team/clip"])
def test_what_brings_its_weights_takes_no_others(name, tmp_path):
    (tmp_path / "w.pt").write_bytes(b"")
    for other in ("laion400m_e32", str(tmp_path / "w.pt")):
        with pytest.raises(
            ValueError,
            match=f"model.pretrained: {name}.* brings its own weights; leave model.pretrained out, or null for random ones; got",
        ):
            load_clip(name, other)


def test_own_weights_are_recorded_as_such():
    assert [load_clip("glyph", pretrained).pretrained for pretrained in ("openai", "own", None)] == ["own", "own", None]
    assert (
        load_clip("glyph", None).weights_hash()
        != load_clip("glyph").weights_hash()
        == load_clip("glyph", "own").weights_hash()
    )


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="model.device must be auto, cpu, cuda or cuda:<n>; got 'gpu'"):
        load_clip("glyph", device="gpu")
