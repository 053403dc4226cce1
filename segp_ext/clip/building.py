"""Models as open_clip builds them, with their tokenizers: the built-in one, published ones, and ones that a folder or the hub describes."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from segp_ext.clip.description import read_description
from segp_ext.clip.hub import asking_nobody, asking_once
from segp_ext.clip.model_names import HUB, LOCAL
from segp_ext.clip.preprocessing import published_preprocessing
from segp_ext.clip.weights_file import load_file, needs_quick_gelu
from segp_ext.runtime.memory import free_memory
from segp_ext.runtime.process_state import float32_by_default, seeded
from segp_ext.runtime.progress import first_line


def build_glyph(weights: bool) -> tuple[Any, Any]:
    """Builds the built-in model, with its weights or random ones; returns it and its tokenizer."""
    from segp_ext.clip import glyph

    with _repeatable(), torch.device("cpu"):
        return glyph.build(weights)


def build_published(
    name: str, pretrained: str | None, file: Path | None, quick_gelu: bool | None
) -> tuple[Any, Any, bool]:
    """Builds a model that open_clip knows by name.

    Args:
        name: the model's name.
        pretrained: tag or file of its weights; None for random ones.
        file: the same file's path, or None where the weights are no file.
        quick_gelu: whether the activation is QuickGELU; None takes what the weights or else the name say.

    Returns:
        The model, its tokenizer, and whether its activation is QuickGELU.

    Raises:
        ValueError: if the model, its weights or its tokenizer cannot be had, or do not fit together.
    """
    import open_clip

    # Weights trained with QuickGELU need it; their tag says so, and some files do.
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
    with asking_once(bool(tag.get("hf_hub") or text.get("hf_tokenizer_name") or text.get("hf_model_name"))):
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


def build_described(name: str, weights: bool) -> tuple[Any, Any, dict[str, Any]]:
    """Builds a model that a folder or the hub describes.

    Args:
        name: `local-dir:FOLDER` or `hf-hub:ORG/NAME`.
        weights: whether to load its weights; else they are random.

    Returns:
        The model, its tokenizer, and open_clip's configuration of the model.

    Raises:
        ValueError: if the description, the weights or the tokenizer cannot be had or used, or the model does not fit into memory.
    """
    prefix = LOCAL if name.startswith(LOCAL) else HUB
    place = name.removeprefix(prefix)
    if prefix == LOCAL:
        place = os.path.expanduser(place)
    with asking_once(prefix == HUB):
        try:
            model = read_description(prefix, place)
            tower = model.get("text_cfg", {}).get("hf_model_name")
            with asking_once(tower is not None and not Path(str(tower)).is_dir()):
                clip = _described_model(f"{prefix}{place}", weights)
        except Exception as error:
            what = (
                "The folder needs an open_clip_config.json that describes the model, and its weights."
                if prefix == LOCAL
                else "Without a network the model must be in the local Hugging Face cache; local-dir:FOLDER takes it from a folder."
            )
            raise ValueError(f"model.name: could not load {name}: {first_line(error)}\n{what}") from error
        # Without this a configuration could have the tokenizer's own code downloaded and run.
        uses_hugging_face = bool(model.get("text_cfg", {}).get("hf_tokenizer_name"))
        tokenizer = _tokenizer(f"{prefix}{place}", **({"trust_remote_code": False} if uses_hugging_face else {}))
        return clip, tokenizer, model


def _described_model(name: str, weights: bool) -> Any:
    """Builds the model itself; raises ValueError if it is larger than the free memory."""
    import open_clip

    settings: dict[str, Any] = {"pretrained_text": False, "precision": "fp32"}
    with _repeatable(), asking_nobody(), torch.device("meta"):
        empty = open_clip.create_model(name, load_weights=False, device="meta", **settings)
    size = sum(4 * parameter.numel() for parameter in empty.parameters())
    free = free_memory()
    if size > free:
        raise ValueError(f"it describes a model of {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")
    with _repeatable(), asking_nobody(), torch.device("cpu"):
        return open_clip.create_model(name, load_weights=weights, require_pretrained=weights, **settings)


def _check_activation(name: str, pretrained: str, quick: bool | None, own: bool) -> None:
    """Warns or raises if weights were trained with another activation than the model of this name has.

    Args:
        name: the model's name.
        pretrained: tag or file of the weights.
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
        stacklevel=5,  # the caller of load_clip
    )


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
    """Makes random weights inside always the same, so that a checkpoint can be loaded again, and all weights float32.

    open_clip is kept from warning that weights are random, and from logging the errors that it raises.
    """
    # `seeded` lets one thread in at a time, as the logger is the whole process's too.
    with seeded(0), float32_by_default():
        root = logging.getLogger()
        level = root.level
        root.setLevel(max(level, logging.CRITICAL))
        try:
            yield
        finally:
            root.setLevel(level)
