"""The adapter's files: PEFT opens them on the plain open_clip model, and we read them back to the bit."""

import copy
import functools
import itertools
import json
import warnings

import open_clip
import pytest
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from segp_ext.clip.adapter_layout import Packed, from_plain, to_plain
from segp_ext.clip.backbone import Backbone
from segp_ext.clip.towers import make_adaptable
from segp_ext.config import LoraConfig

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT = {"image_size": 32, "patch_size": 8, "width": 48, "head_width": 12, "layers": 2}
TIMM = {"timm_model_pretrained": False, "image_size": 224}
MODELS = {
    "vit": {"vision_cfg": VIT, "text_cfg": TEXT},
    "sigmoid": {
        "vision_cfg": {**TIMM, "timm_model_name": "vit_tiny_patch16_224", "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": {**TEXT, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
        "custom_text": True, "embed_dim": 192, "init_logit_bias": -10,
    },
    "eva-packed": {
        "vision_cfg": {**TIMM, "timm_model_name": "eva02_tiny_patch14_224", "timm_pool": "token", "timm_proj": None},
        "text_cfg": TEXT, "custom_text": True,
    },
    "custom-blocks": {"vision_cfg": {**VIT, "qk_norm": True, "scale_attn": True}, "text_cfg": TEXT},
    "resnet": {
        "vision_cfg": {**TIMM, "timm_model_name": "resnet18", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64},
        "text_cfg": TEXT,
    },
}  # fmt: skip
TEXTS = ["a", "a photo of a red fox"]
PREFIX = "base_model.model."


@pytest.fixture(scope="module", autouse=True)
def registered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, config in MODELS.items():
        (folder / f"layout-{name}.json").write_text(json.dumps({"embed_dim": 24, **config}))
    open_clip.add_model_config(folder)


@functools.cache
def original(name):
    """A plain model in which every layer does something."""
    torch.manual_seed(0)
    clip = open_clip.create_model(f"layout-{name}", pretrained=None).eval().requires_grad_(False)
    for parameter in clip.parameters():  # initial zeros, and layer scales near zero, would hide an adapter
        if parameter.abs().max() < 1e-3:
            parameter.normal_(std=0.2)
    return clip


def adapted(name, config):
    """A plain model, and a backbone of the same weights whose adapter changes something."""
    plain = copy.deepcopy(original(name))
    backbone = Backbone(copy.deepcopy(plain), open_clip.get_tokenizer(f"layout-{name}"), f"layout-{name}", None)
    backbone.adapt(config, seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in backbone.trained_parameters():
        parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return plain, backbone


def save_adapter(backbone, folder):
    folder.mkdir(exist_ok=True)
    save_file({n: t.contiguous() for n, t in backbone.adapter_state().items()}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(backbone.adapter_config()))


def opened(plain, folder):
    """The plain model with the adapter; PEFT warns of keys that are missing or not expected, which is an error here."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*lora_A.*requires_grad.*")
        return PeftModel.from_pretrained(plain, str(folder)).eval()


@torch.no_grad()
def check_same_outputs(plain, backbone, peft):
    images = torch.rand(3, 3, backbone.image_size, backbone.image_size, generator=torch.Generator().manual_seed(2))
    tokens = backbone.tokenizer(TEXTS, context_length=16)
    normalised = (images - backbone.mean) / backbone.std
    frozen = [backbone.encode_image(images)[0], backbone.encode_text(backbone.tokenize(TEXTS))]
    for ours, theirs in zip(frozen, (peft.encode_image(normalised), peft.encode_text(tokens)), strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
    with peft.disable_adapter():
        before = peft.encode_image(normalised), peft.encode_text(tokens)
    return [(now - then).abs().max().item() > 1e-3 for now, then in zip(frozen, before, strict=True)]


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        *itertools.product(("vit", "sigmoid"), ("kv+ffn", "kv", "ffn")),
        ("vit", ["q_proj"]),
        ("vit", ["q_proj", "kv_proj", "mlp.c_fc"]),
        ("sigmoid", ["qkv.q_proj", "qkv.kv_proj", "attn.proj", "attn.kv_proj"]),
    ],
)  # fmt: skip
def test_peft_opens_it_on_the_plain_model(tmp_path, name, targets):
    plain, backbone = adapted(name, LoraConfig(rank=4, alpha=3, targets=targets))
    save_adapter(backbone, tmp_path / "adapter")
    assert check_same_outputs(plain, backbone, opened(plain, tmp_path / "adapter")) == [True, True]


def test_ranks_cut_to_a_layers_width_survive(tmp_path):
    plain, backbone = adapted("vit", LoraConfig(rank=40, alpha=20))
    save_adapter(backbone, tmp_path)
    state = load_file(tmp_path / "adapter_model.safetensors")
    assert state[f"{PREFIX}visual.transformer.resblocks.0.attn.lora_A.weight"].shape == (40, 48)
    assert state[f"{PREFIX}transformer.resblocks.0.attn.lora_A.weight"].shape == (32, 32)
    assert check_same_outputs(plain, backbone, opened(plain, tmp_path)) == [True, True]


@pytest.mark.parametrize("encoders", ["vision", "text"])
def test_one_encoder_alone(tmp_path, encoders):
    """The text tower's names are ends of the vision tower's."""
    plain, backbone = adapted("vit", LoraConfig(rank=4, encoders=encoders))
    save_adapter(backbone, tmp_path)
    changed = check_same_outputs(plain, backbone, opened(plain, tmp_path))
    assert changed == [encoders == "vision", encoders == "text"]


@pytest.mark.parametrize(
    ("name", "targets"), [("resnet", "kv+ffn+convolutions"), ("eva-packed", "ffn"), ("custom-blocks", "ffn")]
)  # fmt: skip
def test_layers_that_are_not_packed_are_the_plain_models_own(tmp_path, name, targets):
    plain, backbone = adapted(name, LoraConfig(rank=4, targets=targets))
    save_adapter(backbone, tmp_path)
    assert check_same_outputs(plain, backbone, opened(plain, tmp_path)) == [True, True]


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("eva-packed", "kv+ffn"), ("custom-blocks", "kv+ffn"), ("vit", "attention+ffn"), ("vit", ["attn.out_proj"]),
        ("sigmoid", "attention+ffn"),
    ],
)  # fmt: skip
def test_what_the_plain_model_cannot_carry_opens_after_make_adaptable(tmp_path, name, targets):
    plain, backbone = adapted(name, LoraConfig(rank=4, targets=targets))
    save_adapter(backbone, tmp_path)
    make_adaptable(plain)
    with pytest.warns(UserWarning, match="segp_ext.clip.towers.make_adaptable"):
        peft = PeftModel.from_pretrained(plain, str(tmp_path)).eval()
    assert check_same_outputs(plain, backbone, peft) == [True, True]


def test_pefts_multihead_attention_still_adds_the_output_projections_change_twice():
    """Why attention+ffn keeps our layout. Once this fails, the plain model can carry output projections too."""
    attention = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()
    weight = attention.out_proj.weight.detach().clone()
    model = get_peft_model(
        torch.nn.ModuleDict({"attn": attention}), PeftLoraConfig(r=2, lora_alpha=2, target_modules=["attn"])
    )
    wrapped = model.base_model.model["attn"]
    wrapped.base_layer.out_proj.lora_B["default"].weight.data.normal_()
    change = wrapped.base_layer.out_proj.get_delta_weight("default").detach()
    merged = model.merge_and_unload()["attn"].out_proj.weight
    torch.testing.assert_close(merged, weight + 2 * change)


@pytest.mark.parametrize(
    ("name", "targets"),
    [*itertools.product(("vit", "sigmoid", "custom-blocks"), ("kv+ffn", "attention+ffn")), ("vit", ["attn.q_proj"]), ("vit", ["out_proj"])],
)  # fmt: skip
def test_our_own_loading_is_exact(name, targets):
    config = LoraConfig(rank=4, targets=targets)
    _, backbone = adapted(name, config)
    state = {n: t.clone() for n, t in backbone.adapter_state().items()}
    _, other = adapted(name, config)
    for key, parameter in other.clip.named_parameters():
        if ".lora_" in key:
            parameter.data.fill_(2)
    other.load_adapter_state(state)
    own = dict(backbone.clip.named_parameters())
    assert all(torch.equal(p, own[n]) for n, p in other.clip.named_parameters() if ".lora_" in n)


def test_an_adapter_that_does_not_fit_is_refused():
    _, wide = adapted("vit", LoraConfig(rank=4, targets=["q_proj", "kv_proj"]))
    _, narrow = adapted("vit", LoraConfig(rank=4, targets="kv"))
    before = {n: t.clone() for n, t in narrow.adapter_state().items()}
    with pytest.raises(
        ValueError, match="changes visual.transformer.resblocks.0.attn.q_proj, which lora.targets does not name"
    ):
        narrow.load_adapter_state(wide.adapter_state())
    assert all(torch.equal(before[n], t) for n, t in narrow.adapter_state().items())
    with pytest.raises(
        ValueError, match="do not match this backbone and lora settings; first difference: .*c_fc.lora_A"
    ):
        narrow.load_adapter_state(adapted("vit", LoraConfig(rank=4))[1].adapter_state())
    with pytest.raises(ValueError, match=r"attn.*lora_A.weight must be \[4, 48\]; got \[5, 48\]"):
        narrow.load_adapter_state(adapted("vit", LoraConfig(rank=5, targets="kv", encoders="both"))[1].adapter_state())


PACKED = Packed("attn", width=3, inputs=4, output=True)


def made(*modules):
    start = torch.randn(2, 4)
    rows = {"attn.q_proj": 3, "attn.kv_proj": 6, "c_fc": 5}
    state = {}
    for module in modules:
        state[f"{PREFIX}{module}.lora_A.weight"] = start if module in PACKED.parts else torch.randn(2, 4)
        state[f"{PREFIX}{module}.lora_B.weight"] = torch.randn(rows[module], 2)
    return state


@pytest.mark.parametrize(
    "modules", [("attn.kv_proj",), ("attn.q_proj",), ("attn.q_proj", "attn.kv_proj"), ("attn.kv_proj", "c_fc")]
)
def test_the_conversion_and_back(modules):
    state = made(*modules)
    plain = to_plain(state, [PACKED])
    shapes = {key.removeprefix(PREFIX): tuple(tensor.shape) for key, tensor in plain.items() if "c_fc" not in key}
    assert shapes == {
        "attn.lora_A.weight": (2, 4), "attn.lora_B.weight": (9, 2),
        "attn.base_layer.out_proj.lora_A.weight": (2, 4), "attn.base_layer.out_proj.lora_B.weight": (4, 2),
    }  # fmt: skip
    rows = plain[f"{PREFIX}attn.lora_B.weight"]
    assert rows[:3].any() == ("attn.q_proj" in modules) and rows[3:].any() == ("attn.kv_proj" in modules)
    assert not plain[f"{PREFIX}attn.base_layer.out_proj.lora_B.weight"].any()
    again = from_plain(plain, [PACKED], modules)
    assert again.keys() == state.keys() and all(torch.equal(again[key], state[key]) for key in state)


def test_a_projection_with_two_starts_cannot_be_packed():
    state = made("attn.q_proj", "attn.kv_proj")
    state[f"{PREFIX}attn.q_proj.lora_A.weight"] = torch.randn(2, 4)
    with pytest.raises(ValueError, match="attn.q_proj and attn.kv_proj must have the same A to be one adapter of attn"):
        to_plain(state, [PACKED])


def test_a_change_of_what_is_not_adapted_is_refused():
    plain = to_plain(made("attn.kv_proj"), [PACKED])
    for key, place, module in (("attn", 0, "q_proj"), ("attn.base_layer.out_proj", 3, "out_proj")):
        changed = {name: tensor.clone() for name, tensor in plain.items()}
        changed[f"{PREFIX}{key}.lora_B.weight"][place, 1] = 0.5
        with pytest.raises(ValueError, match=f"the adapter changes attn.{module}, which lora.targets does not name"):
            from_plain(changed, [PACKED], ["attn.kv_proj"])
