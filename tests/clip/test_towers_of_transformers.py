"""Text towers and tokenizers from transformers."""

import json

import open_clip
import pytest
import torch
from made import save_tokenizer
from made_clips import (
    TEXT,
    VIT,
    named_in,
    own,
)

from segp_ext.clip.pretrained import load_clip
from segp_ext.config import LoraConfig

pytestmark = pytest.mark.usefixtures("made_models")


WORDS = ["<s>", "<pad>", "</s>", "<unk>", "a", "photo", "of", "red", "fox", "one", "two", "three", "four", "five", "w"]


def language_model(kind):
    """A small configuration of the language models that open_clip's text towers come from; padding is token 1."""
    import transformers

    sizes = {"vocab_size": 40, "pad_token_id": 1}
    width = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    if kind == "xlm-roberta":
        return transformers.XLMRobertaConfig(**sizes, **width, max_position_embeddings=60)
    if kind == "bert":
        return transformers.BertConfig(**sizes, **width, max_position_embeddings=12)
    if kind == "mt5":
        return transformers.MT5Config(**sizes, d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2)
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48}
    return transformers.M2M100Config(**sizes, **heads, d_model=32, encoder_layers=2, max_position_embeddings=60)


@pytest.mark.parametrize(
    ("kind", "pooler", "projection", "context", "layers"),
    [
        ("xlm-roberta", "mean_pooler", "mlp", 20, ("encoder.layer.1",
         "attention.self.key attention.self.value", "attention.self.query attention.output.dense", "intermediate.dense output.dense")),
        ("bert", "cls_pooler", "linear", 12, ("encoder.layer.1",  # fewer places than the tokenizer would fill
         "attention.self.key attention.self.value", "attention.self.query attention.output.dense", "intermediate.dense output.dense")),
        ("mt5", "mean_pooler", "mlp", 20, ("block.1",  # no limit of its own
         "layer.0.SelfAttention.k layer.0.SelfAttention.v", "layer.0.SelfAttention.q layer.0.SelfAttention.o",
         "layer.1.DenseReluDense.wi_0 layer.1.DenseReluDense.wi_1 layer.1.DenseReluDense.wo")),
        ("m2m_100", "cls_pooler", "linear", 20, ("layers.1",
         "self_attn.k_proj self_attn.v_proj", "self_attn.q_proj self_attn.out_proj", "fc1 fc2")),
    ],
)  # fmt: skip
def test_text_towers_from_transformers(tmp_path, kind, pooler, projection, context, layers):
    """Layers: a block, and the names in it of keys and values, of the rest of attention, and of the FFN."""
    block, kv, others, ffn = layers
    language_model(kind).save_pretrained(tmp_path / kind)
    save_tokenizer(tmp_path / "words", WORDS, "<s> $A </s>", bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    text = {"hf_model_name": str(tmp_path / kind), "hf_tokenizer_name": str(tmp_path / "words"), "context_length": 20}
    text |= {"hf_pooler_type": pooler, "hf_proj_type": projection, "hf_model_pretrained": False}
    settings = {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": text}
    (tmp_path / f"made-{kind}.json").write_text(json.dumps(settings))
    open_clip.add_model_config(tmp_path / f"made-{kind}.json")

    plain, backbone, _ = own(kind)
    texts = ["a", "a photo of a red fox", "one two three four"]
    tokens = backbone.tokenize(texts)
    assert tokens.shape == (3, 8)  # the longest and its two special tokens: these towers mask their padding
    whole = backbone.tokenizer(texts, context_length=context)
    with torch.no_grad():
        torch.testing.assert_close(backbone.encode_text(tokens), plain.encode_text(whole), rtol=1e-4, atol=1e-5)
    backbone.tokenize(["w " * (context - 2)])  # fits exactly
    with pytest.raises(ValueError, match=f"does not fit the {context} tokens of made-{kind}'s text context"):
        backbone.tokenize(["w " * (context - 1)])

    named = named_in(backbone.clip, f"text.transformer.{block}")
    assert named == {
        "kv": {*kv.split()},
        "attention": {*f"{kv} {others}".split()},
        "ffn": {*ffn.split()},
        "convolutions": set(),
    }
    backbone.adapt(LoraConfig(rank=2, encoders="text", targets="attention+ffn"), seed=0)
    starts = {name.split(".lora_A.")[0]: p for name, p in backbone.clip.named_parameters() if ".lora_A." in name}
    first, *rest = (starts[f"text.transformer.{block}.{end}"] for end in f"{kv} {others}".split()[:3])
    assert all(torch.equal(first, start) for start in rest)  # queries, keys and values, as in one packed projection
    for parameter in backbone.trained_parameters():
        parameter.data.normal_(std=0.1)
    adapted = backbone.encode_text(tokens)
    adapted.square().sum().backward()
    assert len(backbone.trained_parameters()) >= 2 * 6  # two blocks: attention's four layers, two of the FFN
    assert all(parameter.grad.abs().max() > 0 for parameter in backbone.trained_parameters())
    with torch.no_grad(), backbone.merged():
        torch.testing.assert_close(backbone.encode_text(tokens), adapted, rtol=1e-3, atol=1e-4)


def test_a_tokenizer_that_ends_with_a_class_token(tmp_path):
    """CLIPS: the text's own beginning and end, the padding, then the token that the tower pools at."""
    words = ["<pad>", "<s>", "</s>", "<cls>", "<unk>", "w"]
    special = {"bos_token": "<s>", "eos_token": "</s>", "cls_token": "<cls>", "pad_token": "<pad>"}
    save_tokenizer(tmp_path / "words", words, "$A", **special)
    text = {**TEXT, "no_causal_mask": True, "pool_type": "last", "hf_tokenizer_name": str(tmp_path / "words")}
    text["tokenizer_mode"] = "clips"
    settings = {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": text}
    (tmp_path / "made-clips.json").write_text(json.dumps(settings))
    open_clip.add_model_config(tmp_path / "made-clips.json")
    backbone = load_clip("made-clips", None)
    assert backbone.tokenize(["w w"]).tolist() == [[1, 5, 5, 2, *[0] * 11, 3]]
    assert backbone.tokenize(["w " * 13]).tolist() == [[1, *[5] * 13, 2, 3]]  # fits exactly
    with pytest.raises(ValueError, match="does not fit the 16 tokens of made-clips's text context"):
        backbone.tokenize(["w " * 14])
