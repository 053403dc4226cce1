"""Prompts of a data set's classes: a list from the settings, a published list, or sentences of each class from a JSON file."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from segp_ext.clip.wording import Wording, check_wording
from segp_ext.config import DataConfig
from segp_ext.data.class_names import composed
from segp_ext.data.files import named_file, read_json
from segp_ext.data.messages import several


@cache
def clip_lists() -> dict[str, list[str]]:
    """Returns the prompts that CLIP's authors averaged for each data set, by `data.name` (data/prompts.md in github.com/openai/CLIP)."""
    text = importlib.resources.files("segp_ext.data").joinpath("prompt_lists.json").read_text(encoding="utf-8")
    return json.loads(text)


def prompt_list(prompts: str | list[str] | None, data: str) -> list[str]:
    """Returns the prompts that `data.prompts` names; none for null.

    Args:
        prompts: the setting.
        data: `data.name` of the data set.

    Raises:
        ValueError: if CLIP's authors published no list for the data set.
    """
    if not isinstance(prompts, str):
        return prompts or []
    if prompts == "clip":
        if data not in clip_lists():
            raise ValueError(
                f"data.prompts clip is for the data sets {', '.join(clip_lists())}; got data.name {data}. Give a list, or imagenet"
            )
        return clip_lists()[data]
    import open_clip

    lists = {"imagenet": open_clip.OPENAI_IMAGENET_TEMPLATES, "imagenet-simple": open_clip.SIMPLE_IMAGENET_TEMPLATES}
    return [write("{}") for write in lists[prompts]]


def wordings(config: DataConfig, class_names: Sequence[str]) -> dict[str, Wording]:
    """Returns the wordings of a data set's classes by name; only of classes that have prompts of their own.

    Raises:
        FileNotFoundError: without the file of `data.descriptions`.
        ValueError: naming what is wrong with the prompts or the file.
    """
    prompts = prompt_list(config.prompts, config.name)
    found = {name: Wording(prompts=prompts) for name in class_names} if prompts else {}
    if config.descriptions is not None:
        base = Path(config.root or ".")
        found |= described("data.descriptions", config.descriptions, base, class_names)
    return found


def described(setting: str, file: str, base: Path, class_names: Sequence[str]) -> dict[str, Wording]:
    """Reads sentences of classes from a JSON file, {"name": ["sentence", ...]}.

    Args:
        setting: the setting or option that names the file, for messages.
        file: the file, from the working directory or else from `base`.
        base: folder of the images.
        class_names: names of the classes.

    Returns:
        The wordings of the classes that the file has.

    Raises:
        FileNotFoundError: without the file.
        ValueError: naming what is wrong with it.
    """
    path = named_file(setting, file, base)
    try:
        given = read_json(path)
    except ValueError as error:
        raise ValueError(f"{setting}: {error}") from error
    try:
        return _described(given, class_names)
    except ValueError as error:
        raise ValueError(f"{setting}: {path}: {error}") from error


def _described(given: Any, class_names: Sequence[str]) -> dict[str, Wording]:
    if not isinstance(given, dict):
        raise ValueError(
            f'it must hold sentences by class name, {{"name": ["sentence", ...]}}; it holds a {type(given).__name__}'
        )
    named = {composed(name): name for name in class_names}
    unknown = [name for name in given if composed(name) not in named]
    if unknown:
        raise ValueError(f"no class is named {several(unknown)}; the classes are {several(class_names)}")
    found = {}
    for key, sentences in given.items():
        if not isinstance(sentences, list) or not sentences:
            raise ValueError(f"class {key!r} must have a list of one sentence or more; got {sentences!r:.80}")
        if named[composed(key)] in found:
            raise ValueError(f"class {key!r} stands there twice, in two ways to write its letters")
        found[named[composed(key)]] = own = Wording(prompts=sentences)
        check_wording(key, own)
    return found
