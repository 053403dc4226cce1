"""Models as open_clip builds them: activations, tokenizers, and models that a folder describes."""

import json

import open_clip
import pytest
import torch
from made import save_tokenizer
from made_clips import (
    CONFIG,
    local_model,
    random_tiny,
    same_features,
)
from safetensors.torch import save_file

from segp_ext.clip.pretrained import load_clip

pytestmark = pytest.mark.usefixtures("made_models")


def test_the_activation_may_be_given():
    same_features(load_clip("made-tiny", None, quick_gelu=True), random_tiny(force_quick_gelu=True))
    with pytest.raises(ValueError, match="quick_gelu must be true or left out for made-tiny-quickgelu"):
        load_clip("made-tiny-quickgelu", None, quick_gelu=False)


def test_a_local_folder_brings_weights_and_preprocessing(tmp_path):
    from PIL import Image

    model = local_model(tmp_path / "mine")
    backbone = load_clip(f"local-dir:{tmp_path / 'mine'}")
    same_features(backbone, model)
    assert (backbone.resize_mode, backbone.interpolation, backbone.mean.flatten().tolist()) == (
        "squash",
        "bilinear",
        [0.5] * 3,
    )
    image = Image.effect_noise((50, 40), 80).convert("RGB")
    expected = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(
            size=32, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bilinear", resize_mode="squash"
        ),
        False,
    )(image)
    torch.testing.assert_close(backbone.transform(image).float() / 255, expected, rtol=0, atol=1e-6)
    shortest = load_clip(f"local-dir:{tmp_path / 'mine'}", resize_mode="shortest")
    assert not torch.equal(shortest.transform(image), backbone.transform(image))


def test_a_tokenizer_of_hugging_face(tmp_path):
    """A SigLIP-like model: its padding is its end-of-text token, and counts."""
    text = {
        **CONFIG["text_cfg"],
        "vocab_size": 32,
        "no_causal_mask": True,
        "pool_type": "last",
        "hf_tokenizer_name": "team/words",
    }
    text["tokenizer_kwargs"] = {"clean": "canonicalize"}
    folder = tmp_path / "sigmoid"
    torch.manual_seed(0)
    tower = {key: value for key, value in text.items() if key != "tokenizer_kwargs"}
    model = open_clip.CustomTextCLIP(24, CONFIG["vision_cfg"], tower, init_logit_bias=-10)
    folder.mkdir()
    settings = {**CONFIG, "text_cfg": text, "custom_text": True, "init_logit_bias": -10}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": settings}))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    with pytest.raises(ValueError, match="could not load the tokenizer of local-dir:.*sigmoid"):
        load_clip(f"local-dir:{folder}")
    words = ["<unk>", "</s>", "a", "photo", "of", "red", "fox", "w", "."]
    save_tokenizer(folder, words, "$A </s>", pad_token="</s>", eos_token="</s>")
    backbone = load_clip(f"local-dir:{folder}")
    tokens = backbone.tokenize(["a red fox"])
    assert tokens.tolist() == [[2, 5, 6, *[1] * 13]]  # the whole context, padded with the end of the text
    with torch.no_grad():
        torch.testing.assert_close(backbone.encode_text(tokens), model.eval().encode_text(tokens), rtol=1e-4, atol=1e-5)
    assert backbone.tokenize(["w " * 15]).shape == (1, 16)  # 15 words and the end fit exactly
    with pytest.raises(ValueError, match=r"does not fit the 16 tokens.*'w w w"):
        backbone.tokenize(["a fox", "w " * 16])
    with pytest.raises(ValueError, match=r"'w w [w ]{90,120} \.\.\.'; shorten the class name or the prompt"):
        backbone.tokenize(["w " * 1000])


def test_weights_of_a_tag_get_its_activation(monkeypatch):
    """OpenAI's and Meta's weights were trained with QuickGELU, whichever of a model's two names they are asked for by."""
    for tag, quick in (("openai", True), ("metaclip_400m", True), ("laion400m_e32", False)):
        asked = {}

        def create(name, *, asked=asked, **settings):
            asked.update(settings)
            raise RuntimeError("no network")

        monkeypatch.setattr(open_clip, "create_model", create)
        with pytest.raises(ValueError, match="could not load ViT-B-16 with weights .*: no network"):
            load_clip("ViT-B-16", tag)
        assert asked["force_quick_gelu"] is quick, tag
    with pytest.raises(ValueError, match="no network"):  # a model of QuickGELU whose tag does not say so
        load_clip("roberta-ViT-B-32", "laion2b_s12b_b32k")


def test_a_foreign_tokenizer_runs_nothing(tmp_path):
    """A configuration that asks for the tokenizer's own code does not get it run."""
    text = {**CONFIG["text_cfg"], "hf_tokenizer_name": "team/words", "tokenizer_kwargs": {"trust_remote_code": True}}
    local_model(tmp_path, model_cfg={**CONFIG, "text_cfg": text})
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ValueError, match="could not load the tokenizer"):
        load_clip(f"local-dir:{tmp_path}")
    assert not (tmp_path / "ran").exists()
