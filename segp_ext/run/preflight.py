"""Checks before the first task: what would otherwise stop a run only after hours, and class names that mean nothing to the model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from segp_ext.clip.backbone import Backbone
from segp_ext.config import Config, with_method
from segp_ext.data import Scenario, held_out
from segp_ext.data.decoding import possible_formats
from segp_ext.data.items import labels_of
from segp_ext.data.messages import several
from segp_ext.method.anchors import check_folder
from segp_ext.method.checks import check_labels, prompts
from segp_ext.method.named_parts import source_of
from segp_ext.runtime.progress import progress

_CODE = re.compile(
    r"[\W\d_]*\d[\W\d_]*"  # numbers
    r"|[a-z]"
    r"|n\d{8}"  # as in ImageNet
    r"|(class|category|label|folder|id|index|group|type|species|object|sign)[\W_]*([a-z]|\d+)"
    r"|(?=.*\d)[0-9a-f][0-9a-f-]{7,}",  # hashes
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"[a-z][\W_]?\d+", re.IGNORECASE)


def codes(names: Sequence[str]) -> list[str]:
    """Returns the class names that are numbers, letters or codes, about which a text encoder knows next to nothing.

    A letter with a number (c0, c1, D02) counts as a code if several names have this form.

    Args:
        names: Names of the classes of a data set.
    """
    numbered = [name for name in names if _NUMBERED.fullmatch(name.strip())]
    return [name for name in names if _CODE.fullmatch(name.strip()) or (len(numbered) > 1 and name in numbered)]


def doubts(config: Config, names: Sequence[str], source: str = "") -> str | None:
    """Returns a note on class names that mean nothing to the pre-trained model; None if all mean something, or the weights are random.

    Args:
        config: Settings of the run.
        names: Names of the classes of a data set.
        source: Name of the data set, if it is held out; else empty.
    """
    if config.model.pretrained is None:
        return None
    whose = f" of {source}" if source else ""
    if config.model.name == "glyph":
        from segp_ext.clip.glyph import GlyphTokenizer

        odd = list(filter(GlyphTokenizer().unknown, names))
        said = (
            f"glyph was trained on digits and letters alone; to it these names{whose} mean nothing at first: {several(odd, 5)}. For "
            "photographs, --config clip takes a real CLIP."
        )
    else:
        odd = codes(names)
        remedy = "name its class folders in words" if source else "--data.names_file gives names in words"
        said = (
            f"{len(odd)} of {len(names)} class names{whose} are numbers or codes, which mean little to a text encoder: {several(odd, 5)}. "
            f"Zero-shot accuracy, FWT and the text path rest on names; {remedy}."
        )
    return said if odd else None


def held_out_sets(config: Config, backbone: Backbone) -> dict[str, Scenario]:
    """Loads the data sets that are never trained on.

    Args:
        config: Settings of the run.
        backbone: Model of the run, whose tokenizer the prompts must fit.

    Returns:
        The data sets by name, each as a scenario of one task.

    Raises:
        ValueError: If a data set cannot be used, or its prompts do not fit or cannot be told apart; names the data set.
    """
    found = held_out(config.held_out, config.data.unreadable)
    for name, scenario in found.items():
        try:
            prompts(backbone, config.template, scenario.class_names)
        except ValueError as error:
            raise ValueError(f"held_out: {name}: {error}") from error
    return found


def attempts(config: Config, scenario: Scenario, backbone: Backbone) -> Iterator[Callable[[], object]]:
    """Yields checks of settings against data and model; a check raises ValueError or OSError if the run cannot go well.

    Args:
        config: Settings of the run.
        scenario: Tasks of the run.
        backbone: Model of the run.
    """
    method = with_method(config)
    anchors = method.anchors
    if method.uses_anchors:
        yield partial(check_folder, anchors)
        source = source_of(method)
        if source is not None:
            yield partial(source(anchors).check_data, sum(len(task.class_names) for task in scenario.tasks[:-1]))
    if method.training.epochs > 0:
        yield partial(backbone.layers_to_adapt, config.lora)
    yield partial(prompts, backbone, config.template, scenario.class_names, scenario.wording)
    if config.loading.resize == "device":
        yield partial(_check_sizes, scenario)
    for task in scenario.tasks:
        yield partial(
            check_labels, labels_of(task.train), task.class_names, [config.min_images_per_class] * len(task.class_names)
        )


def _check_sizes(scenario: Scenario) -> None:
    """Checks that all image files have one size, by their headers. A file that cannot be opened is left to the reader, which names it.

    Raises:
        ValueError: If two sizes differ; names both files.
    """
    first: tuple[Path, tuple[int, int]] | None = None
    files = [
        source for task in scenario.tasks for part in (task.train, task.test) for source in getattr(part, "sources", ())
    ]
    for file in progress(files, "sizes of images", len(files)):
        if not isinstance(file, Path):
            return
        try:
            with Image.open(file, formats=possible_formats(file.name)) as image:
                size = image.size
        except (OSError, Image.DecompressionBombError):
            continue
        first = first or (file, size)
        if size != first[1]:
            raise ValueError(
                f"loading.resize device needs images of one size; {first[0]} has {first[1][0]}×{first[1][1]} pixels, {file} "
                f"{size[0]}×{size[1]}; use --loading.resize exact"
            )
