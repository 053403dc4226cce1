"""Loading: a model by name, with the weights of a tag, a file, a folder or a hub, or with random ones."""

from __future__ import annotations

import difflib
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from segp_ext.clip.backbone import Backbone
from segp_ext.clip.weights_file import load_file, needs_quick_gelu
from segp_ext.config import Precision, ResizeMode
from segp_ext.runtime.forked import one_thread_if_forked
from segp_ext.runtime.memory import free_memory
from segp_ext.runtime.process_state import drawn_by, float32_by_default
from segp_ext.runtime.progress import first_line

OWN = "own"
"""Says of weights, in results and checkpoints, that the model's name brought them along."""
LOCAL = "local-dir:"
"""How the name of a folder's model begins."""
WEIGHTS, ARCHITECTURE = "backbone.safetensors", "open_clip_config.json"
"""Names of a backbone's own files in a learner's folder; the second as open_clip has it."""
_PREFIXES = ("hf-hub:", LOCAL)
_LARGEST, _DEEPEST = 10**7, 1000
"""No model's configuration has greater numbers or more layers; a foreign one that has would take all memory, or never end."""


def brings_weights(name: str) -> bool:
    """Whether a model of this name comes with its weights, so that `model.pretrained` names none."""
    return name == "glyph" or name.startswith(_PREFIXES)


def model_in_words(name: str, pretrained: str | None) -> str:
    """A model and its weights, as reports and messages name them: "ViT-B-16 with the weights openai"."""
    if pretrained is None:
        return f"{name} with random weights"
    if brings_weights(name):
        return f"{name} with its own weights"
    return f"{name} with the weights{' file' if names_file(pretrained) else ''} {pretrained}"


def names_file(pretrained: str) -> bool:
    """Whether weights are meant as a file, there or not, rather than by a tag."""
    return "/" in pretrained or bool(Path(pretrained).suffix) or Path(pretrained).is_file()


@torch.inference_mode(False)
def load_clip(
    name: str = "ViT-B-16-quickgelu",
    pretrained: str | os.PathLike[str] | None = "openai",
    device: str = "auto",
    *,
    resize_mode: ResizeMode | None = None,
    precision: Precision = "fp32",
    compile: bool = False,
    quick_gelu: bool | None = None,
) -> Backbone:
    """Loads a CLIP model.

    Args:
        name: an open_clip model name (`open_clip.list_models()`), `hf-hub:ORG/NAME`, `local-dir:FOLDER` with an `open_clip_config.json`
            and weights, or "glyph", the small model in this package.
        pretrained: open_clip weights tag, or a local checkpoint file: a state dict (read with `weights_only=True`), safetensors, Big
            Vision's NumPy archives, or a TorchScript archive as OpenAI published them; of state dicts also a CLIP's in transformers'
            layout. None for random weights. "glyph", `hf-hub:` and `local-dir:` bring their own: "own", or "openai", the default.
            A state dict does not tell whether it was trained with QuickGELU: name the model that has its activation, or give quick_gelu.
        device: a torch device; "auto" takes CUDA where it is usable.
        resize_mode: how images become square; the model's own way by default.
        precision: arithmetic of the encoders; bf16 and fp16 by autocast.
        compile: compile the encoders with `torch.compile`.
        quick_gelu: whether the activation is QuickGELU; None takes what the weights or else the model's name say. Models that bring their
            weights bring their activation.

    Raises:
        ValueError: for an unknown model, weights tag or device, weights or a tokenizer that cannot be had or do not fit, or a model
            without a raw feature.
        FileNotFoundError: if `pretrained` looks like a file and is none.
    """
    one_thread_if_forked()
    chosen = usable_device(device)
    settings: dict[str, Any] = {"resize_mode": resize_mode, "precision": precision, "compile": compile}
    pretrained = None if pretrained is None else os.fspath(pretrained)
    if brings_weights(name):
        if pretrained not in (OWN, "openai", None):
            raise ValueError(
                f"model.pretrained: {name} brings its own weights; leave model.pretrained out, or null for random ones; got {pretrained!r}"
            )
        if name == "glyph":
            from segp_ext.clip import glyph

            with _repeatable(), torch.device("cpu"):
                clip, tokenizer = glyph.build(pretrained is not None)
            architecture = None
        else:
            clip, tokenizer, architecture = _foreign(name, pretrained is not None)
        try:
            backbone = Backbone(clip, tokenizer, name, None if pretrained is None else OWN, **settings)
        except (AssertionError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"model.name: {name} cannot be used: {first_line(error)}") from error
        backbone.architecture = architecture
        if name.startswith(LOCAL):
            backbone.place = os.path.realpath(os.path.expanduser(name.removeprefix(LOCAL)))
        return backbone.to(chosen)
    file = None if pretrained is None else Path(os.path.expanduser(pretrained))
    if file is None or not file.is_file():
        file = None
        pretrained = _tag(name, pretrained)
    else:
        _tag(name, None)
    clip, tokenizer, quick = _published(name, pretrained, file, quick_gelu)
    backbone = Backbone(clip, tokenizer, name, pretrained, **settings)
    backbone.quick_gelu = quick
    backbone.place = None if file is None else os.path.realpath(file)
    return backbone.to(chosen)


def own_files(backbone: Backbone) -> dict[str, bytes]:
    """Files from which `load_own` makes a backbone again: its weights, architecture, preprocessing and Hugging Face tokenizer.

    Raises:
        ValueError: for a model or tokenizer that open_clip did not make.
    """
    import open_clip
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
    from open_clip.transformer import QuickGELU
    from safetensors.torch import save

    files = {WEIGHTS: save({name: tensor.cpu().contiguous().clone() for name, tensor in backbone.weights().items()})}
    if backbone.name == "glyph":
        return files
    known = backbone.architecture or open_clip.get_model_config(backbone.name)
    if known is None or not isinstance(backbone.tokenizer, (SimpleTokenizer, HFTokenizer)):
        raise ValueError(
            f"with_weights: {backbone.name} with a {type(backbone.tokenizer).__name__} is no model of open_clip's, and could not be made "
            "again"
        )
    architecture = {**known}
    if any(isinstance(module, QuickGELU) for module in backbone.clip.modules()):
        architecture["quick_gelu"] = True  # as the weights' tag or archive had it
    content = {"model_cfg": architecture, "preprocess_cfg": open_clip.get_model_preprocess_cfg(backbone.clip)}
    files[ARCHITECTURE] = json.dumps(content, indent=1).encode()
    if isinstance(backbone.tokenizer, HFTokenizer):
        with tempfile.TemporaryDirectory() as folder:
            backbone.tokenizer.save_pretrained(folder)
            files |= {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}
    return files


@torch.inference_mode(False)
def load_own(folder: Path, name: str, pretrained: str | None, others: bool, device: str, **settings: Any) -> Backbone:
    """Makes a backbone from the files that `own_files` gave, in a folder; other arguments and settings as `load_clip` has them.

    Args:
        others: whether its weights are others than `name` and `pretrained` tell.

    Raises:
        ValueError: if they do not fit together.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file as load_safetensors

    from segp_ext.clip import glyph

    one_thread_if_forked()
    chosen = usable_device(device)
    if name == "glyph":
        architecture = None
        with _repeatable(), torch.device("cpu"):
            clip, tokenizer = glyph.build(False)
    else:
        clip, tokenizer, architecture = _foreign(f"{LOCAL}{folder}", False)
    try:
        backbone = Backbone(clip, tokenizer, name, pretrained, **settings)
        backbone.load_weights(load_safetensors(folder / WEIGHTS), others)
    except (AssertionError, RuntimeError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(f"{folder / WEIGHTS} cannot be used: {first_line(error)}") from error
    backbone.architecture = architecture
    return backbone.to(chosen)


def _published(name: str, pretrained: str | None, file: Path | None, quick_gelu: bool | None) -> tuple[Any, Any, bool]:
    """A model that open_clip knows by name, with the weights of a tag or of a local file, or random ones; its tokenizer; and whether it
    has QuickGELU.
    """
    import open_clip

    # Weights trained with QuickGELU need it; their tag says so, and of files some do.
    tag = open_clip.get_pretrained_cfg(name, pretrained) if pretrained is not None and file is None else {}
    # A tag that says nothing leaves it to the name: open_clip's roberta-ViT-B-32 has QuickGELU, and its tag does not say so.
    config = open_clip.get_model_config(name) or {}
    own = bool(config.get("quick_gelu", False))
    if quick_gelu is not None:
        quick: bool | None = quick_gelu
        if own and not quick:
            raise ValueError(f"quick_gelu must be true or left out for {name}, which has QuickGELU; got false")
    else:
        quick = tag.get("quick_gelu") or None if file is None else needs_quick_gelu(file)
        if pretrained is not None:
            _check_activation(name, pretrained, quick, own)
    text = config.get("text_cfg", {})
    with _asking_once(bool(tag.get("hf_hub") or text.get("hf_tokenizer_name") or text.get("hf_model_name"))):
        try:
            with _repeatable(), torch.device("cpu"):
                clip = open_clip.create_model(
                    name,
                    pretrained=pretrained if file is None else None,
                    load_weights=pretrained is not None and file is None,
                    require_pretrained=pretrained is not None and file is None,
                    pretrained_text=False,
                    precision="fp32",
                    force_quick_gelu=bool(quick),
                    force_preprocess_cfg={} if tag else published_preprocessing(name),
                )
        except Exception as error:
            raise ValueError(
                f"could not load {name} with weights {pretrained!r}: {first_line(error)}\n"
                "Without a network, give a local checkpoint file as model.pretrained, or use --model.name glyph."
            ) from error
        if file is not None:
            load_file(clip, name, file)
        return clip, _tokenizer(name), own or bool(quick)


def _check_activation(name: str, pretrained: str, quick: bool | None, own: bool) -> None:
    """Says that weights have another activation than the model of this name.

    Args:
        quick: whether they were trained with QuickGELU; None if that is not known.
        own: whether the model has it.

    Raises:
        ValueError: if the model has QuickGELU and the weights were trained without.
    """
    import open_clip

    if quick is None or quick == own:
        return
    known = open_clip.list_models()
    if own:
        plain = name.removesuffix("-quickgelu")
        better = plain if plain in known else "a model without it"
        raise ValueError(f"the weights {pretrained!r} were trained with GELU, and {name} has QuickGELU; name {better}")
    quicker = f"{name}-quickgelu"
    warnings.warn(
        f"the weights {pretrained!r} were trained with QuickGELU, which {name} gets for them"
        + (f"; {quicker} is its name with it" if quicker in known else ""),
        RuntimeWarning,
        stacklevel=5,  # who called load_clip
    )


def _foreign(name: str, weights: bool) -> tuple[Any, Any, dict[str, Any]]:
    """A model that a folder or the hub describes, with its weights or random ones; its tokenizer; and the description."""
    prefix, _, place = name.partition(":")
    if prefix == "local-dir":
        place = os.path.expanduser(place)
    with _asking_once(prefix == "hf-hub"):
        try:
            model = _configuration(prefix, place)["model_cfg"]
            _bounded(model, "model_cfg")
            tower = model.get("text_cfg", {}).get("hf_model_name")
            with _asking_once(tower is not None and not Path(str(tower)).is_dir()):
                clip = _described(f"{prefix}:{place}", weights)
        except Exception as error:
            what = (
                "The folder needs an open_clip_config.json that describes the model, and its weights."
                if prefix == "local-dir"
                else "Without a network the model must be in the local Hugging Face cache; local-dir:FOLDER takes it from a folder."
            )
            raise ValueError(f"model.name: could not load {name}: {first_line(error)}\n{what}") from error
        # Without this a configuration could have the tokenizer's own code downloaded and run.
        uses_hugging_face = bool(model.get("text_cfg", {}).get("hf_tokenizer_name"))
        tokenizer = _tokenizer(f"{prefix}:{place}", **({"trust_remote_code": False} if uses_hugging_face else {}))
        return clip, tokenizer, model


def _described(name: str, weights: bool) -> Any:
    """The model that a folder's or the hub's configuration describes; refused if it is larger than the free memory."""
    import open_clip

    settings: dict[str, Any] = {"pretrained_text": False, "precision": "fp32"}
    with _repeatable(), _asking_nobody(), torch.device("meta"):
        empty = open_clip.create_model(name, load_weights=False, device="meta", **settings)
    size = sum(4 * parameter.numel() for parameter in empty.parameters())
    free = free_memory()
    if size > free:
        raise ValueError(f"it describes a model of {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")
    with _repeatable(), _asking_nobody(), torch.device("cpu"):
        return open_clip.create_model(name, load_weights=weights, require_pretrained=weights, **settings)


def _configuration(prefix: str, place: str) -> dict[str, Any]:
    """The `open_clip_config.json` of a folder or of a model on the hub."""
    if prefix == "local-dir":
        path = Path(place) / "open_clip_config.json"
        if not path.is_file():
            raise FileNotFoundError(f"no open_clip_config.json in {place!r}")
    else:
        from huggingface_hub import hf_hub_download

        path = Path(hf_hub_download(place, "open_clip_config.json"))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON file: {error}") from error
    model = content.get("model_cfg") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("text_cfg", {}), dict):
        raise ValueError(f"{path.name} must hold a dict model_cfg, and in it a dict text_cfg")
    return content


def _bounded(settings: Any, name: str) -> None:
    """Refuses a configuration whose numbers no model has, before anything is made of them."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            _bounded(value, f"{name}.{key}")
    elif isinstance(settings, list):
        for value in settings:
            _bounded(value, name)
    elif isinstance(settings, (int, float)):
        most = _DEEPEST if name.endswith(("layers", "depth", "depths")) else _LARGEST
        if not abs(settings) <= most:
            raise ValueError(f"{name} is {settings}, more than any model has ({most})")


def _tokenizer(name: str, **settings: Any) -> Any:
    import open_clip

    try:
        return open_clip.get_tokenizer(name, **settings)
    except Exception as error:
        raise ValueError(
            f"could not load the tokenizer of {name}: {first_line(error)}\nWithout a network it must be in the local "
            "Hugging Face cache, or beside the weights of a local-dir: model."
        ) from error


@contextmanager
def _repeatable() -> Iterator[None]:
    """Random weights are always the same, so that a checkpoint can be loaded again; and all weights are float32.

    And open_clip does not warn that they are random, nor log what it raises too.
    """
    with (
        drawn_by(0),
        float32_by_default(),
    ):  # the logger is the whole process's too, and must not be changed by two threads at a time
        root = logging.getLogger()
        level = root.level
        root.setLevel(max(level, logging.CRITICAL))
        try:
            yield
        finally:
            root.setLevel(level)


@contextmanager
def _asking_once(needed: bool) -> Iterator[None]:
    """Asks the hub whether it answers, if it is needed. If not, what is inside has the local cache alone, and the hub is asked no more.

    Without this each missing file would be asked for seven times, with pauses of half a minute in all.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    before = constants.HF_HUB_OFFLINE
    try:
        if needed and not before:
            get_session().head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except Exception:  # its kind depends on the hub library's version
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def _asking_nobody() -> Iterator[None]:
    """Lets transformers refuse a model's own code, instead of asking on the terminal whether to run it."""
    from transformers import dynamic_module_utils

    before = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0
    try:
        yield
    finally:
        dynamic_module_utils.TIME_OUT_REMOTE_CODE = before


def usable_device(device: str, what: str = "model.device") -> torch.device:
    """The torch device of a name, which `what` gives; "auto" takes CUDA where it is usable.

    Raises:
        ValueError: if there is none of that name, or it is not usable here.
    """
    try:
        chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"{what} must be auto, cpu, cuda or cuda:<n>; got {device!r}")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"{what} is {device!r}, but this torch ({torch.__version__}) sees no usable CUDA device")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"{what} is {device!r}, but only {torch.cuda.device_count()} CUDA device(s) are there")
    return chosen


def _tag(name: str, pretrained: str | None) -> str | None:
    """Checks a model's name and its weights' tag; returns the tag as open_clip writes it."""
    import open_clip

    known = open_clip.list_models()
    if name not in known:
        close = difflib.get_close_matches(name, [*known, "glyph"], n=3, cutoff=0.4)
        raise ValueError(
            f"no model named {name!r}; close names: {', '.join(close) or 'none'}; all: open_clip.list_models(), hf-hub:ORG/NAME, "
            "local-dir:FOLDER, and glyph"
        )
    if pretrained is None:
        return None
    tags = open_clip.list_pretrained_tags_by_model(name)
    tag = pretrained.lower().replace("-", "_")
    if tag not in tags:
        if names_file(pretrained):
            raise FileNotFoundError(
                f"model.pretrained: {model_in_words(name, pretrained)} is not there. Looked for: "
                f"{Path(pretrained).expanduser().absolute()}"
            )
        raise ValueError(
            f"model.pretrained: {name} has no weights {pretrained!r}; tags: {', '.join(tags)}; or a local file"
        )
    return tag


def check_told(backbone: Backbone) -> None:
    """Refuses a backbone whose name or weights' tag `load_clip` does not know. Local weights may lie somewhere else when they are read.

    Raises:
        ValueError: naming what is not known.
    """
    name, pretrained = backbone.name, backbone.pretrained
    if not brings_weights(name):
        local = backbone.place is not None or (pretrained is not None and names_file(pretrained))
        _tag(name, None if local else pretrained)


def published_preprocessing(name: str) -> dict[str, Any]:
    """Preprocessing that all published weights of a model share; what its other weights are taken to want as well.

    A local file does not tell how its images were prepared, and open_clip would take CLIP's own way for it (wrong for SigLIP, say).
    """
    import open_clip

    found = [open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
    keys = ("mean", "std", "interpolation", "resize_mode")
    return {
        key: found[0][key]
        for key in keys
        if found and all(key in config and config[key] == found[0].get(key) for config in found)
    }
