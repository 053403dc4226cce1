"""Loading weights: every format that people have, written here as it is there, and what does not fit or is damaged."""

import json
import pwd
import shutil
import socket
import time
import warnings
from pathlib import Path

import open_clip
import pytest
import torch
from made import made_images, save_tokenizer, tiny_backbone
from safetensors.torch import load, save, save_file
from torch import nn

from segp_ext.clip import glyph
from segp_ext.clip.model_names import model_in_words
from segp_ext.clip.preprocessing import published_preprocessing
from segp_ext.clip.pretrained import load_clip
from segp_ext.config import LoraConfig, MethodConfig, TrainingConfig
from segp_ext.method.learner import SeGPCL
from segp_ext.storage import sealed

CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 48, "head_width": 12, "layers": 2},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module", autouse=True)
def registered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    (folder / "made-tiny.json").write_text(json.dumps(CONFIG))
    wider = {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "width": 60}}
    (folder / "made-wider.json").write_text(json.dumps(wider))
    (folder / "made-tiny-quickgelu.json").write_text(json.dumps({**CONFIG, "quick_gelu": True}))
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


@pytest.mark.parametrize("form", ["pt", "training", "safetensors"])
def test_a_local_checkpoint(tmp_path, form):
    model, state = weights()
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pt")
    if form == "safetensors":
        save_file(state, path)
    else:  # open_clip's training script wraps the state and, on several GPUs, prefixes its names
        torch.save(
            state if form == "pt" else {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, path
        )
    backbone = load_clip("made-tiny", str(path))
    same_features(backbone, model)
    assert backbone.pretrained == str(path)


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


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_weights_in_the_layout_of_transformers(tmp_path, suffix):
    model, state = weights()
    named = in_transformers_layout(state)
    assert len(named) > len(state) - 5  # nothing forgotten: three projections where there was one
    path = tmp_path / f"model.{suffix}"
    save_file(named, path) if suffix == "safetensors" else torch.save(named, path)
    same_features(load_clip("made-tiny", str(path)), model)


def test_the_layout_of_transformers_by_transformers_itself(tmp_path):
    """Its own model's outputs, so that no mistake of ours is in both directions."""
    transformers = pytest.importorskip("transformers")
    sizes = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "gelu"}
    config = transformers.CLIPConfig(
        projection_dim=24,
        text_config={
            "hidden_size": 32,
            "intermediate_size": 128,
            "max_position_embeddings": 16,
            "vocab_size": 49408,
            **sizes,
        },
        vision_config={
            "hidden_size": 48,
            "intermediate_size": 192,
            "image_size": 32,
            "patch_size": 8,
            **sizes,
            "num_attention_heads": 4,
        },
    )
    torch.manual_seed(1)
    model = transformers.CLIPModel(config).eval()
    model.save_pretrained(tmp_path)
    backbone = load_clip("made-tiny", str(tmp_path / "model.safetensors"))
    x, tokens = torch.rand(2, 3, 32, 32), backbone.tokenize(["a red fox", "a cat"])
    with torch.no_grad():
        theirs = model(input_ids=tokens, pixel_values=(x - backbone.mean) / backbone.std)
        ours = (
            nn.functional.normalize(backbone.encode_image(x)[0]),
            nn.functional.normalize(backbone.encode_text(tokens)),
        )
    torch.testing.assert_close(ours[0], theirs.image_embeds, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours[1], theirs.text_embeds, rtol=1e-4, atol=1e-5)


def test_a_part_that_open_clip_has_no_place_for_is_named(tmp_path):
    named = in_transformers_layout(weights()[1])
    named["vision_model.head.probe"] = torch.zeros(1)
    save_file(named, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"do not fit made-tiny: .*transformers.*no place .* vision_model.head.probe"):
        load_clip("made-tiny", str(tmp_path / "w.safetensors"))
    for missing, message in (("k_proj", "no place"), ("q_proj", "Missing key")):
        named = in_transformers_layout(weights()[1])
        del named[f"text_model.encoder.layers.1.self_attn.{missing}.weight"]
        save_file(named, tmp_path / "w.safetensors")
        with pytest.raises(ValueError, match=f"do not fit made-tiny: .*{message}"):
            load_clip("made-tiny", str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize(
    "front", ["module.", "_orig_mod.", "model.", "clip.", "module.model._orig_mod.", "model.clip."]
)
@pytest.mark.parametrize("layout", ["open_clip", "transformers"])
def test_what_training_scripts_put_in_front(tmp_path, front, layout):
    model, state = weights()
    named = in_transformers_layout(state) if layout == "transformers" else state
    content = {f"{front}{key}": value for key, value in named.items()}
    if front == "model.":  # as Lightning writes it: other things beside, also among the weights
        content = {
            "state_dict": {**content, "metric.total": torch.zeros(1)},
            "epoch": 3,
            "hyper_parameters": {"lr": 0.1},
        }
    elif front == "clip.":
        content = {"model": content, "step": 3}
    elif front == "module.":
        content = {
            "net": {**content, "loss.logit_scale": torch.ones(())},
            "optimizer": {"state": {}},
        }  # a loss has a scale of its own
    torch.save(content, tmp_path / "w.pt")
    same_features(load_clip("made-tiny", str(tmp_path / "w.pt")), model)


def test_a_part_that_was_compiled_by_itself(tmp_path):
    model, state = weights()
    torch.save({k.replace("visual.", "visual._orig_mod."): v for k, v in state.items()}, tmp_path / "w.pt")
    same_features(load_clip("made-tiny", str(tmp_path / "w.pt")), model)


def test_two_models_in_one_file(tmp_path):
    _, state = weights()
    torch.save({f"{front}{k}": v for k, v in state.items() for front in ("student.", "teacher.")}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"do not fit made-tiny: they are of 2 models, student., teacher."):
        load_clip("made-tiny", str(tmp_path / "w.pt"))


def test_messages_are_short(tmp_path):
    torch.save({f"tower.{k}": v for k, v in weights()[1].items() if k != "logit_scale"}, tmp_path / "w.pt")
    with pytest.raises(
        ValueError, match=r"Missing key.*and \d+ more; Unexpected key.*and \d+ more. Are they another"
    ) as raised:
        load_clip("made-tiny", str(tmp_path / "w.pt"))
    assert len(str(raised.value)) < 600 + len(str(tmp_path))


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


def test_an_archive_in_openais_format(tmp_path, monkeypatch):
    model, _ = weights(force_quick_gelu=True)
    openai_archive(tmp_path / "tiny.pt", model, 32)
    monkeypatch.setattr(torch.jit, "load", None)  # which runs what an archive says
    for parameter in model.parameters():
        parameter.data = parameter.data.half().float()
    with pytest.warns(
        RuntimeWarning,
        match=r"tiny.pt' were trained with QuickGELU, which made-tiny gets for them; made-tiny-quickgelu is",
    ):
        backbone = load_clip("made-tiny", str(tmp_path / "tiny.pt"))
    same_features(backbone, model)
    assert isinstance(backbone.clip.visual.transformer.resblocks[0].mlp.gelu, open_clip.transformer.QuickGELU)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        same_features(load_clip("made-tiny-quickgelu", str(tmp_path / "tiny.pt")), model)


@pytest.mark.parametrize("said", ["quick_gelu", "gelu", None])
def test_the_configuration_beside_a_file_of_transformers_says_its_activation(tmp_path, said):
    model, state = weights(force_quick_gelu=said != "gelu")
    save_file(in_transformers_layout(state), tmp_path / "model.safetensors")
    tower = {} if said is None else {"hidden_act": said}  # transformers leaves out what is its default
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "clip", "text_config": tower, "vision_config": tower})
    )
    place = str(tmp_path / "model.safetensors")
    if said == "gelu":
        same_features(load_clip("made-tiny", place), model)
        with pytest.raises(
            ValueError, match="were trained with GELU, and made-tiny-quickgelu has QuickGELU; name made-tiny"
        ):
            load_clip("made-tiny-quickgelu", place)
        return
    same_features(load_clip("made-tiny-quickgelu", place), model)
    with pytest.warns(RuntimeWarning, match="were trained with QuickGELU, which made-tiny gets for them"):
        same_features(load_clip("made-tiny", place), model)


@pytest.mark.slow
def test_a_learner_keeps_the_activation_when_its_weights_go_elsewhere(tmp_path):
    """What told of QuickGELU, a file beside the weights, stays behind; and what tells of it there is of other weights."""
    for quick in (True, False):
        model, state = weights(force_quick_gelu=quick)
        folder = tmp_path / str(quick)
        folder.mkdir()
        save_file(state, folder / "w.safetensors")
        config = folder / "config.json" if quick else tmp_path / "config.json"
        config.write_text(json.dumps({"model_type": "clip", "text_config": {}, "vision_config": {}}))
        with warnings.catch_warnings(action="ignore"):
            learner = SeGPCL(load_clip("made-tiny", str(folder / "w.safetensors")))
        learner.save(tmp_path / "kept")
        (folder / "w.safetensors").rename(tmp_path / "w.safetensors")
        with warnings.catch_warnings(action="error"):
            same_features(SeGPCL.load(tmp_path / "kept").backbone, model)


def test_the_activation_may_be_given():
    same_features(load_clip("made-tiny", None, quick_gelu=True), random_tiny(force_quick_gelu=True))
    with pytest.raises(ValueError, match="quick_gelu must be true or left out for made-tiny-quickgelu"):
        load_clip("made-tiny-quickgelu", None, quick_gelu=False)


def random_tiny(**settings):
    """What `load_clip` makes without weights."""
    torch.manual_seed(0)
    return open_clip.create_model("made-tiny", pretrained=None, **settings).eval()


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool])
def test_weights_that_are_no_numbers_with_a_fraction_are_refused(tmp_path, dtype):
    _, state = weights()
    save_file({**state, "visual.proj": state["visual.proj"].to(dtype)}, tmp_path / "w.safetensors")
    with pytest.raises(
        ValueError, match=f"visual.proj is {dtype}, as quantised weights are; floating-point ones are needed"
    ):
        load_clip("made-tiny", str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("name", ["visual.proj", "text_projection", "positional_embedding"])
def test_weights_that_are_not_finite_are_named(tmp_path, name):
    _, state = weights()
    save_file({**state, name: state[name] / 0}, tmp_path / "w.safetensors")
    with pytest.raises(
        ValueError, match="the weights of made-tiny are damaged: their .* has values that are not finite"
    ):
        load_clip("made-tiny", str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("content", ["[]", "{", '{"model_type": "bert"}', '{"model_type": "clip", "text_config": 5}'])
def test_another_configuration_beside_a_file_says_nothing(tmp_path, content):
    model, state = weights()
    save_file(state, tmp_path / "w.safetensors")
    (tmp_path / "config.json").write_text(content)
    same_features(load_clip("made-tiny", str(tmp_path / "w.safetensors")), model)


@pytest.mark.slow
def test_an_archive_of_vit_b_32s_size(tmp_path):
    model, _ = weights(name="ViT-B-32-quickgelu")
    openai_archive(tmp_path / "ViT-B-32.pt", model, 224)
    backbone = load_clip("ViT-B-32-quickgelu", str(tmp_path / "ViT-B-32.pt"))
    assert (backbone.raw_dim, backbone.embed_dim) == (768, 512)
    state = model.state_dict()
    torch.testing.assert_close(
        backbone.clip.token_embedding.weight, state["token_embedding.weight"].half().float(), rtol=0, atol=0
    )
    torch.testing.assert_close(backbone.projection.data, state["visual.proj"].half().float(), rtol=0, atol=0)


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


def test_a_model_of_the_hub_from_the_local_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    cache = tmp_path / "cache" / "models--team--tiny-clip"
    model = local_model(cache / "snapshots" / "0123456789")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0123456789")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    same_features(load_clip("hf-hub:team/tiny-clip"), model)
    with pytest.raises(ValueError, match="could not load hf-hub:team/gone"):
        load_clip("hf-hub:team/gone")


@pytest.fixture
def no_network(tmp_path, monkeypatch):
    """An empty cache, and nobody who knows where the hub is; the list of those who asked."""
    from huggingface_hub import constants

    asked = []

    def unknown(host, *_, **__):
        asked.append(host)
        raise socket.gaierror("name resolution failed")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(time, "sleep", lambda seconds: asked.append(f"a pause of {seconds} s"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield asked
    assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        (
            "ViT-B-32",
            "laion2b_s34b_b79k",
            "could not load ViT-B-32 with weights 'laion2b_s34b_b79k': Failed to download",
        ),
        ("ViT-B-16-SigLIP", "webli", "could not load ViT-B-16-SigLIP with weights 'webli': Failed to download"),
        ("ViT-B-16-SigLIP", None, "could not load the tokenizer of ViT-B-16-SigLIP"),
        ("hf-hub:team/gone", "openai", "model.name: could not load hf-hub:team/gone: "),
    ],
)
def test_a_hub_that_does_not_answer_is_asked_once(name, pretrained, message, no_network, capfd, monkeypatch):
    made = open_clip.create_model
    if pretrained is None:  # a small one in place of the model, whose tokenizer alone is of the hub
        monkeypatch.setattr(open_clip, "create_model", lambda _, **settings: made("made-tiny", pretrained=None))
    with pytest.raises(ValueError, match=message + r"[\s\S]*Without a network"):
        load_clip(name, pretrained)
    assert len(no_network) == 1, no_network
    assert capfd.readouterr().err == ""


def test_without_a_network_the_cache_is_read_and_local_weights_ask_nobody(tmp_path, no_network):
    cache = tmp_path / "cache" / "models--team--tiny-clip"
    model = local_model(cache / "snapshots" / "0123456789")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0123456789")
    same_features(load_clip("hf-hub:team/tiny-clip"), model)
    assert len(no_network) == 1, no_network
    same_features(load_clip(f"local-dir:{cache / 'snapshots' / '0123456789'}"), model)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    same_features(load_clip("made-tiny", str(tmp_path / "weights.safetensors")), model)
    assert len(no_network) == 1, no_network


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


def test_a_learner_keeps_how_its_images_are_resized(tmp_path):
    local_model(tmp_path / "mine")
    name = f"local-dir:{tmp_path / 'mine'}"
    SeGPCL(load_clip(name, resize_mode="shortest", precision="bf16")).save(tmp_path / "kept")
    learner = SeGPCL.load(tmp_path / "kept")
    assert (learner.backbone.resize_mode, learner.backbone.precision) == ("shortest", "bf16")


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_learner_finds_its_weights_where_they_went(kind, tmp_path, monkeypatch):
    """It was made with a path relative to a folder that is no longer the present one."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    if kind == "file":
        torch.save(weights()[1], "w.pt")
        learner, name = SeGPCL(load_clip("made-tiny", "w.pt")), "w.pt"
    else:
        local_model(tmp_path / "work/w")
        learner, name = SeGPCL(load_clip("local-dir:w")), "w"
    words = model_in_words(learner.backbone.name, learner.backbone.pretrained)
    learner.save(tmp_path / "kept/animals")
    expected = learner.backbone.weights_hash()

    def loads(**given):
        return SeGPCL.load(tmp_path / "kept/animals", **given).backbone.weights_hash() == expected

    monkeypatch.chdir(tmp_path)
    assert loads()  # from where they were
    moved = tmp_path / "else/where"
    moved.mkdir(parents=True)
    (tmp_path / "work" / name).rename(moved / name)
    with pytest.raises(
        FileNotFoundError, match=f"stands on {words}, which is not there. Looked for: .*SEGP_EXT_WEIGHTS"
    ):
        loads()
    with monkeypatch.context() as container:  # a user whom the system does not know, as containers have them
        container.delenv("HOME", raising=False)
        container.setattr(pwd, "getpwuid", {}.__getitem__)
        with pytest.raises(FileNotFoundError, match="which is not there. Looked for: "):
            loads()
    assert loads(pretrained=moved / name)
    for place in (moved, moved / name):
        monkeypatch.setenv("SEGP_EXT_WEIGHTS", str(place))
        assert loads()
    monkeypatch.delenv("SEGP_EXT_WEIGHTS")
    (moved / name).rename(tmp_path / "kept" / name)
    assert loads()  # beside the learner
    if kind == "file":
        torch.save({name: 2 * tensor for name, tensor in weights()[1].items()}, tmp_path / "work/w.pt")
        (tmp_path / "kept/w.pt").rename(tmp_path / "w.pt")
        assert loads()  # in the present folder; those at the recorded place are others
        with pytest.raises(
            ValueError, match="made-tiny with the weights file .*work/w.pt is not the model it was trained on"
        ):
            loads(pretrained=tmp_path / "work/w.pt")


@pytest.mark.parametrize("kind", ["file", pytest.param("folder", marks=pytest.mark.slow)])
def test_weights_are_looked_for_where_they_were_read_and_everywhere_else(kind, tmp_path, monkeypatch):
    """Wherever the process is when it saves, and though they are gone by then."""
    (tmp_path / "work").mkdir()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    if kind == "file":
        torch.save(weights()[1], "w.pt")
        learner, name = SeGPCL(load_clip("made-tiny", Path("w.pt"))), "w.pt"
    else:
        local_model(tmp_path / "work/w")
        learner, name = SeGPCL(load_clip("local-dir:w")), "w"
    monkeypatch.chdir(tmp_path / "other")
    for each in (learner, learner.copy()):
        each.save(tmp_path / "kept")
        assert json.loads((tmp_path / "kept/learner.json").read_text())["backbone"]["place"] == str(
            tmp_path / "work" / name
        )
        SeGPCL.load(tmp_path / "kept")
    learner.save(tmp_path / "whole", with_weights=True)
    SeGPCL.load(tmp_path / "whole").save(tmp_path / "kept", with_weights=False)
    SeGPCL.load(tmp_path / "kept")
    (tmp_path / "work" / name).rename(tmp_path / name)
    learner.save(tmp_path / "kept")
    with monkeypatch.context() as said:  # where the user says goes first
        (shutil.copytree if kind == "folder" else shutil.copy)(tmp_path / name, tmp_path / "said")
        said.setenv("SEGP_EXT_WEIGHTS", str(tmp_path / "said"))
        assert SeGPCL.load(tmp_path / "kept").weights_from == str(tmp_path / "said")
    assert SeGPCL.load(tmp_path / "kept").weights_from == str(tmp_path / name)  # beside the learner
    state = json.loads((tmp_path / "kept/learner.json").read_text())
    state["backbone"]["place"] = None  # as earlier versions wrote it
    files = {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir() if path.name != sealed.SUMS}
    sealed.seal(tmp_path / "kept", {**files, "learner.json": json.dumps(state).encode()})
    assert SeGPCL.load(tmp_path / "kept").weights_from == str(tmp_path / name)
    (tmp_path / name).rename(tmp_path / "other/elsewhere")
    with pytest.raises(FileNotFoundError, match=f"Looked for: .*kept/{name}.*pretrained=PLACE.*SEGP_EXT_WEIGHTS"):
        SeGPCL.load(tmp_path / "kept")
    monkeypatch.setenv("SEGP_EXT_WEIGHTS", str(tmp_path / "other/elsewhere"))
    SeGPCL.load(tmp_path / "kept")


def test_a_file_of_weights_may_be_given_as_a_path(tmp_path):
    torch.save(weights()[1], tmp_path / "w.pt")
    assert load_clip("made-tiny", tmp_path / "w.pt").pretrained == str(tmp_path / "w.pt")
    with pytest.raises(FileNotFoundError, match="made-tiny with the weights file .*gone.pt is not there"):
        load_clip("made-tiny", tmp_path / "gone.pt")


def test_a_file_that_is_called_like_weights_of_a_model_is_none_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own").touch()
    SeGPCL(load_clip("glyph")).save(tmp_path / "kept")
    assert (
        SeGPCL.load(tmp_path / "kept").weights_from
        == SeGPCL.load(tmp_path / "kept", pretrained="openai").weights_from
        == "own"
    )


def learnt_by(backbone):
    config = MethodConfig(training=TrainingConfig(epochs=1, batch_size=4), lora=LoraConfig(rank=4))
    learner = SeGPCL(backbone, config)
    learner.learn_task(made_images(2, 4), ["fox", "red"])
    return learner


def predicted(learner):
    return [learner.predict([image for image, _ in made_images(2, 4)], path=path) for path in ("text", "visual")]


@pytest.mark.parametrize(
    "kind",
    ["glyph", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("archive", "folder", "tokenizer", "fp64"))],
)
def test_a_learner_with_its_weights_needs_nothing_else(kind, tmp_path, monkeypatch):
    """QuickGELU of an archive, a folder's preprocessing, a Hugging Face tokenizer, float64: predictions to the bit, and learning on."""
    original = tmp_path / "original"
    original.mkdir()
    if kind == "archive":
        openai_archive(original / "tiny.pt", weights(force_quick_gelu=True)[0], 32)
        backbone = load_clip("made-tiny", str(original / "tiny.pt"))
    elif kind == "glyph":
        (original / "w.safetensors").write_bytes(glyph.WEIGHTS.read_bytes())
        monkeypatch.setattr(glyph, "WEIGHTS", original / "w.safetensors")
        backbone = load_clip("glyph")
    else:
        local_model(original)
        if kind == "tokenizer":
            content = json.loads((original / "open_clip_config.json").read_text())
            content["model_cfg"]["text_cfg"] |= {"hf_tokenizer_name": "team/words"}
            (original / "open_clip_config.json").write_text(json.dumps(content))
            words = ["<pad>", "<unk>", "a", "photo", "of", "red.", "fox.", "a.", "photo.", "</s>"]
            save_tokenizer(original, words, "$A </s>", pad_token="<pad>", eos_token="</s>")
        backbone = load_clip(f"local-dir:{original}", precision="fp64" if kind == "fp64" else "fp32")
    learner = learnt_by(backbone)
    learner.save(tmp_path / "bare")
    learner.save(tmp_path / "whole", with_weights=True)
    shutil.rmtree(original)
    if kind != "glyph":
        with pytest.raises(FileNotFoundError):
            SeGPCL.load(tmp_path / "bare")
    (tmp_path / "whole").rename(tmp_path / "moved")
    loaded = SeGPCL.load(tmp_path / "moved")
    assert predicted(loaded) == predicted(learner) and loaded.backbone.weights_hash() == backbone.weights_hash()
    assert (loaded.backbone.name, loaded.backbone.pretrained) == (backbone.name, backbone.pretrained)
    assert loaded.weights_from == str(tmp_path / "moved/backbone.safetensors") and loaded.weights_from in repr(loaded)
    for each in (loaded, learner):
        each.learn_task(made_images(2, 4, seed=2), ["a", "photo"])
    assert predicted(loaded) == predicted(learner)
    loaded.save(tmp_path / "moved")  # with weights again, for there are no others
    assert predicted(SeGPCL.load(tmp_path / "moved")) == predicted(learner)
    loaded.save(tmp_path / "moved", with_weights=False)
    assert not (tmp_path / "moved/backbone.safetensors").exists()


def test_weights_in_a_learners_folder_that_are_damaged_or_others_are_refused(tmp_path):
    learner = learnt_by(load_clip("glyph"))
    learner.save(tmp_path / "kept", with_weights=True)
    file = tmp_path / "kept/backbone.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="backbone.safetensors is damaged"):
        SeGPCL.load(tmp_path / "kept")
    good = load(whole)
    name = "visual.conv1.weight"
    for changed, message in (
        (
            {**good, name: good[name] * 2},
            "glyph with its own weights is not the model it was trained on; the weights differ",
        ),
        ({**good, name: good[name] / 0}, f"the weights of glyph are damaged: their {name}"),
        ({**good, name: good[name][:5].contiguous()}, f"{name} must be torch.float32 .*; got torch.float32"),
        ({**good, name: good[name].half()}, f"{name} must be torch.float32 .*; got torch.float16"),
        ({**good, "more": good[name].clone()}, "the weights do not fit glyph; first difference: more"),
        ({n: t for n, t in good.items() if n != name}, f"first difference: {name}"),
    ):
        files = {path.name: path.read_bytes() for path in (tmp_path / "kept").iterdir() if path.name != sealed.SUMS}
        sealed.seal(tmp_path / "kept", {**files, file.name: save(changed)})
        with pytest.raises(ValueError, match=message):
            SeGPCL.load(tmp_path / "kept")
    file.write_bytes(b"nothing")
    sealed.seal(tmp_path / "kept", {**files, file.name: b"nothing"})
    with pytest.raises(ValueError, match="backbone.safetensors cannot be used"):
        SeGPCL.load(tmp_path / "kept")
    assert (
        SeGPCL.load(tmp_path / "kept", pretrained="own").weights_from == "own"
    )  # the model's, not those in the folder


def test_a_model_that_cannot_be_made_again_is_not_saved_with_its_weights(tmp_path):
    learner = SeGPCL(tiny_backbone(), MethodConfig(method="zero-shot"))
    with pytest.raises(ValueError, match="with_weights: tiny with a WordTokenizer is no model of open_clip's"):
        learner.save(tmp_path / "kept", with_weights=True)
    assert not list(tmp_path.iterdir())


def test_a_local_file_is_prepared_for_as_the_published_weights_are(tmp_path, monkeypatch):
    assert published_preprocessing("ViT-B-16-SigLIP")["mean"] == (0.5, 0.5, 0.5)
    assert published_preprocessing("ViT-B-16-SigLIP")["resize_mode"] == "squash"
    assert published_preprocessing("made-tiny") == {}
    _, state = weights()
    torch.save(state, tmp_path / "weights.pt")
    assert load_clip("made-tiny", str(tmp_path / "weights.pt")).resize_mode == "shortest"
    monkeypatch.setattr("segp_ext.clip.building.published_preprocessing", lambda name: {"resize_mode": "squash"})
    assert load_clip("made-tiny", str(tmp_path / "weights.pt")).resize_mode == "squash"


@pytest.mark.parametrize(("setting", "value"), [("resize_mode", "wide"), ("precision", "int8")])
def test_settings_that_do_not_exist_are_named(setting, value):
    with pytest.raises(ValueError, match=f"model.{setting} must be one of .*got '{value}'"):
        load_clip("made-tiny", None, **{setting: value})


def test_weights_that_do_not_fit_are_named(tmp_path):
    _, state = weights()
    torch.save(state, tmp_path / "tiny.pt")
    with pytest.raises(
        ValueError, match=r"tiny.pt' do not fit made-wider: .*visual.*\[48\].*\[60\].*Are they another model's\?"
    ):
        load_clip("made-wider", str(tmp_path / "tiny.pt"))
    openai_archive(tmp_path / "archive.pt", weights()[0], 32)
    with pytest.raises(ValueError, match="archive.pt' do not fit made-wider: .*another model's"):
        load_clip("made-wider", str(tmp_path / "archive.pt"))
    torch.save({"something": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="other.pt' do not fit made-tiny: .*Missing key"):
        load_clip("made-tiny", str(tmp_path / "other.pt"))


def test_weights_for_other_images_or_texts_are_not_stretched(tmp_path):
    _, state = weights()
    larger = {**state, "visual.positional_embedding": torch.zeros(26, 48)}
    torch.save(larger, tmp_path / "larger.pt")
    with pytest.raises(
        ValueError,
        match=r"larger.pt' do not fit made-tiny: they are for images of another size .* 26 places, the model's 17",
    ):
        load_clip("made-tiny", str(tmp_path / "larger.pt"))
    save_file({**state, "positional_embedding": torch.zeros(20, 32)}, tmp_path / "longer.safetensors")
    with pytest.raises(ValueError, match="for texts of another length .* 20 places, the model's 16"):
        load_clip("made-tiny", str(tmp_path / "longer.safetensors"))
    torch.save({**state, "logit_bias": torch.zeros(1)}, tmp_path / "sigmoid.pt")
    with pytest.raises(ValueError, match="they have a logit_bias.*SigLIP"):
        load_clip("made-tiny", str(tmp_path / "sigmoid.pt"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(2)], "it holds a list, not tensors by name"),
        ({}, "it holds no tensors by name"),
        ({"epoch": 3, "optimizer": {}}, "it holds no tensors by name, only epoch, optimizer. Is"),
        (
            {"net": {"w": torch.zeros(2)}, "ema": {"w": torch.ones(2)}},
            "it holds 2 sets of tensors, net, ema; write one",
        ),
        (torch.zeros(2), "it holds a Tensor"),
    ],
)
def test_files_without_weights(tmp_path, content, message):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=f"could not read .*w.pt' as weights of made-tiny: {message}"):
        load_clip("made-tiny", str(tmp_path / "w.pt"))


def test_damaged_weights_are_named(tmp_path):
    _, state = weights()
    openai_archive(tmp_path / "archive.pt", weights()[0], 32)
    for name in ("cut.pt", "cut.safetensors", "empty.pt", "empty.safetensors", "empty.npz", "text.pt", "archive.pt"):
        path = tmp_path / name
        if name.startswith("cut"):
            torch.save(state, path) if name.endswith("pt") else save_file(state, path)
        elif name != "archive.pt":
            path.write_bytes(b"no weights " * 20 if name == "text.pt" else b"")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ValueError, match=f"could not read .*{name}' as weights of made-tiny: .*Is the file whole"):
            load_clip("made-tiny", str(path))


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_a_pointer_of_git_lfs_is_named(name, tmp_path):
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(
        ValueError, match="pointer of Git LFS, and the file itself was not fetched: git lfs pull"
    ) as raised:
        load_clip("made-tiny", str(tmp_path / name))
    assert "weights_only" not in str(raised.value)  # torch's advice to read it all the same


def test_a_file_in_the_home_folder_and_a_tag_with_hyphens(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    model, state = weights()
    torch.save(state, tmp_path / "w.pt")
    same_features(load_clip("made-tiny", "~/w.pt"), model)
    local_model(tmp_path / "mine")
    assert load_clip("local-dir:~/mine").pretrained == "own"
    monkeypatch.setattr(open_clip, "create_model", lambda name, pretrained, **settings: pytest.fail(pretrained))
    with pytest.raises(pytest.fail.Exception, match="laion2b_s34b_b79k"):
        load_clip("ViT-B-32", "LAION2B-s34b-b79k")


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


@pytest.mark.parametrize("name", ["glyph", "local-dir:", "hf-hub:team/clip"])
def test_what_brings_its_weights_takes_no_others(name, tmp_path):
    (tmp_path / "w.pt").write_bytes(b"")
    for other in ("laion400m_e32", str(tmp_path / "w.pt")):
        with pytest.raises(
            ValueError,
            match=f"model.pretrained: {name}.* brings its own weights; leave model.pretrained out, or null for random ones; got",
        ):
            load_clip(name, other)


def test_own_weights_are_recorded_as_such():
    assert [load_clip("glyph", pretrained).pretrained for pretrained in ("openai", "own", None)] == ["own", "own", None]
    assert (
        load_clip("glyph", None).weights_hash()
        != load_clip("glyph").weights_hash()
        == load_clip("glyph", "own").weights_hash()
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "no JSON file"),
        ("[]", "must hold a dict model_cfg"),
        ('{"model_cfg": 5}', "must hold a dict model_cfg"),
        (json.dumps({"model_cfg": {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "layers": 10**9}}}), "model_cfg.vision_cfg.layers is"),
        (json.dumps({"model_cfg": {**CONFIG, "embed_dim": 10**12}}), "model_cfg.embed_dim is 1000000000000, more than any model has"),
        (json.dumps({"model_cfg": {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "width": 9_000_000}}}), "GB are free"),
    ],
)  # fmt: skip
def test_a_foreign_configuration_is_bounded(tmp_path, content, message):
    (tmp_path / "open_clip_config.json").write_text(content)
    with pytest.raises(ValueError, match=f"could not load local-dir:.*{message}"):
        load_clip(f"local-dir:{tmp_path}", None)


def test_a_foreign_tokenizer_runs_nothing(tmp_path):
    """A configuration that asks for the tokenizer's own code does not get it run."""
    text = {**CONFIG["text_cfg"], "hf_tokenizer_name": "team/words", "tokenizer_kwargs": {"trust_remote_code": True}}
    local_model(tmp_path, model_cfg={**CONFIG, "text_cfg": text})
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(ValueError, match="could not load the tokenizer"):
        load_clip(f"local-dir:{tmp_path}")
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_a_configuration(tmp_path):
    with pytest.raises(ValueError, match="no open_clip_config.json in"):
        load_clip(f"local-dir:{tmp_path}")
    local_model(tmp_path / "empty")
    (tmp_path / "empty/open_clip_model.safetensors").unlink()
    with pytest.raises(ValueError, match="could not load local-dir:"):
        load_clip(f"local-dir:{tmp_path / 'empty'}")
    assert load_clip(f"local-dir:{tmp_path / 'empty'}", None).raw_dim == 48  # random weights, asked for


def test_weights_and_preprocessing_that_are_no_numbers_are_refused(tmp_path):
    _, state = weights()
    state["text_projection"][0, 0] = torch.nan
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(
        ValueError, match="weights of made-tiny are damaged: their text_projection has values that are not finite"
    ):
        load_clip("made-tiny", str(tmp_path / "w.safetensors"))
    for number, wrong in enumerate(
        ({"std": [0, 0, 0]}, {"mean": [float("nan")] * 3}, {"mean": [0.5]}, {"interpolation": "x"})
    ):
        local_model(tmp_path / str(number), preprocess_cfg=wrong)
        with pytest.raises(ValueError, match="model.name: .*cannot be used|could not load"):
            load_clip(f"local-dir:{tmp_path / str(number)}")


def test_a_foreign_text_tower_runs_nothing_and_asks_nobody(tmp_path, monkeypatch):
    tower = tmp_path / "tower"
    tower.mkdir()
    (tower / "config.json").write_text(json.dumps({"model_type": "odd", "auto_map": {"AutoConfig": "code.Config"}}))
    (tower / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    text = {"hf_model_name": str(tower), "hf_tokenizer_name": str(tower)}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {**CONFIG, "text_cfg": text}}))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    with pytest.raises(ValueError, match="could not load local-dir:"):
        load_clip(f"local-dir:{tmp_path}", None)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_payload_beside_tensors_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "ran"), "w")

    _, state = weights()
    torch.save({**state, "extra": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ValueError, match="could not read .*evil.pt"):
        load_clip("made-tiny", str(tmp_path / "evil.pt"))
    assert not (tmp_path / "ran").exists()
