"""Chooses the layers that LoRA adapts: finds what the words of `lora.targets` name in a model, and says where they name nothing."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal

import torch
from torch import nn

from segp_ext.config import LORA_WORDS, LoraConfig

Role = Literal["query", "key-value", "packed", "output", "ffn", "convolution", "other"]
"""What a layer does.

It may be a projection of attention, a part of a feed-forward network, a convolution inside a block, or something else, which only its own
name chooses. A "packed" projection gives queries, keys and values in one layer that cannot be split.
"""

_ROLES: dict[str, set[Role]] = {
    "kv": {"key-value"},
    "attention": {"query", "key-value", "packed", "output"},
    "ffn": {"ffn"},
    "convolutions": {"convolution"},
}
_IN_ATTENTION: dict[Role, set[str]] = {
    "query": {"q_proj", "query", "q_lin", "q"},
    "key-value": {"kv_proj", "kv", "k_proj", "v_proj", "key", "value", "k_lin", "v_lin", "k", "v"},
    "packed": {"qkv"},
    "output": {"out_proj", "proj", "dense", "out_lin", "o"},
}
"""The last parts of the names of attention's layers in open_clip, timm and transformers."""


def adaptable_layers(clip: nn.Module) -> dict[str, dict[str, Role]]:
    """Finds the layers that can carry an adapter.

    These are the linear layers inside repeated blocks, and all convolutions that are not grouped. Attentional pooling and projections
    into the joint space are left out. The names of modules and of their classes tell attention from feed-forward networks.

    Args:
        clip: an open_clip model after `segp_ext.clip.towers.make_adaptable`.

    Returns:
        The layers' roles, by encoder ("vision", "text") and by name.
    """
    found: dict[str, dict[str, Role]] = {"vision": {}, "text": {}}
    attentions: list[str] = []  # paths of modules whose class is an attention, under any name
    for name, module in clip.named_modules():
        if type(module).__name__.endswith("Attention"):
            attentions.append(f"{name}.")
        *path, last = name.split(".")
        if "attn_pool" in path:
            continue
        inside = any(step.isdigit() for step in path) and "downsample" not in path
        role: Role | None = None
        if isinstance(module, nn.Linear) and inside:
            named = any("attn" in step.lower() or "attention" in step.lower() for step in path)
            role = _role_in_attention(last) if named or name.startswith(tuple(attentions)) else "ffn"
        elif isinstance(module, nn.Conv2d) and module.groups == 1:
            role = "convolution" if inside else "other"
        if role is not None:
            found["vision" if name.startswith("visual.") else "text"][name] = role
    return found


def _role_in_attention(last: str) -> Role:
    return next((role for role, names in _IN_ATTENTION.items() if last in names), "other")


def chosen_layers(clip: nn.Module, model: str, config: LoraConfig) -> list[str]:
    """Chooses layers by the settings.

    Args:
        clip: an open_clip model after `segp_ext.clip.towers.make_adaptable`.
        model: the model's name, for messages.
        config: words or ends of layers' names, and the encoders to adapt.

    Returns:
        The layers' names, in the model's order.

    Raises:
        ValueError: if the settings choose no layer in an encoder to adapt, or a word or an end of a name matches no layer.
    """
    found = adaptable_layers(clip)
    layers = {encoder: found[encoder] for encoder in found if config.encoders in ("both", encoder)}
    if isinstance(config.targets, list):
        _check_ends(config.targets, [name for roles in layers.values() for name in roles], model)
    chosen = {
        encoder: [name for name, role in roles.items() if _matches(name, role, config.targets)]
        for encoder, roles in layers.items()
    }
    for encoder, names in chosen.items():
        if not names:
            raise ValueError(_nothing_in(encoder, found, model, config))
        packed = [name for name, role in layers[encoder].items() if role == "packed"]
        if packed and isinstance(config.targets, str) and {"kv", "attention"} & {*config.targets.split("+")} == {"kv"}:
            raise ValueError(
                f"lora.targets: kv leaves out {len(packed)} attention layers in the {encoder} tower of {model}, whose queries, keys and "
                f"values are one layer that cannot be split ({packed[0]} ...); write --lora.targets attention+ffn, or a list of layers"
            )
    if isinstance(config.targets, str):
        for word in config.targets.split("+"):
            if not any(_named_by(word, roles) for roles in layers.values()):
                raise ValueError(
                    f"lora.targets: {word!r} names no layer in the adapted encoders of {model}; there are {_inventory(layers.values())}"
                )
    return [name for names in chosen.values() for name in names]


def check_adaptable(layers: Mapping[str, nn.Module], model: str, run: Callable[[], object]) -> None:
    """Refuses layers on which an adapter would do nothing, because the model reads their weights without calling them, or shares them.

    Args:
        layers: the layers by name.
        model: the model's name, for messages.
        run: passes something through the whole model.

    Raises:
        ValueError: naming the first such layer, and the reason.
    """
    called: set[nn.Module] = set()
    hooks = [layer.register_forward_pre_hook(lambda module, _: called.add(module)) for layer in layers.values()]
    try:
        with torch.no_grad():
            run()
    finally:
        for hook in hooks:
            hook.remove()
    owners: dict[tuple[int, torch.Size], str] = {}
    for name, layer in layers.items():
        weight: Any = layer.weight
        owner = owners.setdefault((weight.data_ptr(), weight.shape), name)
        reason = None
        if layer not in called:
            reason = "is never called"
        elif owner != name:
            reason = f"shares its weight with {owner}"
        if reason:
            raise ValueError(f"lora.targets: {name} of {model} {reason}, so it cannot be adapted; name other layers")


def shares_start(name: str) -> str:
    """Names the group of layers that share one matrix A: queries, keys and values of one attention, or a layer by itself.

    Therefore the adapters of a packed projection's parts can be saved as one adapter of the packed projection, of the same rank.
    """
    attention, _, last = name.rpartition(".")
    return attention if _role_in_attention(last) in ("query", "key-value") else name


def _matches(name: str, role: Role, targets: str | list[str]) -> bool:
    """Whether `lora.targets` names a layer of this name and role."""
    if isinstance(targets, str):
        return any(role in _ROLES[word] for word in targets.split("+"))
    return any(_ends(name, end) for end in targets)


def _ends(name: str, end: str) -> bool:
    return name == end or name.endswith(f".{end}")


def _named_by(word: str, roles: dict[str, Role]) -> int:
    """Counts the layers that a word names."""
    return sum(role in _ROLES[word] for role in roles.values())


def _inventory(towers: Collection[dict[str, Role]]) -> str:
    """Lists the words that name layers in some towers, and how many layers each word names."""
    counts = {word: sum(_named_by(word, roles) for roles in towers) for word in LORA_WORDS}
    return ", ".join(f"{word} ({count} layers)" for word, count in counts.items() if count) or "none in blocks"


def _check_ends(ends: list[str], names: list[str], model: str) -> None:
    """Raises ValueError for an end with which no layer's name ends."""
    for end in ends:
        if not any(_ends(name, end) for name in names):
            there = sorted({re.split(r"\.\d+\.(?!.*\.\d+\.)", name)[-1] for name in names})
            close = difflib.get_close_matches(end, there, n=1)
            hint = f"; close: {close[0]}" if close else ""
            if end in LORA_WORDS:
                hint = f"; words are joined by +, as in --lora.targets {'+'.join(word for word in ends if word in LORA_WORDS)}"
            raise ValueError(f"lora.targets: no layer of {model} ends in {end!r}{hint}; there are {', '.join(there)}")


def _nothing_in(encoder: str, layers: dict[str, dict[str, Role]], model: str, config: LoraConfig) -> str:
    """Words the error for an encoder in which `lora.targets` names no layer; `layers` holds the layers of both encoders."""
    targets = config.targets if isinstance(config.targets, str) else f"[{', '.join(config.targets)}]"
    own = [word for word in ("kv", "ffn", "convolutions", "attention") if _named_by(word, layers[encoder])]
    other = "text" if encoder == "vision" else "vision"
    remedies = []
    if any(_matches(name, role, config.targets) for name, role in layers[other].items()):
        remedies.append(f"--lora.encoders {other}")
    if own:
        given = config.targets.split("+") if isinstance(config.targets, str) else []
        adapted = [roles for name, roles in layers.items() if config.encoders in ("both", name)]
        wider = [word for word in given if any(_named_by(word, roles) for roles in adapted)]
        words = [word for word in LORA_WORDS if word in (*wider, own[0])]
        remedies.append(f"--lora.targets {'+'.join(words)}")
    return (
        f"lora.targets: the {encoder} tower of {model} has no layer that {targets} names; what it has: {_inventory([layers[encoder]])}"
        + (f"; write {' or '.join(remedies)}" if remedies else "")
    )
