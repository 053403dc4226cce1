"""What can be known before the first task, and would otherwise stop a run only after hours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from PIL import Image

from segp_ext.anchors import check_folder, check_reference
from segp_ext.backbone import Backbone
from segp_ext.config import Config, with_method
from segp_ext.data import Scenario, named_source
from segp_ext.data.images import labels_of, possible_formats
from segp_ext.learner import check_labels, prompts
from segp_ext.progress import progress


def attempts(config: Config, scenario: Scenario, backbone: Backbone) -> Iterator[Callable[[], object]]:
    """Yields checks of a run's settings against its data and model; each raises ValueError or OSError if the run cannot do well."""
    method = with_method(config)
    anchors = method.anchors
    if method.uses_anchors:
        yield partial(check_folder, anchors)
        if anchors.kind == "reference" and anchors.reference is not None:
            yield partial(_check_reference, anchors.reference, scenario)
    if method.training.epochs > 0:
        yield partial(backbone.layers_to_adapt, config.lora)
    yield partial(prompts, backbone, config.template, scenario.class_names)
    if config.loading.resize == "device":
        yield partial(_check_sizes, scenario)
    for task in scenario.tasks:
        yield partial(check_labels, labels_of(task.train), task.class_names, config.min_images_per_class)


def _check_reference(source: str, scenario: Scenario) -> None:
    """Refuses reference images that cannot be read, or that the last task will find too few."""
    classes = sum(len(task.class_names) for task in scenario.tasks[:-1])
    check_reference(len(named_source("anchors.reference", source).tasks[0].train), classes)


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
