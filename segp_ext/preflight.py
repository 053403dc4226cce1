"""What can be known before the first task, and would otherwise stop a run only after hours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from segp_ext.anchors import check_folder, check_seeds
from segp_ext.backbone import Backbone
from segp_ext.config import Config, with_method
from segp_ext.data import Scenario
from segp_ext.data.images import labels_of
from segp_ext.learner import check_labels, prompts


def attempts(config: Config, scenario: Scenario, backbone: Backbone) -> Iterator[Callable[[], object]]:
    """Yields checks of a run's settings against its data and model; each raises ValueError or OSError if the run cannot do well."""
    anchors = with_method(config).anchors
    yield partial(check_folder, anchors)
    yield partial(backbone.layers_to_adapt, config.lora)
    yield partial(prompts, backbone, config.template, scenario.class_names)
    for number, task in enumerate(scenario.tasks, start=1):
        yield partial(check_labels, labels_of(task.train), task.class_names, config.min_images_per_class)
        yield partial(check_seeds, len(task.train), number, anchors)
