"""Finds the backbone that a saved learner stands on, wherever its weights are now, and loads it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from segp_ext.clip.backbone import Backbone
from segp_ext.clip.description import ARCHITECTURE
from segp_ext.clip.model_names import LOCAL, OWN, brings_weights, model_in_words, names_file
from segp_ext.clip.own_files import WEIGHTS, load_own
from segp_ext.clip.pretrained import load_clip
from segp_ext.storage.checkpoint import BackboneFacts, SavedLearner

WEIGHTS_VARIABLE = "SEGP_EXT_WEIGHTS"
"""Environment variable for learners whose weights were moved: a file or folder of weights, or the folder that holds it."""


def load_backbone(
    saved: SavedLearner, device: str, pretrained: str | None, compile: bool
) -> tuple[Backbone, str | None]:
    """Loads the backbone of a saved learner.

    Args:
        saved: what the checkpoint says.
        device: a torch device, as `load_clip` takes it.
        pretrained: where the weights are: a file, a folder or a tag. None looks in the checkpoint, and then in every possible place.
        compile: compile the encoders with `torch.compile`.

    Returns:
        The backbone, and where its weights were: a path or a tag, "own" for a model that brings them, None for random weights.

    Raises:
        FileNotFoundError: if the weights are nowhere; says where they were looked for.
        ValueError: if other weights are there.
    """
    facts = saved.backbone
    settings: Any = {"resize_mode": facts.resize_mode, "precision": facts.precision, "compile": compile}
    if pretrained is None and WEIGHTS in saved.files:
        backbone = load_own(saved.path, facts.name, facts.pretrained, facts.others, device, **settings)
        backbone.quick_gelu, backbone.place = facts.quick_gelu, facts.place
        saved.check_weights(backbone)
        return backbone, str(saved.path / WEIGHTS)
    is_folder = facts.name.startswith(LOCAL)
    found = _sources(saved, is_folder) if pretrained is None else [pretrained]
    for number, source in enumerate(found, start=1):
        arguments = (f"{LOCAL}{source}", OWN) if is_folder else (facts.name, source)
        backbone = load_clip(*arguments, device, **settings, quick_gelu=facts.quick_gelu)
        try:
            saved.check_weights(backbone)
            return backbone, backbone.pretrained if brings_weights(facts.name) and not is_folder else source
        except ValueError:
            if number == len(found):
                raise
    raise AssertionError("there is a source or an error")


def _sources(saved: SavedLearner, is_folder: bool) -> list[str | None]:
    """The tags, files or folders from which the weights can be loaded, the likeliest first.

    Args:
        saved: what the checkpoint says.
        is_folder: whether the model is one of a folder.

    Raises:
        FileNotFoundError: if local weights are in none of their possible places.
    """
    facts = saved.backbone
    is_file = facts.pretrained not in (None, OWN) and names_file(str(facts.pretrained))
    if facts.place is None and not is_folder and not is_file:
        return [facts.pretrained]
    places = list(dict.fromkeys(place.absolute() for place in _possible_places(facts, saved.path)))
    # A folder of the same name may be anything, and is often the checkpoint itself.
    found: list[str | None] = [
        str(place) for place in places if ((place / ARCHITECTURE).is_file() if is_folder else place.is_file())
    ]
    if not found:
        raise FileNotFoundError(
            f"the checkpoint {saved.path} stands on {model_in_words(facts.name, facts.pretrained)}, which is not there. "
            f"Looked for: {', '.join(map(str, places))}. Put them beside the checkpoint, or say where they are: SeGPCL.load(..., "
            f"pretrained=PLACE), --pretrained PLACE of segp_ext.predict, or the environment variable {WEIGHTS_VARIABLE}"
        )
    return found


def _possible_places(facts: BackboneFacts, path: Path) -> Iterator[Path]:
    """Yields where the local weights of a learner saved in `path` may lie now, the likeliest place first."""
    given = facts.name.removeprefix(LOCAL) if facts.name.startswith(LOCAL) else facts.pretrained or ""
    recorded = Path(facts.place or given)
    named = recorded.name
    own = os.environ.get(WEIGHTS_VARIABLE)
    if own:
        yield from (Path(os.path.expanduser(own)) / named, Path(os.path.expanduser(own)))
    yield from (path / named, path.parent / named, recorded, Path(os.path.expanduser(given)))
    yield Path(torch.hub.get_dir()) / "checkpoints" / named
    # Path.expanduser fails for a user without a home folder, as in containers.
    yield Path(os.path.expanduser("~/.cache/clip")) / named
