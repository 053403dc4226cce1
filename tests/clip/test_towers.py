"""Every kind of open_clip model against open_clip's own encoders: small configurations, random weights."""

import open_clip
import pytest
import torch
import torch.nn.functional as F
from made_clips import MODELS, TEXTS, own

from segp_ext.clip.backbone import Backbone
from segp_ext.clip.pretrained import load_clip

pytestmark = pytest.mark.usefixtures("made_models")


CUT = {
    "vit",
    "vit-quickgelu",
    "vit-attentional-pool",
    "custom-text",
    "eos-pool",
    "pe-core",
    "mobileclip-b",
    "timm-linear",
    "timm-mlp",
}


CUT |= {"convnext", "eva02", "eva01", "custom-blocks"}


@pytest.mark.parametrize("name", MODELS)
def test_features_are_open_clips_own(name):
    plain, backbone, pixels = own(name)
    with torch.no_grad():
        embedding, feature = backbone.encode_image(pixels)
        expected = plain.encode_image((pixels - backbone.mean) / backbone.std)
        torch.testing.assert_close(embedding, expected, rtol=1e-4, atol=1e-5)
        assert feature.shape == (3, backbone.raw_dim) and embedding.shape == (3, backbone.embed_dim)
        # the raw feature is what open_clip's own projection makes the embedding of
        visual = plain.visual
        if getattr(visual, "proj", None) is not None:
            projected = feature @ visual.proj
        elif len(visual.head):
            projected = visual.head(feature)
        else:
            projected = visual.trunk.get_classifier()(feature)
        torch.testing.assert_close(projected, expected, rtol=1e-4, atol=1e-5)
        assert backbone.projects == (name != "sigmoid")
        tokens = open_clip.get_tokenizer(f"made-{name}")(TEXTS, context_length=16)
        own_tokens = backbone.tokenize(TEXTS)
        assert own_tokens.shape[1] == (9 if name in CUT else 16)
        torch.testing.assert_close(backbone.encode_text(own_tokens), plain.encode_text(tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("RN50", "a tower of type ModifiedResNet has no raw feature"),
        ("made-abs-attn", "pools and projects in one attention layer"),
        ("coca_ViT-B-32", "a captioning model"),
        ("made-cosine", "scaled cosine attention"),
    ],
)
def test_models_without_a_raw_feature_are_refused(name, reason):
    with pytest.raises(ValueError, match=f"model '{name}' cannot be used: .*{reason}.*what works"):
        load_clip(name, None)


def test_the_context_is_refused_where_the_padding_counts_too():
    backbone = load_clip("made-sigmoid", None)
    backbone.tokenize(["w " * 14])  # fits exactly
    with pytest.raises(ValueError, match=r"16 tokens of made-sigmoid's text context: 'w w "):
        backbone.tokenize(["w " * 15])


def test_cutting_prompts_at_the_real_size():
    """ViT-B/32's text tower: 12 layers of width 512, a context of 77."""
    backbone = load_clip("ViT-B-32-quickgelu", None)
    tokens = backbone.tokenize(["a good photo of a red fox.", "a good photo of a cat."])
    whole = F.pad(tokens, (0, 77 - tokens.shape[1]))
    assert tokens.shape[1] == 10
    with torch.no_grad():
        assert (backbone.encode_text(tokens) - backbone.encode_text(whole)).abs().max() < 1e-5


def test_a_word_with_the_number_of_the_padding_counts():
    """CLIP's tokenizer pads with 0, which is "!" inside a word: cut as padding, the end of the text would go."""
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    assert tokenizer.encode("!?#!$").count(0) == 2
    torch.manual_seed(0)
    text = {"context_length": 20, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "head_width": 16, "layers": 1}
    made = Backbone(open_clip.CLIP(16, vision, text), tokenizer, "made", None)
    for odd in ("!?#!$", "yahoo! !$!"):
        tokens = made.tokenize([odd])
        assert tokens[0, -1] == 49407 and tokens.shape[1] == len(tokenizer.encode(odd)) + 2
        whole = made.clip.encode_text(tokenizer([odd], context_length=20))
        torch.testing.assert_close(made.encode_text(tokens), whole, rtol=1e-5, atol=1e-5)
