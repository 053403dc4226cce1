"""Loads a model by name as a backbone, with the weights of a tag, a file, a folder or the hub, or with random ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from segp_ext.clip.backbone import Backbone
from segp_ext.clip.building import build_described, build_glyph, build_published
from segp_ext.clip.model_names import LOCAL, OWN, brings_weights, known_tag
from segp_ext.config import Precision, ResizeMode
from segp_ext.runtime.device import usable_device
from segp_ext.runtime.forked import one_thread_if_forked
from segp_ext.runtime.progress import first_line


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
        pretrained: an open_clip weights tag or a local checkpoint file; None for random weights. A file is a state dict (read with
            `weights_only=True`), safetensors, a NumPy archive of Big Vision, or a TorchScript archive as OpenAI published them. State
            dicts and safetensors may have the layout of a CLIP in transformers. "glyph", `hf-hub:` and `local-dir:` bring their own
            weights: "own", or "openai", the default. A state dict does not tell whether it was trained with QuickGELU: name the model
            that has its activation, or give quick_gelu.
        device: a torch device; "auto" takes CUDA where it is usable.
        resize_mode: how images become square; the model's own way by default.
        precision: arithmetic of the encoders; bf16 and fp16 by autocast.
        compile: compile the encoders with `torch.compile`.
        quick_gelu: whether the activation is QuickGELU. None takes what the weights or else the model's name say. Models that bring
            their weights bring their activation.

    Returns:
        The backbone, on the device.

    Raises:
        ValueError: if the model, the weights tag or the device is unknown.
        ValueError: if the weights or the tokenizer cannot be had, or do not fit.
        ValueError: if the model has no raw feature.
        FileNotFoundError: if `pretrained` looks like a file that does not exist.
    """
    one_thread_if_forked()
    chosen = usable_device(device)
    settings: dict[str, Any] = {"resize_mode": resize_mode, "precision": precision, "compile": compile}
    pretrained = None if pretrained is None else os.fspath(pretrained)
    if brings_weights(name):
        return _with_its_weights(name, pretrained, settings).to(chosen)
    file = None if pretrained is None else Path(os.path.expanduser(pretrained))
    if file is None or not file.is_file():
        file = None
        pretrained = known_tag(name, pretrained)
    else:
        known_tag(name, None)
    clip, tokenizer, quick = build_published(name, pretrained, file, quick_gelu)
    backbone = Backbone(clip, tokenizer, name, pretrained, **settings)
    backbone.quick_gelu = quick
    backbone.place = None if file is None else os.path.realpath(file)
    return backbone.to(chosen)


def _with_its_weights(name: str, pretrained: str | None, settings: dict[str, Any]) -> Backbone:
    """Loads a model that brings its weights; `pretrained` may be its default, or None for random weights."""
    if pretrained not in (OWN, "openai", None):
        raise ValueError(
            f"model.pretrained: {name} brings its own weights; leave model.pretrained out, or null for random ones; got {pretrained!r}"
        )
    if name == "glyph":
        architecture = None
        clip, tokenizer = build_glyph(pretrained is not None)
    else:
        clip, tokenizer, architecture = build_described(name, pretrained is not None)
    try:
        backbone = Backbone(clip, tokenizer, name, None if pretrained is None else OWN, **settings)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"model.name: {name} cannot be used: {first_line(error)}") from error
    backbone.architecture = architecture
    if name.startswith(LOCAL):
        backbone.place = os.path.realpath(os.path.expanduser(name.removeprefix(LOCAL)))
    return backbone
