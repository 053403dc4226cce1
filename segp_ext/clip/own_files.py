"""The files from which a backbone can be made again without its source: what a learner's folder holds when it is saved with weights."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from segp_ext.clip.backbone import Backbone
from segp_ext.clip.building import build_described, build_glyph
from segp_ext.clip.description import ARCHITECTURE
from segp_ext.clip.model_names import LOCAL
from segp_ext.runtime.device import usable_device
from segp_ext.runtime.forked import one_thread_if_forked
from segp_ext.runtime.progress import first_line

WEIGHTS = "backbone.safetensors"
"""Name of the file of weights. Beside it lie the model's description (`ARCHITECTURE`) and its tokenizer's files, where there are any."""


def own_files(backbone: Backbone) -> dict[str, bytes]:
    """Writes a backbone to files for `load_own`: its weights, architecture, preprocessing and Hugging Face tokenizer.

    Returns:
        The files' contents by name.

    Raises:
        ValueError: for a model or tokenizer that open_clip did not make.
    """
    import open_clip
    from safetensors.torch import save

    files = {WEIGHTS: save({name: tensor.cpu().contiguous().clone() for name, tensor in backbone.weights().items()})}
    if backbone.name == "glyph":
        return files
    preprocessing = open_clip.get_model_preprocess_cfg(backbone.clip)
    content = {"model_cfg": known_architecture(backbone, "with_weights"), "preprocess_cfg": preprocessing}
    files[ARCHITECTURE] = json.dumps(content, indent=1).encode()
    return files | tokenizer_files(backbone)


def known_architecture(backbone: Backbone, asks: str) -> dict[str, Any]:
    """Returns open_clip's configuration of a backbone's model, other than the built-in one.

    Args:
        backbone: the model.
        asks: what needs the configuration, as an error begins.

    Raises:
        ValueError: for a model or tokenizer that open_clip did not make.
    """
    import open_clip
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
    from open_clip.transformer import QuickGELU

    known = backbone.architecture or open_clip.get_model_config(backbone.name)
    if known is None or not isinstance(backbone.tokenizer, (SimpleTokenizer, HFTokenizer)):
        raise ValueError(
            f"{asks}: {backbone.name} with a {type(backbone.tokenizer).__name__} is no model of open_clip's, and could not be made again"
        )
    architecture = {**known}
    if any(isinstance(module, QuickGELU) for module in backbone.clip.modules()):
        architecture["quick_gelu"] = True  # as the weights' tag or archive had it
    return architecture


def tokenizer_files(backbone: Backbone) -> dict[str, bytes]:
    """Writes a backbone's Hugging Face tokenizer; returns the contents by name, none for another tokenizer."""
    from open_clip.tokenizer import HFTokenizer

    if not isinstance(backbone.tokenizer, HFTokenizer):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        backbone.tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


@torch.inference_mode(False)
def load_own(folder: Path, name: str, pretrained: str | None, others: bool, device: str, **settings: Any) -> Backbone:
    """Makes a backbone from the files that `own_files` wrote.

    Args:
        folder: the folder that holds the files.
        name, pretrained: what the backbone and its weights are called.
        others: whether the weights differ from the weights that `name` and `pretrained` name.
        device: a torch device, as `load_clip` takes it.
        settings: further arguments of `Backbone`.

    Raises:
        ValueError: if the files do not fit together.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    one_thread_if_forked()
    chosen = usable_device(device)
    if name == "glyph":
        architecture = None
        clip, tokenizer = build_glyph(False)
    else:
        clip, tokenizer, architecture = build_described(f"{LOCAL}{folder}", False)
    try:
        backbone = Backbone(clip, tokenizer, name, pretrained, **settings)
        backbone.load_weights(load_file(folder / WEIGHTS), others)
    except (AssertionError, RuntimeError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(f"{folder / WEIGHTS} cannot be used: {first_line(error)}") from error
    backbone.architecture = architecture
    return backbone.to(chosen)
