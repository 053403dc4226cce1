"""A backbone as a folder that open_clip loads: every kind of model, an adapter merged, the built-in model's words."""

import json

import open_clip
import pytest
import torch
from made import shake, tiny_backbone
from made_clips import MODELS, own, same_features

from segp_ext.clip.description import ARCHITECTURE
from segp_ext.clip.glyph import GLYPHS, caption_name
from segp_ext.clip.open_clip_folder import open_clip_files, plain_weights
from segp_ext.clip.pretrained import load_clip
from segp_ext.config import LoraConfig

pytestmark = pytest.mark.usefixtures("made_models")
QUICK = ("vit-quickgelu", "custom-blocks")


def loaded(backbone, folder):
    """What open_clip makes of the files: model, preprocessing, tokenizer."""
    for name, content in open_clip_files(backbone).items():
        (folder / name).write_bytes(content)
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return model.eval(), preprocess, open_clip.get_tokenizer(f"local-dir:{folder}")


@pytest.mark.parametrize(
    "kind", [kind if kind in QUICK else pytest.param(kind, marks=pytest.mark.slow) for kind in MODELS]
)
def test_open_clip_loads_every_kind_of_model_with_its_adapter_merged(kind, tmp_path):
    plain, backbone, pixels = own(kind)
    backbone.adapt(LoraConfig(rank=2), seed=0)
    shake(backbone)
    shapes = [
        {name: (t.shape, t.dtype) for name, t in s.items()} for s in (plain_weights(backbone), plain.state_dict())
    ]
    assert shapes[0] == shapes[1]
    model, _, _ = loaded(backbone, tmp_path)
    same_features(backbone, model)
    with torch.no_grad():
        before = plain.encode_image((pixels - backbone.mean) / backbone.std)
        assert (backbone.encode_image(pixels)[0] - before).abs().max() > 1e-3


def test_weights_of_float64_are_written_in_float32(tmp_path):
    backbone = load_clip("made-tiny", None, precision="fp64")
    assert all(tensor.dtype != torch.float64 for tensor in plain_weights(backbone).values())
    same_features(load_clip("made-tiny", None), loaded(backbone, tmp_path)[0])


def test_a_scale_above_the_one_that_predicts_is_lowered_to_it():
    backbone = load_clip("made-tiny", None)
    for value, expected in ((5.0, 100.0), (3.0, 20.0855)):
        backbone.clip.logit_scale.data.fill_(value)
        assert float(plain_weights(backbone)["logit_scale"].exp()) == pytest.approx(expected, rel=1e-5)


def test_the_way_of_resizing_that_was_chosen_is_written(tmp_path):
    backbone = load_clip("made-tiny", None, resize_mode="squash")
    content = json.loads(open_clip_files(backbone)[ARCHITECTURE])
    assert content["preprocess_cfg"]["resize_mode"] == "squash"
    assert "squash" not in json.dumps(json.loads(open_clip_files(load_clip("made-tiny", None))[ARCHITECTURE]))


def test_the_built_in_model_reads_all_words_with_open_clips_tokenizer(tmp_path):
    """Trained words, others, several tokens to a word, text that is cut, and nothing."""
    backbone = load_clip("glyph")
    texts = [f"a photo of the digit or letter {caption_name(glyph)}." for glyph in GLYPHS]
    texts += ["a photo of a zebra!", "antidisestablishmentarianism", "", "a ! b"]
    long = "one two three four five six seven eight nine ten eleven twelve thirteen"
    model, _, tokenizer = loaded(backbone, tmp_path)
    with torch.no_grad():
        found = model.encode_text(tokenizer([*texts, long]))
        tokens = backbone.tokenizer([*texts, long])  # which cuts, where tokenize refuses
        torch.testing.assert_close(found, backbone.encode_text(tokens), rtol=1e-5, atol=1e-5)
        pixels = torch.rand(2, 3, 16, 16)
        embedding = model.encode_image((pixels - backbone.mean) / backbone.std)
        torch.testing.assert_close(backbone.encode_image(pixels)[0], embedding, rtol=1e-5, atol=1e-5)


def test_a_model_that_open_clip_did_not_make_is_refused():
    with pytest.raises(ValueError, match="format open_clip: tiny with a WordTokenizer is no model of open_clip's"):
        open_clip_files(tiny_backbone())
