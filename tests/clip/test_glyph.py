"""The built-in model: tokenizer, checkpoint, and the scores that stand beside it."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from segp_ext.clip import glyph
from segp_ext.clip.pretrained import load_clip
from segp_ext.data.digits import digits


@pytest.fixture(scope="module")
def tokenizer():
    return glyph.GlyphTokenizer()


def test_ids_keep_their_order_and_the_end_of_text_is_the_highest(tokenizer):
    tokens = tokenizer([t.format(glyph.caption_name(g)) for g in glyph.GLYPHS for t in glyph.TEMPLATES])
    end = tokenizer.vocabulary_size - 1
    assert tokens.dtype == torch.int64 and tokens.shape == (52 * 8, 12)
    assert (tokens.max(dim=1).values == end).all() and (tokens == end).sum() == len(tokens)
    assert (tokens[:, 0] == end - 1).all()
    words = tokens[(tokens > 0) & (tokens < end - 1)]
    assert set(words.tolist()) == set(range(1, tokenizer.known_words + 1))  # every known row is used, and no other


def test_every_glyph_has_a_caption_of_its_own(tokenizer):
    assert len({tuple(row) for row in tokenizer([glyph.caption_name(g) for g in glyph.GLYPHS]).tolist()}) == 52


def test_other_words_have_rows_of_their_own(tokenizer):
    assert not tokenizer.unknown("a photo of the digit 7.") and tokenizer.unknown("a photo of a zebra.")
    zebra, otter = tokenizer(["zebra", "otter"])
    assert zebra[1] != otter[1] and zebra[1] > tokenizer.known_words and zebra[1] < tokenizer.vocabulary_size - 2
    embedding = glyph.build()[0].token_embedding.weight.detach()
    length = embedding[1 : 1 + tokenizer.known_words].norm(dim=1).mean()
    torch.testing.assert_close(embedding[zebra[1]].norm(), length)
    assert not torch.equal(embedding[zebra[1]], embedding[otter[1]])


def test_names_are_known_where_they_name_one_digit_or_letter(tokenizer):
    for name in ("7", "capital q", "Capital Q", "a", "the digit 7"):
        assert not tokenizer.unknown(name), name
    for name in ("00", "42", "zebra", "class 3", "n01443537", "digit", "zero"):
        assert tokenizer.unknown(name), name


def test_a_long_text_is_cut_with_its_end_kept_and_refused_by_the_backbone(tokenizer):
    tokens = tokenizer("a " * 40)
    assert tokens.shape == (1, 12) and tokens[0, -1] == tokenizer.vocabulary_size - 1
    with pytest.raises(ValueError, match="does not fit the 12 tokens"):
        load_clip("glyph").tokenize(["a " * 11])
    load_clip("glyph").tokenize(["a " * 10])


def test_the_checkpoint_is_small_finite_and_half_precision():
    assert glyph.WEIGHTS.stat().st_size < 4_000_000
    tensors = load_file(glyph.WEIGHTS)
    assert all(t.dtype == torch.float16 and t.isfinite().all() for t in tensors.values())


def test_the_recorded_zero_shot_accuracy_is_reproduced():
    recorded = json.loads(glyph.WEIGHTS.with_suffix(".json").read_text())["zero_shot_accuracy"]
    template = "a photo of the digit {}."
    backbone, collection = load_clip("glyph"), digits()
    pixels = [Image.fromarray(collection.opener(i)[0]).convert("RGB") for c in range(10) for i in collection.train[c]]
    target = torch.tensor([c for c in range(10) for _ in collection.train[c]])
    with torch.no_grad():
        image, _ = backbone.encode_image(backbone.to_unit(torch.stack([backbone.transform(p) for p in pixels])))
        text = backbone.encode_text(backbone.tokenize([template.format(d) for d in glyph.DIGITS]))
        hits = (torch.nn.functional.normalize(image, dim=1) @ torch.nn.functional.normalize(text, dim=1).T).argmax(1)
    measured = (hits == target).float().mean().item()
    # Half precision and another machine's rounding may turn a picture or two.
    assert measured == pytest.approx(recorded[f"digits, training part, '{template}'"], abs=0.005)
    assert measured > 0.6


def test_random_weights_are_always_the_same():
    assert load_clip("glyph", None, "cpu").weights_hash() == load_clip("glyph", None, "cpu").weights_hash()
    assert load_clip("glyph", None, "cpu").weights_hash() != load_clip("glyph", device="cpu").weights_hash()
