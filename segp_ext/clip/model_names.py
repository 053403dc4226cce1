"""What models and their weights are called: in settings, in checkpoints, and in messages."""

from __future__ import annotations

import difflib
from pathlib import Path

OWN = "own"
"""What results and checkpoints call weights that come with the model's name."""
LOCAL = "local-dir:"
"""How the name of a model in a folder begins."""
HUB = "hf-hub:"
"""How the name of a model on the Hugging Face hub begins."""


def brings_weights(name: str) -> bool:
    """Whether a model of this name comes with its weights, so that `model.pretrained` names none."""
    return name == "glyph" or name.startswith((HUB, LOCAL))


def names_file(pretrained: str) -> bool:
    """Whether weights are meant as a file, there or not, rather than by a tag."""
    return "/" in pretrained or bool(Path(pretrained).suffix) or Path(pretrained).is_file()


def model_in_words(name: str, pretrained: str | None) -> str:
    """Names a model and its weights as reports and messages do: "ViT-B-16 with the weights openai"."""
    if pretrained is None:
        return f"{name} with random weights"
    if brings_weights(name):
        return f"{name} with its own weights"
    return f"{name} with the weights{' file' if names_file(pretrained) else ''} {pretrained}"


def known_tag(name: str, pretrained: str | None) -> str | None:
    """Checks a model's name and the tag of its weights; returns the tag as open_clip writes it.

    Args:
        name: a model name; open_clip must know it.
        pretrained: a tag, or None if no tag is to be checked.

    Raises:
        FileNotFoundError: if `pretrained` is no tag and looks like a file.
        ValueError: if open_clip knows no such name or tag.
    """
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


def check_loadable(name: str, pretrained: str | None, place: str | None) -> None:
    """Refuses a model's name or a tag of weights that `load_clip` does not know; local weights may lie elsewhere when they are read.

    Args:
        name: the model's name.
        pretrained: tag or file of its weights.
        place: path of the local file or folder that they were read from, or None.

    Raises:
        FileNotFoundError, ValueError: as `known_tag` does.
    """
    if not brings_weights(name):
        local = place is not None or (pretrained is not None and names_file(pretrained))
        known_tag(name, None if local else pretrained)
