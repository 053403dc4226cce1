"""Every kind of open_clip model against open_clip's own encoders, and the adapter on each: small configurations, random weights."""

import json
import os
import re

import open_clip
import pytest
import torch
import torch.nn.functional as F
from made import save_tokenizer

from segp_ext.clip import lora_targets
from segp_ext.clip.lora_targets import adaptable_layers, chosen_layers
from segp_ext.clip.pretrained import load_clip
from segp_ext.clip.towers import make_adaptable
from segp_ext.config import LoraConfig

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT = {"image_size": 32, "patch_size": 8, "width": 48, "head_width": 12, "layers": 2}
SIGLIP_TEXT = {**TEXT, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"}


def timm(name, pool, proj, size=32, **more):
    return {
        "timm_model_name": name,
        "timm_model_pretrained": False,
        "timm_pool": pool,
        "timm_proj": proj,
        "image_size": size,
        **more,
    }


# What each kind in open_clip's list is made of, at a smaller size.
MODELS = {
    "vit": {"vision_cfg": VIT, "text_cfg": TEXT},
    "vit-quickgelu": {"vision_cfg": VIT, "text_cfg": TEXT, "quick_gelu": True},
    "vit-attentional-pool": {"vision_cfg": {**VIT, "attentional_pool": True, "attn_pooler_heads": 4}, "text_cfg": TEXT},
    "custom-text": {"vision_cfg": VIT, "text_cfg": TEXT, "custom_text": True},
    "clipa": {
        "vision_cfg": {**VIT, "no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True},
        "text_cfg": {**TEXT, "no_causal_mask": True, "pool_type": "last"},
    },
    "eos-pool": {"vision_cfg": VIT, "text_cfg": {**TEXT, "pool_type": "eos", "eos_id": 49407}},
    "sigmoid": {
        "vision_cfg": timm("vit_tiny_patch16_224", "map", "none", 224),
        "text_cfg": SIGLIP_TEXT,
        "custom_text": True,
        "embed_dim": 192,
        "init_logit_bias": -10,
    },
    "pe-core": {"vision_cfg": timm("vit_tiny_patch16_224", "map", None, 224), "text_cfg": TEXT, "custom_text": True},
    "mobileclip-b": {
        "vision_cfg": timm("vit_tiny_patch16_224", "token", None, 224),
        "text_cfg": TEXT,
        "custom_text": True,
    },
    "custom-blocks": {
        "vision_cfg": {
            **VIT,
            "qk_norm": True,
            "scale_heads": True,
            "scale_attn_inner": True,
            "scale_attn": True,
            "scale_fc": True,
        },
        "text_cfg": {**TEXT, "qk_norm": True, "scale_attn": True},
        "custom_text": True,
    },
    "timm-linear": {"vision_cfg": timm("vit_tiny_patch16_224", "", "linear", 224), "text_cfg": TEXT},
    "timm-mlp": {"vision_cfg": timm("vit_tiny_patch16_224", "", "mlp", 224), "text_cfg": TEXT},
    "convnext": {"vision_cfg": timm("convnext_tiny", "", "linear", 64), "text_cfg": TEXT},
    "eva02": {"vision_cfg": timm("eva02_tiny_patch14_224", "token", None, 224), "text_cfg": TEXT, "custom_text": True},
    "eva01": {"vision_cfg": timm("eva02_tiny_patch14_224", "avg", None, 224), "text_cfg": TEXT, "custom_text": True},
    "causal-last": {"vision_cfg": VIT, "text_cfg": {**TEXT, "pool_type": "last"}},
    "fastvit": {
        "vision_cfg": timm("fastvit_sa12", "avg", None, 64),
        "text_cfg": {**TEXT, "no_causal_mask": True},
        "custom_text": True,
    },
}
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


@pytest.fixture(scope="module", autouse=True)
def registered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, config in MODELS.items():
        (folder / f"made-{name}.json").write_text(json.dumps({"embed_dim": 24, **config}))
    towers = {
        "abs-attn": timm("resnet18", "abs_attn", "", 64),
        "resnet": timm("resnet18", "avg", "linear", 64),
        "cosine": {**VIT, "scaled_cosine_attn": True},
    }
    for name, tower in towers.items():
        (folder / f"made-{name}.json").write_text(json.dumps({"embed_dim": 24, "vision_cfg": tower, "text_cfg": TEXT}))
    thin = {"vision_cfg": {**VIT, "layers": 1}, "text_cfg": {**TEXT, "layers": 1}}
    (folder / "made-thin.json").write_text(json.dumps({"embed_dim": 24, **thin}))
    open_clip.add_model_config(folder)


def plain_weight(theirs, key):
    """open_clip's weight for one of ours: the first third of a packed projection for queries, the others for keys and values."""
    packed = key
    for part in ("q_proj", "kv_proj"):
        packed = packed.replace(f".qkv.{part}.", ".qkv.").replace(f".attn.{part}.", ".attn.in_proj_")
    if key in theirs or packed == key:
        return theirs[key]
    third = len(theirs[packed]) // 3
    return theirs[packed][third:] if ".kv_proj." in key else theirs[packed][:third]


def own(name):
    """open_clip's own model with the same random weights, and inputs for both."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        plain = open_clip.create_model(f"made-{name}", pretrained_text=False).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for (
        parameter
    ) in plain.parameters():  # initial zeros, and layer scales near zero, would hide a layer that is left out
        if parameter.abs().max() < 1e-3:
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    backbone = load_clip(f"made-{name}", None)
    with torch.no_grad():
        theirs = dict(plain.named_parameters())
        for key, parameter in backbone.clip.named_parameters():
            parameter.copy_(plain_weight(theirs, key))
    pixels = torch.rand(3, 3, backbone.image_size, backbone.image_size, generator=generator)
    return plain, backbone, pixels


TEXTS = ["a", "a photo of a red fox", "one two three four five six seven"]


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


@pytest.mark.slow
@pytest.mark.parametrize("targets", ["kv+ffn", "attention+ffn"])
@pytest.mark.parametrize("name", MODELS)
def test_every_adapter_learns_and_merges(name, targets):
    _, backbone, pixels = own(name)
    backbone.adapt(LoraConfig(rank=2, targets=targets), seed=0)
    generator = torch.Generator().manual_seed(2)
    for parameter in backbone.trained_parameters():
        parameter.data.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    tokens = backbone.tokenize(TEXTS)
    embedding, feature = backbone.encode_image(pixels)
    text = backbone.encode_text(tokens)
    mixed = torch.randn(3, embedding.shape[1], generator=generator)  # a plain sum is constant behind a normalisation
    (embedding * mixed + text * mixed).sum().backward()
    for key, parameter in backbone.clip.named_parameters():
        if ".lora_B." in key:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, key
    with torch.no_grad(), backbone.reference():
        assert (backbone.encode_image(pixels)[0] - embedding).abs().max() > 1e-5
        assert (backbone.encode_text(tokens) - text).abs().max() > 1e-4
    with torch.no_grad(), backbone.merged():
        torch.testing.assert_close(backbone.encode_image(pixels)[1], feature, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(backbone.encode_text(tokens), text, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_copy_stays_as_it_is(name):
    _, backbone, pixels = own(name)
    backbone.adapt(LoraConfig(rank=2), seed=0)
    tokens = backbone.tokenize(TEXTS)
    with torch.no_grad():
        with backbone.merged():
            twin = backbone.copy()
        before = [*twin.encode_image(pixels), twin.encode_text(tokens)]
        for parameter in backbone.trained_parameters():
            parameter.add_(0.05)
        assert (backbone.encode_image(pixels)[0] - before[0]).abs().max() > 1e-5
        for now, then in zip([*twin.encode_image(pixels), twin.encode_text(tokens)], before, strict=True):
            assert torch.equal(now, then)


def test_a_logit_bias_changes_no_softmax_and_no_ranking():
    plain, backbone, pixels = own("sigmoid")
    assert plain.logit_bias is not None and plain.logit_bias.item() == -10
    with torch.no_grad():
        theirs, _ = plain.get_logits((pixels - backbone.mean) / backbone.std, backbone.tokenize(TEXTS))
        v, u = backbone.encode_image(pixels)[0], backbone.encode_text(backbone.tokenize(TEXTS))
        ours = backbone.logit_scale * F.normalize(v, dim=1) @ F.normalize(u, dim=1).T
    torch.testing.assert_close(theirs + 10, ours, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(theirs.softmax(1), ours.softmax(1), rtol=1e-4, atol=1e-5)


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


def test_convolutions_in_blocks():
    """A ResNet-18: eight blocks of two convolutions; those of its stem and between stages stay as they are."""
    backbone = load_clip("made-resnet", None)
    for module in backbone.clip.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.fill_(1)  # timm's zeros would hide the branches
    pixels = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = backbone.encode_image(pixels)
    backbone.adapt(LoraConfig(rank=2, encoders="vision", targets="convolutions"), seed=0)
    matrices = [p for name, p in backbone.clip.named_parameters() if ".lora_A." in name]
    for matrix in matrices:
        rows = matrix.flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(2), rtol=0, atol=1e-5)
    assert len(matrices) == len(backbone.trained_parameters()) == 16
    with torch.no_grad():
        torch.testing.assert_close(backbone.encode_image(pixels), before)
    backbone.encode_image(pixels)[0].square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in backbone.trained_parameters())
    for parameter in backbone.trained_parameters():
        parameter.data.normal_(std=0.02, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        changed = backbone.encode_image(pixels)
        assert (changed[0] - before[0]).abs().max() > 1e-3
        with backbone.merged():
            torch.testing.assert_close(backbone.encode_image(pixels), changed, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(backbone.encode_image(pixels), changed, rtol=0, atol=0)
    with pytest.raises(ValueError, match="lora.rank must be at most 512, the width of visual.trunk.layer4.0.conv1"):
        load_clip("made-resnet", None).adapt(LoraConfig(rank=513, encoders="vision", targets="convolutions"), seed=0)


def test_convolutions_outside_of_blocks_are_adapted_where_they_are_named():
    backbone = load_clip("made-resnet", None)
    backbone.adapt(LoraConfig(rank=2, encoders="vision", targets=["trunk.conv1", "downsample.0"]), seed=0)
    adapted = {name.split(".lora_B")[0] for name, _ in backbone.clip.named_parameters() if ".lora_B." in name}
    assert adapted == {"visual.trunk.conv1", *(f"visual.trunk.layer{n}.0.downsample.0" for n in (2, 3, 4))}


def test_narrow_layers_get_their_width_as_rank_and_the_scale_of_the_others():
    backbone = load_clip("made-resnet", None)
    backbone.adapt(LoraConfig(rank=100, alpha=50, encoders="vision", targets="convolutions"), seed=0)
    found = {}
    for name, module in backbone.clip.named_modules():
        if hasattr(module, "lora_A"):
            found[name.removeprefix("visual.trunk.")] = module.r["default"], module.scaling["default"]
    assert found["layer1.0.conv1"] == found["layer1.1.conv2"] == (64, 0.5)
    assert found["layer2.0.conv1"] == found["layer4.1.conv2"] == (100, 0.5)
    for name, parameter in backbone.clip.named_parameters():
        if ".lora_A." in name:
            rows = parameter.flatten(1)
            torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), rtol=0, atol=1e-5)


def test_a_narrow_text_tower_leaves_the_vision_towers_ranks_alone():
    """The text tower's names are ends of the vision tower's, and PEFT looks for the ends of names."""
    backbone = load_clip("made-vit", None)
    backbone.adapt(LoraConfig(rank=40), seed=0)
    ranks = {name: module.r["default"] for name, module in backbone.clip.named_modules() if hasattr(module, "lora_A")}
    assert {rank for name, rank in ranks.items() if name.startswith("visual.")} == {40}
    assert {rank for name, rank in ranks.items() if not name.startswith("visual.")} == {32}


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


WORDS_OF_LORA = ("kv", "attention", "ffn", "convolutions")


def clip_alone(name):
    """An open_clip model of ours without weights."""
    with torch.device("meta"):
        clip = open_clip.create_model(name, pretrained=None, device="meta", pretrained_text=False)
    make_adaptable(clip)
    return clip


def named_in(clip, block):
    """What each word names in one block, by the ends of names; all words together name nothing outside of blocks."""
    named = {}
    for word in WORDS_OF_LORA:
        encoder = "vision" if block.startswith("visual.") else "text"
        roles = adaptable_layers(clip)[encoder]
        if not lora_targets._named_by(word, roles):
            named[word] = set()
            continue
        layers = lora_targets.chosen_layers(clip, "made", LoraConfig(targets=word, encoders=encoder))
        named[word] = {layer.removeprefix(f"{block}.") for layer in layers if layer.startswith(f"{block}.")}
    return named


@pytest.mark.parametrize(
    ("targets", "rank", "count"),
    [("kv+ffn", 32, 3_440_640), ("kv", 32, 983_040), ("ffn", 32, 2_457_600), ("kv+ffn", 8, 860_160)],
)
def test_the_papers_numbers_of_trained_parameters(vit_b_16, targets, rank, count):
    """Section IV-A.4 and table VI: ViT-B/16, both encoders."""
    backbone = vit_b_16.copy()
    backbone.adapt(LoraConfig(rank=rank, targets=targets), seed=0)
    assert sum(p.numel() for p in backbone.clip.parameters() if p.requires_grad) == count
    assert sum(p.numel() for p in backbone.trained_parameters()) == count


@pytest.fixture(scope="module")
def vit_b_16():
    return load_clip("ViT-B-16", None)


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


@pytest.mark.parametrize("name", ["vit", "sigmoid"])
def test_bf16_is_close_and_gives_float32(name):
    _, exact, pixels = own(name)
    rough = load_clip(f"made-{name}", None, precision="bf16")
    with torch.no_grad():
        for ours, theirs in zip(rough.clip.parameters(), exact.clip.parameters(), strict=True):
            ours.copy_(theirs)
        if exact.projection is not None:
            rough.projection.copy_(exact.projection)
    tokens = exact.tokenize(TEXTS)
    pixels.requires_grad_(True)
    embedding, feature = rough.encode_image(pixels)
    text = rough.encode_text(tokens)
    assert {embedding.dtype, feature.dtype, text.dtype} == {torch.float32}
    (gradient,) = torch.autograd.grad(embedding.sum(), pixels)
    assert gradient.dtype == torch.float32 and gradient.isfinite().all() and gradient.any()
    for ours, theirs in ((embedding, exact.encode_image(pixels)[0]), (text, exact.encode_text(tokens))):
        assert F.cosine_similarity(ours, theirs, dim=1).min() > 0.998
        assert not torch.equal(ours, theirs)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="torch.compile needs a compiler of another kind there")
def test_compiled_encoders_agree_in_every_view():
    plain, compiled = load_clip("made-thin", None), load_clip("made-thin", None, compile=True)
    pixels = torch.rand(2, 3, 32, 32)
    for backbone in (plain, compiled):
        backbone.adapt(LoraConfig(rank=2), seed=0)
        generator = torch.Generator().manual_seed(2)
        for parameter in backbone.trained_parameters():
            parameter.data.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    tokens = plain.tokenize(TEXTS)

    def views(backbone):
        found = [*backbone.encode_image(pixels), backbone.encode_text(tokens)]
        with torch.no_grad(), backbone.reference():
            found += [*backbone.encode_image(pixels), backbone.encode_text(tokens)]
        with torch.no_grad(), backbone.merged():
            found += [*backbone.encode_image(pixels), backbone.encode_text(tokens)]
        return [*found, *backbone.encode_image(pixels)]

    expected = views(plain)
    assert (expected[0] - expected[3]).abs().max() > 1e-4
    for ours, theirs in zip(views(compiled), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


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
    ("kind", "pooler", "projection", "context", "block", "kv", "others", "ffn"),
    [
        ("xlm-roberta", "mean_pooler", "mlp", 20, "encoder.layer.1",
         "attention.self.key attention.self.value", "attention.self.query attention.output.dense", "intermediate.dense output.dense"),
        ("bert", "cls_pooler", "linear", 12, "encoder.layer.1",  # fewer places than the tokenizer would fill
         "attention.self.key attention.self.value", "attention.self.query attention.output.dense", "intermediate.dense output.dense"),
        ("mt5", "mean_pooler", "mlp", 20, "block.1",  # no limit of its own
         "layer.0.SelfAttention.k layer.0.SelfAttention.v", "layer.0.SelfAttention.q layer.0.SelfAttention.o",
         "layer.1.DenseReluDense.wi_0 layer.1.DenseReluDense.wi_1 layer.1.DenseReluDense.wo"),
        ("m2m_100", "cls_pooler", "linear", 20, "layers.1",
         "self_attn.k_proj self_attn.v_proj", "self_attn.q_proj self_attn.out_proj", "fc1 fc2"),
    ],
)  # fmt: skip
def test_text_towers_from_transformers(tmp_path, kind, pooler, projection, context, block, kv, others, ffn):
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
