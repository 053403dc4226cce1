"""Models of the hub: from the local cache, without a network, and with code of their own."""

import json
import socket
import time

import open_clip
import pytest
from made_clips import (
    CONFIG,
    local_model,
    same_features,
)
from safetensors.torch import save_file

from segp_ext.clip.pretrained import load_clip

pytestmark = pytest.mark.usefixtures("made_models")


def test_a_model_of_the_hub_from_the_local_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    cache = tmp_path / "cache" / "models--team--tiny-clip"
    model = local_model(cache / "snapshots" / "0123456789")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0123456789")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    same_features(load_clip("hf-hub:team/tiny-clip"), model)
    with pytest.raises(ValueError, match="could not load hf-hub:team/gone"):
        load_clip("hf-hub:team/gone")


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    """An empty cache, and nobody who knows where the hub is; the list of those who asked."""
    from huggingface_hub import constants

    asked = []

    def unknown(host, *_, **__):
        asked.append(host)
        raise socket.gaierror("name resolution failed")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(time, "sleep", lambda seconds: asked.append(f"a pause of {seconds} s"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield asked
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        (
            "ViT-B-32",
            "laion2b_s34b_b79k",
            "could not load ViT-B-32 with weights 'laion2b_s34b_b79k': Failed to download",
        ),
        ("ViT-B-16-SigLIP", "webli", "could not load ViT-B-16-SigLIP with weights 'webli': Failed to download"),
        ("ViT-B-16-SigLIP", None, "could not load the tokenizer of ViT-B-16-SigLIP"),
        ("hf-hub:team/gone", "openai", "model.name: could not load hf-hub:team/gone: "),
    ],
)
def test_a_hub_that_does_not_answer_is_asked_once(name, pretrained, message, no_network, capfd, monkeypatch):
    made = open_clip.create_model
    if pretrained is None:  # a small one in place of the model, whose tokenizer alone is of the hub
        monkeypatch.setattr(open_clip, "create_model", lambda _, **settings: made("made-tiny", pretrained=None))
    with pytest.raises(ValueError, match=message + r"[\s\S]*Without a network"):
        load_clip(name, pretrained)
    assert len(no_network) == 1, no_network
    assert capfd.readouterr().err == ""


def test_without_a_network_the_cache_is_read_and_local_weights_ask_nobody(tmp_path, no_network):
    cache = tmp_path / "cache" / "models--team--tiny-clip"
    model = local_model(cache / "snapshots" / "0123456789")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0123456789")
    same_features(load_clip("hf-hub:team/tiny-clip"), model)
    assert len(no_network) == 1, no_network
    same_features(load_clip(f"local-dir:{cache / 'snapshots' / '0123456789'}"), model)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    same_features(load_clip("made-tiny", str(tmp_path / "weights.safetensors")), model)
    assert len(no_network) == 1, no_network


def test_a_foreign_text_tower_runs_nothing_and_asks_nobody(tmp_path, monkeypatch):
    tower = tmp_path / "tower"
    tower.mkdir()
    (tower / "config.json").write_text(json.dumps({"model_type": "odd", "auto_map": {"AutoConfig": "code.Config"}}))
    (tower / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    text = {"hf_model_name": str(tower), "hf_tokenizer_name": str(tower)}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {**CONFIG, "text_cfg": text}}))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    with pytest.raises(ValueError, match="could not load local-dir:"):
        load_clip(f"local-dir:{tmp_path}", None)
    assert not (tmp_path / "ran").exists()
