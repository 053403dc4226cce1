"""Which layers the words of `lora.targets` name in every kind of model."""

import re

import open_clip
import pytest
import torch
from made_clips import WORDS_OF_LORA, named_in

from segp_ext.clip.lora_targets import adaptable_layers, chosen_layers
from segp_ext.clip.pretrained import load_clip
from segp_ext.clip.towers import make_adaptable
from segp_ext.config import LoraConfig

pytestmark = pytest.mark.usefixtures("made_models")


def test_layers_are_chosen_by_name():
    backbone = load_clip("made-vit", None)
    backbone.adapt(LoraConfig(rank=2, targets=["attn.q_proj", "c_fc"], encoders="vision"), seed=0)
    adapted = {key.split(".lora_B")[0].removeprefix("visual.transformer.resblocks.") for key, _ in backbone.clip.named_parameters()
               if ".lora_B." in key}  # fmt: skip
    assert adapted == {f"{block}.{layer}" for block in (0, 1) for layer in ("attn.q_proj", "mlp.c_fc")}
    with pytest.raises(
        ValueError,
        match=r"lora.targets: no layer of made-vit ends in 'attn.in_proj'; .*there are attn.kv_proj, attn.out_proj",
    ):
        load_clip("made-vit", None).adapt(LoraConfig(targets=["attn.in_proj"]), seed=0)
    with pytest.raises(
        ValueError, match=r"ends in 'kv'; words are joined by \+, as in --lora.targets kv\+ffn; there are"
    ):
        load_clip("made-vit", None).adapt(LoraConfig(targets=["kv", "ffn"]), seed=0)


def test_a_layer_that_is_passed_by_or_shared_is_named():
    backbone = load_clip("made-vit", None)
    blocks = backbone.clip.visual.transformer.resblocks
    blocks[1].mlp.c_fc.weight = blocks[0].mlp.c_fc.weight
    with pytest.raises(
        ValueError, match=r"resblocks.1.mlp.c_fc of made-vit shares its weight with .*resblocks.0.mlp.c_fc"
    ):
        backbone.adapt(LoraConfig(rank=2), seed=0)
    backbone = load_clip("made-vit", None)
    blocks = backbone.clip.visual.transformer.resblocks
    blocks[1].attn.kv_proj.weight.data = blocks[0].attn.kv_proj.weight.data
    with pytest.raises(ValueError, match=r"1.attn.kv_proj of made-vit shares its weight with .*0.attn.kv_proj"):
        backbone.adapt(LoraConfig(rank=2), seed=0)
    backbone = load_clip("made-eva02", None)
    for module in backbone.clip.modules():
        if hasattr(module, "fc2"):
            module.forward = lambda x: x  # its layers are passed by
    with pytest.raises(ValueError, match=r"mlp.fc1 of made-eva02 is never called, so it cannot be adapted"):
        backbone.adapt(LoraConfig(rank=2), seed=0)


@pytest.mark.parametrize(
    ("name", "encoders", "targets", "message"),
    [
        (
            "resnet", "both", "kv+ffn",
            "the vision tower of made-resnet has no layer that kv+ffn names; what it has: convolutions (16 layers); write "
            "--lora.encoders text or --lora.targets kv+ffn+convolutions",
        ),
        ("resnet", "vision", "kv+ffn", "write --lora.encoders text or --lora.targets convolutions"),
        ("convnext", "both", "kv", "the vision tower of made-convnext has no layer that kv names; what it has: ffn (36 layers); write "
         "--lora.encoders text or --lora.targets kv+ffn"),
        ("vit", "text", "convolutions", "the text tower of made-vit has no layer that convolutions names; what it has: "
         "kv (2 layers), attention (6 layers), ffn (4 layers); write --lora.targets kv"),
        ("vit", "both", "kv+convolutions", "'convolutions' names no layer in the adapted encoders of made-vit; there are kv (4 layers), "),
        ("convnext", "vision", "kv+ffn", "'kv' names no layer in the adapted encoders of made-convnext; there are ffn (36 layers)"),
        ("resnet", "both", ["conv1"], "the text tower of made-resnet has no layer that [conv1] names"),
    ],
)  # fmt: skip
def test_a_tower_and_a_word_without_layers_are_named(name, encoders, targets, message):
    backbone = load_clip(f"made-{name}", None)
    with pytest.raises(ValueError, match=re.escape(message)):
        backbone.adapt(LoraConfig(rank=2, encoders=encoders, targets=targets), seed=0)
    assert not backbone.trained_parameters()


def test_keys_and_values_that_cannot_be_split_off_are_named(monkeypatch):
    text = adaptable_layers(load_clip("made-vit", None).clip)["text"]
    vision = {"visual.blocks.0.attn.qkv": "packed", "visual.blocks.0.mlp.fc1": "ffn"}
    monkeypatch.setattr("segp_ext.clip.lora_targets.adaptable_layers", lambda clip: {"vision": vision, "text": text})
    backbone = load_clip("made-vit", None)
    with pytest.raises(
        ValueError, match=r"kv leaves out 1 attention layers .*visual.blocks.0.attn.qkv.*attention\+ffn"
    ):
        chosen_layers(backbone.clip, "made", LoraConfig())
    assert "visual.blocks.0.attn.qkv" in chosen_layers(backbone.clip, "made", LoraConfig(targets="attention+ffn"))


def test_a_tower_with_nothing_to_adapt_is_named(monkeypatch):
    text = adaptable_layers(load_clip("made-resnet", None).clip)["text"]
    monkeypatch.setattr("segp_ext.clip.lora_targets.adaptable_layers", lambda clip: {"vision": {}, "text": text})
    with pytest.raises(
        ValueError, match=r"the vision tower of made-resnet .* has: none in blocks; write --lora.encoders text$"
    ):
        load_clip("made-resnet", None).adapt(LoraConfig(rank=2), seed=0)
    backbone = load_clip("made-resnet", None)
    backbone.adapt(LoraConfig(rank=2, encoders="text"), seed=0)
    assert backbone.trained_parameters()


def test_grouped_convolutions_stay():
    block = [torch.nn.Conv2d(4, 4, 1), torch.nn.Conv2d(4, 4, 3, groups=4), torch.nn.Linear(4, 4)]
    plain = torch.nn.ModuleDict({"visual": torch.nn.ModuleList([torch.nn.Sequential(*block)])})
    assert adaptable_layers(plain) == {"vision": {"visual.0.0": "convolution", "visual.0.2": "ffn"}, "text": {}}


OPEN_CLIP = {"kv": "attn.kv_proj", "attention": "attn.q_proj attn.kv_proj attn.out_proj", "ffn": "mlp.c_fc mlp.c_proj"}


TIMM_VIT = {
    "kv": "attn.qkv.kv_proj",
    "attention": "attn.qkv.q_proj attn.qkv.kv_proj attn.proj",
    "ffn": "mlp.fc1 mlp.fc2",
}


SEPARATE = {"kv": "attn.k_proj attn.v_proj", "attention": "attn.q_proj attn.k_proj attn.v_proj attn.proj"}


@pytest.mark.parametrize(
    ("name", "block", "expected"),
    [
        ("made-vit", "visual.transformer.resblocks.1", OPEN_CLIP),
        ("made-vit", "transformer.resblocks.1", OPEN_CLIP),
        ("made-custom-text", "text.transformer.resblocks.1", OPEN_CLIP),
        ("made-custom-blocks", "visual.transformer.resblocks.0", OPEN_CLIP),
        ("made-custom-blocks", "text.transformer.resblocks.0", OPEN_CLIP),
        ("made-sigmoid", "visual.trunk.blocks.3", TIMM_VIT),
        ("made-timm-mlp", "visual.trunk.blocks.3", TIMM_VIT),
        ("made-eva02", "visual.trunk.blocks.3", TIMM_VIT),
        ("EVA02-B-16", "visual.trunk.blocks.3", {**SEPARATE, "ffn": "mlp.fc1_g mlp.fc1_x mlp.fc2"}),
        ("EVA01-g-14", "visual.trunk.blocks.3", TIMM_VIT),
        ("PE-Core-T-16-384", "visual.trunk.blocks.3", TIMM_VIT),
        ("swin_base_patch4_window7_224", "visual.trunk.layers.2.blocks.3", TIMM_VIT),
        ("vit_relpos_medium_patch16_cls_224", "visual.trunk.blocks.3", TIMM_VIT),
        ("ViTamin-S", "visual.trunk.blocks.3", {**TIMM_VIT, "ffn": "mlp.w0 mlp.w1 mlp.w2"}),
        ("MobileCLIP2-S0", "visual.trunk.stages.3.blocks.1",
         {"kv": "token_mixer.qkv.kv_proj", "attention": "token_mixer.qkv.q_proj token_mixer.qkv.kv_proj token_mixer.proj",
          "convolutions": "mlp.fc1 mlp.fc2"}),
        ("convnext_base", "visual.trunk.stages.2.blocks.3", {"ffn": "mlp.fc1 mlp.fc2"}),
        ("made-resnet", "visual.trunk.layer2.1", {"convolutions": "conv1 conv2"}),
    ],
)  # fmt: skip
def test_what_the_words_name(name, block, expected):
    assert named_in(clip_alone(name), block) == {word: set(expected.get(word, "").split()) for word in WORDS_OF_LORA}


def clip_alone(name):
    """An open_clip model of ours without weights."""
    with torch.device("meta"):
        clip = open_clip.create_model(name, pretrained=None, device="meta", pretrained_text=False)
    make_adaptable(clip)
    return clip
