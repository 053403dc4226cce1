"""A backbone as open_clip's own model: a folder that `open_clip.create_model_and_transforms("local-dir:FOLDER")` loads."""

from __future__ import annotations

import json
import math
from typing import Any

import torch
from torch import Tensor

from segp_ext.clip import glyph
from segp_ext.clip.backbone import Backbone
from segp_ext.clip.description import ARCHITECTURE
from segp_ext.clip.own_files import known_architecture, tokenizer_files
from segp_ext.clip.towers import LinearAttention, SplitLinear

WEIGHTS = "open_clip_model.safetensors"
"""Name of the file of weights, which open_clip prefers to all others in a folder."""


def open_clip_files(backbone: Backbone) -> dict[str, bytes]:
    """Writes a backbone, its adapter merged, to files that open_clip loads without this package.

    The weights are float32. The scale of logits is the one that this package predicts with, at most 100. Preprocessing is the backbone's.
    The built-in model gets the vocabulary of open_clip's own tokenizer, with the same embeddings of all words.

    Returns:
        The files' contents by name.

    Raises:
        ValueError: for a model or tokenizer that open_clip did not make.
    """
    import open_clip
    from safetensors.torch import save

    weights = plain_weights(backbone)
    if backbone.name == "glyph":
        embedding = glyph.in_open_clips_order(weights[glyph.EMBEDDING], backbone.tokenizer)
        weights[glyph.EMBEDDING] = embedding
        architecture: dict[str, Any] = glyph.architecture(len(embedding))
    else:
        architecture = known_architecture(backbone, "format open_clip")
    preprocessing = {**open_clip.get_model_preprocess_cfg(backbone.clip), "resize_mode": backbone.resize_mode}
    content = {"model_cfg": architecture, "preprocess_cfg": preprocessing}
    return {
        ARCHITECTURE: json.dumps(content, indent=1).encode(),
        WEIGHTS: save(weights),
        **tokenizer_files(backbone),
    }


def plain_weights(backbone: Backbone) -> dict[str, Tensor]:
    """Returns a backbone's weights, its adapter merged, by the names and in the layout of open_clip's own model: float32, on the CPU."""
    merged = backbone.to_predict()
    state = {
        name.replace(".base_layer", ""): tensor
        for name, tensor in merged.clip.state_dict().items()
        if ".lora_" not in name
    }
    if merged.projection is not None:
        state["visual.proj"] = merged.projection.detach()
    for name, module in merged.clip.named_modules():
        if isinstance(module, (LinearAttention, SplitLinear)):
            whole = f"{name}.in_proj_" if isinstance(module, LinearAttention) else f"{name}."
            for kind in ("weight", "bias"):
                parts = [state.pop(f"{name}.{part}_proj.{kind}", None) for part in ("q", "kv")]
                if parts[0] is not None and parts[1] is not None:
                    state[f"{whole}{kind}"] = torch.cat([parts[0], parts[1]])
    if math.exp(min(float(state["logit_scale"]), 80.0)) > merged.logit_scale:
        state["logit_scale"] = torch.full_like(state["logit_scale"], math.log(merged.logit_scale))
    plain = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    return {name: tensor.cpu().contiguous().clone() for name, tensor in plain.items()}
