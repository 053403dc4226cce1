"""Loading: a model by name, with the weights of a tag, a file, a folder or a hub, or with random ones."""

from __future__ import annotations

import difflib
import logging
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from segp_ext.backbone import Backbone
from segp_ext.config import Precision, ResizeMode

OWN_WEIGHTS = ("hf-hub:", "local-dir:")
"""Prefixes of names that bring configuration, weights and tokenizer along."""
_OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")


def load_clip(
    name: str = "ViT-B-16-quickgelu",
    pretrained: str | None = "openai",
    device: str = "auto",
    *,
    resize_mode: ResizeMode | None = None,
    precision: Precision = "fp32",
    compile: bool = False,
) -> Backbone:
    """Loads a CLIP model.

    Args:
        name: an open_clip model name (`open_clip.list_models()`), `hf-hub:ORG/NAME`, `local-dir:FOLDER` with an `open_clip_config.json`
            and weights, or "glyph", the small model in this package.
        pretrained: open_clip weights tag, or a local checkpoint file: a state dict (read with `weights_only=True`), safetensors, or a
            TorchScript archive as OpenAI published them. None for random weights. What "glyph", `hf-hub:` and `local-dir:` bring along
            goes before it; with None, the latter two get random weights as well.
        device: a torch device; "auto" takes CUDA where it is usable.
        resize_mode: how images become square; the model's own way by default.
        precision: arithmetic of the encoders; bf16 and fp16 by autocast.
        compile: compile the encoders with `torch.compile`.

    Raises:
        ValueError: for an unknown model, weights tag or device, weights or a tokenizer that cannot be had or do not fit, or a model
            without a raw feature.
        FileNotFoundError: if `pretrained` looks like a file and is none.
    """
    chosen = _device(device)
    settings: dict[str, Any] = {"resize_mode": resize_mode, "precision": precision, "compile": compile}
    if name == "glyph":
        from segp_ext import glyph

        clip, tokenizer = glyph.build()
        return Backbone(clip, tokenizer, name, None, **settings).to(chosen)

    import open_clip

    random = pretrained is None
    if not name.startswith(OWN_WEIGHTS):
        _check_names(name, pretrained)
    elif (
        name.startswith("local-dir:")
        and not (Path(name.removeprefix("local-dir:")) / "open_clip_config.json").is_file()
    ):
        raise ValueError(f"model.name: no open_clip_config.json in {name.removeprefix('local-dir:')!r}")
    openai_archive = pretrained is not None and Path(pretrained).is_file() and _is_torchscript(Path(pretrained))
    # Weights trained with QuickGELU need it; their tag says so, and OpenAI's archives always were.
    tag = open_clip.get_pretrained_cfg(name, pretrained) if pretrained is not None else {}
    try:
        # Random weights are always the same ones, so that a checkpoint can be loaded again.
        with torch.random.fork_rng(devices=[]), _quiet():
            torch.manual_seed(0)
            clip = open_clip.create_model(
                name,
                pretrained=None if openai_archive or name.startswith(OWN_WEIGHTS) else pretrained,
                load_weights=not random,
                require_pretrained=not random and not openai_archive,
                pretrained_text=False,
                precision="fp32",
                force_quick_gelu=openai_archive or bool(tag.get("quick_gelu", False)),
                force_preprocess_cfg={} if tag or name.startswith(OWN_WEIGHTS) else published_preprocessing(name),
            )
        if openai_archive:
            assert pretrained is not None
            _load_openai(clip, Path(pretrained))
    except Exception as error:
        raise ValueError(_trouble(name, pretrained, error)) from error
    try:
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:
        raise ValueError(
            f"could not load the tokenizer of {name}: {str(error).splitlines()[0]}\nWithout a network it must be in the local "
            "Hugging Face cache, or beside the weights of a local-dir: model."
        ) from error
    return Backbone(clip, tokenizer, name, pretrained, **settings).to(chosen)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps open_clip from warning, on the root logger, that weights asked to be random are random."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(max(level, logging.ERROR))
    try:
        yield
    finally:
        root.setLevel(level)


def _device(device: str) -> torch.device:
    try:
        chosen = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda"):
        raise ValueError(f"model.device must be auto, cpu, cuda or cuda:<n>; got {device!r}")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"model.device is {device!r}, but this torch ({torch.__version__}) sees no usable CUDA device")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"model.device is {device!r}, but only {torch.cuda.device_count()} CUDA device(s) are there")
    return chosen


def _check_names(name: str, pretrained: str | None) -> None:
    import open_clip

    known = open_clip.list_models()
    if name not in known:
        close = difflib.get_close_matches(name, [*known, "glyph"], n=3, cutoff=0.4)
        raise ValueError(
            f"no model named {name!r}; close names: {', '.join(close) or 'none'}; all: open_clip.list_models(), hf-hub:ORG/NAME, "
            "local-dir:FOLDER, and glyph"
        )
    if pretrained is None or Path(pretrained).is_file():
        return
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained.lower() not in tags:
        if "/" in pretrained or Path(pretrained).suffix:
            raise FileNotFoundError(f"model.pretrained: no weights file {pretrained!r}")
        raise ValueError(
            f"model.pretrained: {name} has no weights {pretrained!r}; tags: {', '.join(tags)}; or a local file"
        )


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


def _is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, which holds code beside its tensors, as a state dict does not."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _load_openai(clip: torch.nn.Module, path: Path) -> None:
    """Loads a TorchScript archive's tensors; none of its code is run."""
    state = torch.jit.load(path, map_location="cpu").state_dict()
    tensors = {name: tensor.float() for name, tensor in state.items() if name not in _OPENAI_EXTRAS}
    clip.load_state_dict(tensors)


def _trouble(name: str, pretrained: str | None, error: Exception) -> str:
    """What went wrong in loading, and what to do."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if "state_dict" in lines[0] if lines else False:
        shown = "; ".join(lines[1:4]) + ("; ..." if len(lines) > 4 else "")
        return f"the weights {pretrained!r} do not fit {name}: {shown}. Are they another model's?"
    reason = lines[0] if lines else type(error).__name__
    if pretrained is not None and Path(pretrained).is_file():
        return f"could not read {pretrained!r} as weights of {name}: {reason}. Is the file whole, and a checkpoint?"
    return (
        f"could not load {name} with weights {pretrained!r}: {reason}\n"
        "Without a network, give a local checkpoint file as model.pretrained, or use --model.name glyph."
    )
