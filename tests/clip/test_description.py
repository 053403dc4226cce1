"""Configurations of models from elsewhere, and folders without one."""

import json

import pytest
from made_clips import (
    CONFIG,
    local_model,
)

from segp_ext.clip.pretrained import load_clip

pytestmark = pytest.mark.usefixtures("made_models")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON file"),
        ("[]", "must hold a dict model_cfg"),
        ('{"model_cfg": 5}', "must hold a dict model_cfg"),
        (json.dumps({"model_cfg": {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "layers": 10**9}}}), "model_cfg.vision_cfg.layers is"),
        (json.dumps({"model_cfg": {**CONFIG, "embed_dim": 10**12}}), "model_cfg.embed_dim is 1000000000000, more than any model has"),
        (json.dumps({"model_cfg": {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "width": 9_000_000}}}), "GB are free"),
    ],
)  # fmt: skip
def test_a_foreign_configuration_is_bounded(tmp_path, content, message):
    (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises(ValueError, match=f"could not load local-dir:.*{message}"):
        load_clip(f"local-dir:{tmp_path}", None)


def test_a_folder_without_a_configuration(tmp_path):
    with pytest.raises(ValueError, match="no open_clip_config.json in"):
        load_clip(f"local-dir:{tmp_path}")
    local_model(tmp_path / "empty")
    (tmp_path / "empty/open_clip_model.safetensors").unlink()
    with pytest.raises(ValueError, match="could not load local-dir:"):
        load_clip(f"local-dir:{tmp_path / 'empty'}")
    assert load_clip(f"local-dir:{tmp_path / 'empty'}", None).raw_dim == 48  # random weights, asked for
