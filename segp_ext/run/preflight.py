"""What can be known before the first task, and would otherwise stop a run only after hours."""

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
from segp_ext.method.parts import source_of
from segp_ext.runtime.progress import progress

_CODE = re.compile(
    r"[\W\d_]*\d[\W\d_]*"  # numbers
    r"|[a-z]"
    r"|n\d{8}"  # ImageNet's
    r"|(class|category|label|folder|id|index|group|type|species|object|sign)[\W_]*([a-z]|\d+)"
    r"|(?=.*\d)[0-9a-f][0-9a-f-]{7,}",  # hashes
    re.IGNORECASE,
)
_NUMBERED = re.compile(r"[a-z][\W_]?\d+", re.IGNORECASE)


def codes(names: Sequence[str]) -> list[str]:
    """Those of a data set's class names that are numbers, letters or codes, of which a text encoder knows next to nothing.

    A letter and a number (c0, c1, D02) is a code where several names are of this form.
    """
    numbered = [name for name in names if _NUMBERED.fullmatch(name.strip())]
    return [name for name in names if _CODE.fullmatch(name.strip()) or (len(numbered) > 1 and name in numbered)]


def doubts(config: Config, names: Sequence[str], source: str = "") -> str | None:
    """What is to be said of class names that mean nothing to the model at first; None if all mean something, or its weights are random.

    Args:
        config: of the run.
        names: of a data set's classes.
        source: name of the data set, if it is held out.
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
    """The data sets that are never trained on, by name.

    Raises:
        ValueError: naming the data set, if it cannot be used or its prompts cannot be told apart or do not fit.
    """
    found = held_out(config.held_out, config.data.unreadable)
    for name, scenario in found.items():
        try:
            prompts(backbone, config.template, scenario.class_names)
        except ValueError as error:
            raise ValueError(f"held_out: {name}: {error}") from error
    return found


def attempts(config: Config, scenario: Scenario, backbone: Backbone) -> Iterator[Callable[[], object]]:
    """Yields checks of a run's settings against its data and model; each raises ValueError or OSError if the run cannot do well."""
    method = with_method(config)
    anchors = method.anchors
    if method.uses_anchors:
        yield partial(check_folder, anchors)
        source = source_of(method)
        if source is not None:
            yield partial(source(anchors).check_data, sum(len(task.class_names) for task in scenario.tasks[:-1]))
    if method.training.epochs > 0:
        yield partial(backbone.layers_to_adapt, config.lora)
    yield partial(prompts, backbone, config.template, scenario.class_names)
    if config.loading.resize == "device":
        yield partial(_check_sizes, scenario)
    for task in scenario.tasks:
        yield partial(check_labels, labels_of(task.train), task.class_names, config.min_images_per_class)


def _check_sizes(scenario: Scenario) -> None:
    """Refuses image files of several sizes, from their headers; what cannot be opened is named when it is read."""
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
