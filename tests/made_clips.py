"""Small CLIP models of every kind, their weights in every format, and a comparison with open_clip's own encoders."""

import json

import open_clip
import torch
from safetensors.torch import save_file
from torch import nn

from segp_ext.clip import lora_targets
from segp_ext.clip.lora_targets import adaptable_layers
from segp_ext.clip.pretrained import load_clip
from segp_ext.config import LoraConfig

TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}


VIT = {"image_size": 32, "patch_size": 8, "width": 48, "head_width": 12, "layers": 2}


CONFIG = {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT}
"""The model of most tests, "made-tiny"."""
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


def register(folder):
    """Lets open_clip know all these models by name, by files in a folder: "made-" and the name here."""
    towers = {
        "abs-attn": timm("resnet18", "abs_attn", "", 64),
        "resnet": timm("resnet18", "avg", "linear", 64),
        "cosine": {**VIT, "scaled_cosine_attn": True},
    }
    known = {
        **MODELS,
        **{name: {"vision_cfg": tower, "text_cfg": TEXT} for name, tower in towers.items()},
        "thin": {"vision_cfg": {**VIT, "layers": 1}, "text_cfg": {**TEXT, "layers": 1}},
        "tiny": CONFIG,
        "wider": {**CONFIG, "vision_cfg": {**VIT, "width": 60}},
        "tiny-quickgelu": {**CONFIG, "quick_gelu": True},
    }
    for name, config in known.items():
        (folder / f"made-{name}.json").write_text(json.dumps({"embed_dim": 24, **config}))
    open_clip.add_model_config(folder)


def weights(seed=3, name="made-tiny", **settings):
    """A model with weights of its own, and its state dict."""
    torch.manual_seed(seed)
    model = open_clip.create_model(name, pretrained=None, **settings).eval()
    return model, model.state_dict()


def same_features(backbone, model):
    x = torch.rand(2, 3, backbone.image_size, backbone.image_size)
    tokens = backbone.tokenize(["a red fox", "a cat"])
    normalised = (x - backbone.mean) / backbone.std
    padded = nn.functional.pad(tokens, (0, backbone.clip.context_length - tokens.shape[1]))
    with torch.no_grad():
        torch.testing.assert_close(backbone.encode_image(x)[0], model.encode_image(normalised), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(backbone.encode_text(tokens), model.encode_text(padded), rtol=1e-3, atol=1e-4)


def in_transformers_layout(state):
    """The state of one of open_clip's ViTs under the names, and in the layout, of transformers' CLIPModel."""
    named = {"logit_scale": state["logit_scale"]}
    for tower, front in (("text_model", ""), ("vision_model", "visual.")):
        for key, value in state.items():
            rest = key.removeprefix(front)
            if not key.startswith(front) or (not front and key.startswith("visual.")):
                continue
            if rest.startswith("transformer.resblocks."):
                _, _, number, *part = rest.split(".")
                block, part = f"{tower}.encoder.layers.{number}", ".".join(part)
                if part.startswith("attn.in_proj_"):
                    kind = part.removeprefix("attn.in_proj_")
                    for name, third in zip("qkv", value.chunk(3), strict=True):
                        named[f"{block}.self_attn.{name}_proj.{kind}"] = third.clone()
                    continue
                for ours, theirs in (
                    ("attn.out_proj", "self_attn.out_proj"),
                    ("ln_1", "layer_norm1"),
                    ("ln_2", "layer_norm2"),
                    ("mlp.c_fc", "mlp.fc1"),
                    ("mlp.c_proj", "mlp.fc2"),
                ):
                    part = part.replace(ours, theirs)
                named[f"{block}.{part}"] = value
            else:
                theirs = {
                    "token_embedding.weight": "embeddings.token_embedding.weight",
                    "positional_embedding": "embeddings.position_embedding.weight",
                    "class_embedding": "embeddings.class_embedding",
                    "conv1.weight": "embeddings.patch_embedding.weight",
                    "ln_pre.weight": "pre_layrnorm.weight",
                    "ln_pre.bias": "pre_layrnorm.bias",
                    "ln_post.weight": "post_layernorm.weight",
                    "ln_post.bias": "post_layernorm.bias",
                    "ln_final.weight": "final_layer_norm.weight",
                    "ln_final.bias": "final_layer_norm.bias",
                }.get(rest)
                if theirs:
                    named[f"{tower}.{theirs}"] = value
    named["text_projection.weight"] = state["text_projection"].T.contiguous()
    named["visual_projection.weight"] = state["visual.proj"].T.contiguous()
    for tower, places in (("text_model", 16), ("vision_model", 17)):
        named[f"{tower}.embeddings.position_ids"] = torch.arange(places)[None]
    return named


class Archive(nn.Module):
    """A CLIP with the extra entries that OpenAI's archives have beside their weights."""

    def __init__(self, model: nn.Module, resolution: int) -> None:
        super().__init__()
        self.visual, self.transformer, self.token_embedding = model.visual, model.transformer, model.token_embedding
        self.positional_embedding, self.ln_final = model.positional_embedding, model.ln_final
        self.text_projection, self.logit_scale = model.text_projection, model.logit_scale
        for name, value in {
            "input_resolution": resolution,
            "context_length": model.context_length,
            "vocab_size": model.vocab_size,
        }.items():
            self.register_buffer(name, torch.tensor(value))

    def forward(self, image):
        return self.visual(image)


def openai_archive(path, model, resolution):
    """Writes a TorchScript archive of half-precision weights under OpenAI's names."""
    archive = Archive(model, resolution)
    with torch.no_grad():
        traced = torch.jit.trace(archive, torch.zeros(1, 3, resolution, resolution), check_trace=False)
    for parameter in traced.parameters():
        parameter.data = parameter.data.half()
    traced.save(str(path))


def random_tiny(**settings):
    """What `load_clip` makes without weights."""
    torch.manual_seed(0)
    return open_clip.create_model("made-tiny", pretrained=None, **settings).eval()


def local_model(folder, **changes):
    """A folder as `local-dir:` and the hub have it; returns the model."""
    folder.mkdir(parents=True, exist_ok=True)
    model, state = weights()
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bilinear", "resize_mode": "squash"}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": CONFIG, "preprocess_cfg": preprocess, **changes})
    )
    save_file(state, folder / "open_clip_model.safetensors")
    return model


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


WORDS_OF_LORA = ("kv", "attention", "ffn", "convolutions")


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
