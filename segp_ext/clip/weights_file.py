"""Loads a weights file of any usual kind into an open_clip model; no file can run anything.

A file may be safetensors, a state dict (`torch.load(weights_only=True)`), a NumPy archive of Big Vision, or a TorchScript archive as OpenAI
published them (`segp_ext.clip.torchscript_archive`). `segp_ext.clip.weight_names` says which names its tensors may have.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segp_ext.clip.torchscript_archive import is_archive, read_archive
from segp_ext.clip.weight_names import with_open_clips_names
from segp_ext.runtime import git_lfs
from segp_ext.runtime.progress import first_line

_POSITIONS = {
    "visual.positional_embedding": ("images of another size", 0),
    "positional_embedding": ("texts of another length", 0),
    "text.positional_embedding": ("texts of another length", 0),
}
"""Embeddings per place: what another number of places is for, and the axis that counts them. open_clip would stretch them silently."""
_WRAPPERS = ("state_dict", "model")
"""Names under which training scripts keep the weights beside other things."""


def needs_quick_gelu(path: Path) -> bool | None:
    """Whether a file's weights were trained with QuickGELU; None if that is not known.

    OpenAI's archives were. For a file of transformers, the `config.json` beside it tells.
    """
    if is_archive(path):
        return True
    try:
        settings = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
        if settings["model_type"] != "clip":
            return None
        towers = [settings.get(key) or {} for key in ("text_config", "vision_config")]
        return any(tower.get("hidden_act", "quick_gelu") == "quick_gelu" for tower in towers)  # transformers' default
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return None


def load_file(clip: torch.nn.Module, name: str, path: Path) -> None:
    """Loads a weights file into a model.

    Args:
        clip: an open_clip model; changed in place.
        name: the model's name, for messages.
        path: the file.

    Raises:
        ValueError: for a file that is damaged, holds no weights, or holds another model's.
    """
    from open_clip.factory import load_checkpoint

    archive = is_archive(path)
    try:
        if path.suffix in (".npz", ".npy"):
            load_checkpoint(clip, str(path))
            return
        state = read_archive(path) if archive else _read_state(path)
    except Exception as error:  # damaged files fail in more ways than can be listed
        # torch's own message for a pickle that it refuses advises to read it unsafely.
        refused = isinstance(error, pickle.UnpicklingError) and not archive
        reason = "it does not hold tensors alone" if refused else first_line(error)
        raise ValueError(
            f"could not read {str(path)!r} as weights of {name}: {reason}. Is the file whole, and a checkpoint?{git_lfs.hint_for(path)}"
        ) from error
    try:
        state = with_open_clips_names(state)
        fits = _why_not(clip, state)
    except (RuntimeError, ValueError) as error:
        fits = first_line(error)
    if fits is not None:
        raise ValueError(f"the weights {str(path)!r} do not fit {name}: {fits}")
    try:
        _load_state(clip, state)
    except Exception as error:
        lines = [_cut(line.strip()) for line in str(error).splitlines() if line.strip()]
        shown = (
            "; ".join(lines[1:4]).rstrip(".") + ("; ..." if len(lines) > 4 else "")
            if len(lines) > 1
            else first_line(error)
        )
        raise ValueError(f"the weights {str(path)!r} do not fit {name}: {shown}. Are they another model's?") from error


def _cut(line: str) -> str:
    """Shortens a line of `load_state_dict`'s complaint, which names every tensor, to the first three names."""
    head, colon, names = line.partition("state_dict: ")
    listed = names.rstrip(". ").split(", ")
    return line if len(listed) <= 3 else f"{head}{colon}{', '.join(listed[:3])} and {len(listed) - 3} more"


def _load_state(clip: Any, state: dict[str, Tensor]) -> None:
    """Loads a state dict as open_clip loads a file's, except that nothing is stretched."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    state = convert_state_dict(clip, state)
    if "positional_embedding" in state and not hasattr(clip, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    state.pop("text.transformer.embeddings.position_ids", None)  # older versions of transformers saved it
    if getattr(clip, "logit_bias", None) is not None:
        state.setdefault("logit_bias", torch.zeros_like(clip.logit_bias))
    own = clip.state_dict()
    for key, tensor in state.items():
        if key in own and own[key].is_floating_point() and not tensor.is_floating_point():
            raise ValueError(f"{key} is {tensor.dtype}, as quantised weights are; floating-point ones are needed")
    for key in ("logit_scale", "logit_bias"):  # a number, or a vector of one
        if key in state and key in own and state[key].numel() == own[key].numel():
            state[key] = state[key].reshape(own[key].shape)
    clip.load_state_dict(state)


def _why_not(clip: Any, state: dict[str, Tensor]) -> str | None:
    """Says why `state` does not fit where open_clip would not say it: it would load it silently, or fail without a reason."""
    if "logit_bias" in state and getattr(clip, "logit_bias", None) is None:
        return "they have a logit_bias, so they were trained with a sigmoid loss, as SigLIP's; name such a model"
    own = clip.state_dict()
    for key, (what, axis) in _POSITIONS.items():
        if key in state and key in own and state[key].shape[axis] != own[key].shape[axis]:
            return (
                f"they are for {what} ({key} has {state[key].shape[axis]} places, the model's {own[key].shape[axis]}); name the model "
                "that they belong to"
            )
    return None


def _read_state(path: Path) -> dict[str, Tensor]:
    """Reads a state dict's tensors, mapped into memory where the format allows it."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not tensors by name")
    if named := _named(content):
        return named
    within = [key for key, value in content.items() if isinstance(value, dict) and _named(value)]
    if len(within) == 1:
        return _named(content[within[0]])
    if within:
        raise ValueError(
            f"it holds {len(within)} sets of tensors, {', '.join(map(str, within))}; write one of them to a file of its own"
        )
    raise ValueError(f"it holds no tensors by name{f', only {_listed(content)}' if content else ''}")


def _named(content: dict[Any, Any]) -> dict[str, Tensor]:
    """Picks a dict's tensors that have strings as names."""
    return {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}


def _listed(content: dict[Any, Any]) -> str:
    """Lists the first names of a dict's entries."""
    return ", ".join(map(str, list(content)[:5])) + (", ..." if len(content) > 5 else "")
