"""Weights under the names, and in the layout, of transformers, and behind what training scripts put in front."""

import pytest
import torch
from made_clips import in_transformers_layout, same_features, weights
from safetensors.torch import save_file
from torch import nn

from segp_ext.clip.pretrained import load_clip

pytestmark = pytest.mark.usefixtures("made_models")


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_weights_in_the_layout_of_transformers(tmp_path, suffix):
    model, state = weights()
    named = in_transformers_layout(state)
    assert len(named) > len(state) - 5  # nothing forgotten: three projections where there was one
    path = tmp_path / f"model.{suffix}"
    save_file(named, path) if suffix == "safetensors" else torch.save(named, path)
    same_features(load_clip("made-tiny", str(path)), model)


def test_the_layout_of_transformers_by_transformers_itself(tmp_path):
    """Its own model's outputs, so that no mistake of ours is in both directions."""
    transformers = pytest.importorskip("transformers")
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "gelu"}
    config = transformers.CLIPConfig(
        projection_dim=24,
        text_config={
            "hidden_size": 32,
            "intermediate_size": 128,
            "max_position_embeddings": 16,
            "vocab_size": 49408,
            **sizes,
        },
        vision_config={
            "hidden_size": 48,
            "intermediate_size": 192,
            "image_size": 32,
            "patch_size": 8,
            **sizes,
            "num_attention_heads": 4,
        },
    )
    torch.manual_seed(1)
    model = transformers.CLIPModel(config).eval()
    model.save_pretrained(tmp_path)
    backbone = load_clip("made-tiny", str(tmp_path / "model.safetensors"))
    x, tokens = torch.rand(2, 3, 32, 32), backbone.tokenize(["a red fox", "a cat"])
    with torch.no_grad():
        theirs = model(input_ids=tokens, pixel_values=(x - backbone.mean) / backbone.std)
        ours = (
            nn.functional.normalize(backbone.encode_image(x)[0]),
            nn.functional.normalize(backbone.encode_text(tokens)),
        )
    torch.testing.assert_close(ours[0], theirs.image_embeds, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours[1], theirs.text_embeds, rtol=1e-4, atol=1e-5)


def test_a_part_that_open_clip_has_no_place_for_is_named(tmp_path):
    named = in_transformers_layout(weights()[1])
    named["vision_model.head.probe"] = torch.zeros(1)
    save_file(named, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"do not fit made-tiny: .*transformers.*no place .* vision_model.head.probe"):
        load_clip("made-tiny", str(tmp_path / "w.safetensors"))
    for missing, message in (("k_proj", "no place"), ("q_proj", "Missing key")):
        named = in_transformers_layout(weights()[1])
        del named[f"text_model.encoder.layers.1.self_attn.{missing}.weight"]
        save_file(named, tmp_path / "w.safetensors")
        with pytest.raises(ValueError, match=f"do not fit made-tiny: .*{message}"):
            load_clip("made-tiny", str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize(
    "front", ["module.", "_orig_mod.", "model.", "clip.", "module.model._orig_mod.", "model.clip."]
)
@pytest.mark.parametrize("layout", ["open_clip", "transformers"])
def test_what_training_scripts_put_in_front(tmp_path, front, layout):
    model, state = weights()
    named = in_transformers_layout(state) if layout == "transformers" else state
    content = {f"{front}{key}": value for key, value in named.items()}
    if front == "model.":  # as Lightning writes it: other things beside, also among the weights
        content = {
            "state_dict": {**content, "metric.total": torch.zeros(1)},
            "epoch": 3,
            "hyper_parameters": {"lr": 0.1},
        }
    elif front == "clip.":
        content = {"model": content, "step": 3}
    elif front == "module.":
        content = {
            "net": {**content, "loss.logit_scale": torch.ones(())},
            "optimizer": {"state": {}},
        }  # a loss has a scale of its own
    torch.save(content, tmp_path / "w.pt")
    same_features(load_clip("made-tiny", str(tmp_path / "w.pt")), model)


def test_a_part_that_was_compiled_by_itself(tmp_path):
    model, state = weights()
    torch.save({k.replace("visual.", "visual._orig_mod."): v for k, v in state.items()}, tmp_path / "w.pt")
    same_features(load_clip("made-tiny", str(tmp_path / "w.pt")), model)


def test_two_models_in_one_file(tmp_path):
    _, state = weights()
    torch.save({f"{front}{k}": v for k, v in state.items() for front in ("student.", "teacher.")}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"do not fit made-tiny: they are of 2 models, student., teacher."):
        load_clip("made-tiny", str(tmp_path / "w.pt"))
