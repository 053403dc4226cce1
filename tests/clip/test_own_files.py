"""Learners saved with their backbone's weights."""

import json
import shutil

import pytest
from made import made_images, save_tokenizer, tiny_backbone
from made_clips import (
    local_model,
    openai_archive,
    weights,
)
from safetensors.torch import load, save

from segp_ext.clip import glyph
from segp_ext.clip.pretrained import load_clip
from segp_ext.config import LoraConfig, MethodConfig, TrainingConfig
from segp_ext.method.learner import SeGPCL
from segp_ext.storage import sealed

pytestmark = pytest.mark.usefixtures("made_models")


def learnt_by(backbone):
    config = MethodConfig(training=TrainingConfig(epochs=1, batch_size=4), lora=LoraConfig(rank=4))
    learner = SeGPCL(backbone, config)
    learner.learn_task(made_images(2, 4), ["fox", "red"])
    return learner


def predicted(learner):
    return [learner.predict([image for image, _ in made_images(2, 4)], path=path) for path in ("text", "visual")]


@pytest.mark.parametrize(
    "kind",
    ["glyph", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("archive", "folder", "tokenizer", "fp64"))],
)
def test_a_learner_with_its_weights_needs_nothing_else(kind, tmp_path, monkeypatch):
    """QuickGELU of an archive, a folder's preprocessing, a Hugging Face tokenizer, float64: predictions to the bit, and learning on."""
    original = tmp_path / "original"
    original.mkdir()
    if kind == "archive":
        openai_archive(original / "tiny.pt", weights(force_quick_gelu=True)[0], 32)
        backbone = load_clip("made-tiny", str(original / "tiny.pt"))
    elif kind == "glyph":
        (original / "w.safetensors").write_bytes(glyph.WEIGHTS.read_bytes())
        monkeypatch.setattr(glyph, "WEIGHTS", original / "w.safetensors")
        backbone = load_clip("glyph")
    else:
        local_model(original)
        if kind == "tokenizer":
            content = json.loads((original / "open_clip_config.json").read_text())
            content["model_cfg"]["text_cfg"] |= {"hf_tokenizer_name": "team/words"}
            (original / "open_clip_config.json").write_text(json.dumps(content))
            words = ["<pad>", "<unk>", "a", "photo", "of", "red.", "fox.", "a.", "photo.", "</s>"]
            save_tokenizer(original, words, "$A </s>", pad_token="<pad>", eos_token="</s>")
        backbone = load_clip(f"local-dir:{original}", precision="fp64" if kind == "fp64" else "fp32")
    learner = learnt_by(backbone)
    learner.save(tmp_path / "bare")
    learner.save(tmp_path / "whole", with_weights=True)
    shutil.rmtree(original)
    if kind != "glyph":
        with pytest.raises(FileNotFoundError):
            SeGPCL.load(tmp_path / "bare")
    (tmp_path / "whole").rename(tmp_path / "moved")
    loaded = SeGPCL.load(tmp_path / "moved")
    assert predicted(loaded) == predicted(learner) and loaded.backbone.weights_hash() == backbone.weights_hash()
    assert (loaded.backbone.name, loaded.backbone.pretrained) == (backbone.name, backbone.pretrained)
    assert loaded.weights_from == str(tmp_path / "moved/backbone.safetensors") and loaded.weights_from in repr(loaded)
    for each in (loaded, learner):
        each.learn_task(made_images(2, 4, seed=2), ["a", "photo"])
    assert predicted(loaded) == predicted(learner)
    loaded.save(tmp_path / "moved")  # with weights again, for there are no others
    assert predicted(SeGPCL.load(tmp_path / "moved")) == predicted(learner)
    loaded.save(tmp_path / "moved", with_weights=False)
    assert not (tmp_path / "moved/backbone.safetensors").exists()


def test_weights_in_a_learners_folder_that_are_damaged_or_others_are_refused(tmp_path):
    learner = learnt_by(load_clip("glyph"))
    learner.save(tmp_path / "kept", with_weights=True)
    file = tmp_path / "kept/backbone.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="backbone.safetensors is damaged"):
        SeGPCL.load(tmp_path / "kept")
    good = load(whole)
    name = "visual.conv1.weight"
    for changed, message in (
        (
            {**good, name: good[name] * 2},
            "glyph with its own weights is not the model it was trained on; the weights differ",
        ),
        ({**good, name: good[name] / 0}, f"the weights of glyph are damaged: their {name}"),
        ({**good, name: good[name][:5].contiguous()}, f"{name} must be torch.float32 .*; got torch.float32"),
        ({**good, name: good[name].half()}, f"{name} must be torch.float32 .*; got torch.float16"),
        ({**good, "more": good[name].clone()}, "the weights do not fit glyph; first difference: more"),
        ({n: t for n, t in good.items() if n != name}, f"first difference: {name}"),
    ):
        files = {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir() if path.name != sealed.SUMS}
        sealed.seal(tmp_path / "kept", {**files, file.name: save(changed)})
        with pytest.raises(ValueError, match=message):
            SeGPCL.load(tmp_path / "kept")
    file.write_bytes(b"nothing")
    sealed.seal(tmp_path / "kept", {**files, file.name: b"nothing"})
    with pytest.raises(ValueError, match="backbone.safetensors cannot be used"):
        SeGPCL.load(tmp_path / "kept")
    assert (
        SeGPCL.load(tmp_path / "kept", pretrained="own").weights_from == "own"
    )  # the model's, not those in the folder


def test_a_model_that_cannot_be_made_again_is_not_saved_with_its_weights(tmp_path):
    learner = SeGPCL(tiny_backbone(), MethodConfig(method="zero-shot"))
    with pytest.raises(ValueError, match="with_weights: tiny with a WordTokenizer is no model of open_clip's"):
        learner.save(tmp_path / "kept", with_weights=True)
    assert not list(tmp_path.iterdir())
