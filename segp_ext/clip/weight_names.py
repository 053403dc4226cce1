"""Gives tensors from elsewhere the names that open_clip's models have: without a training script's prefix, or from transformers' layout."""

from __future__ import annotations

import torch
from torch import Tensor

_TRANSFORMERS = "text_model.embeddings.token_embedding.weight"
"""A name that only a CLIP of transformers has."""
_OF_TRANSFORMERS = {
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding": "conv1",
    "pre_layrnorm": "ln_pre",  # as transformers spells it
    "post_layernorm": "ln_post",
    "final_layer_norm": "ln_final",
    "encoder.layers": "transformer.resblocks",
}
"""open_clip's names of a tower's parts, by the beginnings of their names in transformers."""
_OF_BLOCKS = {
    "self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
}  # fmt: skip
"""The same for the parts of one block."""


def with_open_clips_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of a CLIP by open_clip's names, without the prefixes of wrappers.

    Args:
        state: tensors by their names in a file.

    Raises:
        ValueError: if there are two models, or a tensor of transformers that has no place in a model of open_clip's.
    """
    state = {key.replace("_orig_mod.", ""): value for key, value in state.items()}  # torch.compile's, at any depth
    scales = ("logit_scale", "logit_bias")
    # A loss may have a scale too, without a model around it.
    weights = [key for key in state if key.split(".")[-1] not in scales]
    found = {key.removesuffix(scales[0]) for key in state if key.split(".")[-1] == scales[0]}
    found = {front for front in found if any(key.startswith(front) for key in weights)}
    # Attention may have a scale of its own, within the model.
    fronts = [front for front in found if not any(front.startswith(other) for other in found - {front})]
    if len(fronts) > 1:
        raise ValueError(
            f"they are of {len(fronts)} models, {', '.join(sorted(fronts))}; write the tensors of one to a file of their own"
        )
    for front in fronts:
        state = {key.removeprefix(front): value for key, value in state.items() if key.startswith(front)}
    return _from_transformers(state) if _TRANSFORMERS in state else state


def _from_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Returns the tensors of transformers' `CLIPModel` by open_clip's names, in open_clip's layout."""
    named: dict[str, Tensor] = {}
    unknown = []
    for key, value in state.items():
        tower, _, rest = key.partition(".")
        front = {"text_model": "", "vision_model": "visual."}.get(tower)
        beginning = next((name for name in _OF_TRANSFORMERS if rest == name or rest.startswith(f"{name}.")), None)
        if key == "logit_scale":
            named[key] = value
        elif key in ("text_projection.weight", "visual_projection.weight"):
            named["text_projection" if tower == "text_projection" else "visual.proj"] = value.T
        elif rest == "embeddings.position_ids":
            continue  # 0, 1, 2, ...
        elif front is None or beginning is None:
            unknown.append(key)
        elif beginning == "encoder.layers":
            number, _, part = rest.removeprefix("encoder.layers.").partition(".")
            block = f"{front}transformer.resblocks.{number}."
            inner = next((name for name in _OF_BLOCKS if part.startswith(f"{name}.")), None)
            kind = part.rpartition(".")[2]
            if inner is not None:
                named[f"{block}{_OF_BLOCKS[inner]}.{kind}"] = value
            elif part == f"self_attn.q_proj.{kind}":
                parts = [state.get(f"{tower}.encoder.layers.{number}.self_attn.{one}_proj.{kind}") for one in "qkv"]
                if any(one is None for one in parts):
                    unknown.append(key)
                else:
                    named[f"{block}attn.in_proj_{kind}"] = torch.cat(parts)  # type: ignore[arg-type]
            elif part not in (f"self_attn.k_proj.{kind}", f"self_attn.v_proj.{kind}"):
                unknown.append(key)
        else:
            named[front + _OF_TRANSFORMERS[beginning] + rest.removeprefix(beginning)] = value
    if unknown:
        raise ValueError(
            f"they have the names of transformers, and {len(unknown)} of them have no place in a CLIP of open_clip, such as {unknown[0]}; "
            "give the weights in open_clip's own layout"
        )
    return named
