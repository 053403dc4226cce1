"""The backbone against open_clip's own encoders."""

import open_clip
import pytest
import torch
import torch.nn.functional as F
from made import CONTEXT, TEXTS, WordTokenizer, pixels, tiny_backbone
from made_clips import own

from segp_ext.clip.backbone import Backbone
from segp_ext.clip.pretrained import load_clip
from segp_ext.config import LoraConfig

pytestmark = pytest.mark.usefixtures("made_models")


def test_a_logit_bias_changes_no_softmax_and_no_ranking():
    plain, backbone, pixels = own("sigmoid")
    assert plain.logit_bias is not None and plain.logit_bias.item() == -10
    with torch.no_grad():
        theirs, _ = plain.get_logits((pixels - backbone.mean) / backbone.std, backbone.tokenize(TEXTS))
        v, u = backbone.encode_image(pixels)[0], backbone.encode_text(backbone.tokenize(TEXTS))
        ours = backbone.logit_scale * F.normalize(v, dim=1) @ F.normalize(u, dim=1).T
    torch.testing.assert_close(theirs + 10, ours, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(theirs.softmax(1), ours.softmax(1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_features_are_open_clips_own(quick_gelu):
    torch.manual_seed(0)
    vision = {"image_size": 8, "patch_size": 4, "width": 24, "head_width": 12, "layers": 2}
    text = {"context_length": CONTEXT, "vocab_size": 50, "width": 20, "heads": 2, "layers": 2}
    clip = open_clip.CLIP(16, vision, text, quick_gelu=quick_gelu).eval()
    x, tokens = pixels(), WordTokenizer()(TEXTS)
    with torch.no_grad():
        mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
        std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
        image_expected, text_expected = clip.encode_image((x - mean) / std), clip.encode_text(tokens)
        projection = clip.visual.proj.clone()
        backbone = Backbone(clip, WordTokenizer(), "tiny", None)
        embedding, feature = backbone.encode_image(x)
        torch.testing.assert_close(embedding, image_expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(feature @ projection, image_expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(backbone.encode_text(tokens), text_expected, rtol=1e-5, atol=1e-5)


def test_cutting_prompts_leaves_embeddings_alone(backbone):
    with torch.no_grad():
        tokens = backbone.tokenize(TEXTS[:2])
        assert tokens.shape == (2, 8) and backbone.tokenize(TEXTS[:1]).shape == (1, 3)
        torch.testing.assert_close(
            backbone.encode_text(tokens), backbone.encode_text(WordTokenizer()(TEXTS[:2])), rtol=0, atol=1e-5
        )


def test_a_prompt_over_the_context_is_named(backbone):
    backbone.tokenize(["w " * (CONTEXT - 2)])  # fits exactly
    with pytest.raises(ValueError, match=r"10 tokens.*'too long a b c d e f g'"):
        backbone.tokenize(["fine", "too long a b c d e f g"])


@pytest.mark.parametrize(("learned", "scale"), [(4.0, 54.598), (4.7, 100.0), (88.0, 100.0)])
def test_the_logit_scale_is_bounded_as_in_clip(learned, scale):
    clip = tiny_backbone().clip
    clip.visual.proj = torch.nn.Parameter(torch.zeros(24, 16))
    clip.logit_scale.data.fill_(learned)
    assert Backbone(clip, WordTokenizer(), "tiny", None).logit_scale == pytest.approx(scale, rel=1e-4)
    clip.visual.proj = torch.nn.Parameter(torch.zeros(24, 16))
    clip.logit_scale.data.fill_(float("nan"))
    with pytest.raises(
        ValueError, match="weights of tiny are damaged: their logit_scale has values that are not finite"
    ):
        Backbone(clip, WordTokenizer(), "tiny", None)


def test_refusals(backbone):
    with pytest.raises(ValueError, match="lora.rank must be at most 24"):
        backbone.adapt(LoraConfig(rank=25, encoders="vision"), seed=0)
    backbone.adapt(LoraConfig(rank=4), seed=0)
    with pytest.raises(ValueError, match="carries an adapter already"):
        backbone.adapt(LoraConfig(rank=4), seed=0)
    with pytest.raises(ValueError, match="no model named 'ViT-B-61'.*ViT-B-16"):
        load_clip("ViT-B-61")
    with pytest.raises(ValueError, match="ViT-B-32 has no weights 'opnai'.*openai"):
        load_clip("ViT-B-32", "opnai")
    with pytest.raises(
        FileNotFoundError, match="ViT.* with the weights file gone/weights.pt is not there. Looked for: /"
    ):
        load_clip("ViT-B-32", "gone/weights.pt")
    with pytest.raises(ValueError, match="cannot be used.*raw feature"):
        load_clip("RN50", None)
