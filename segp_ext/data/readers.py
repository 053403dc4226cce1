"""Lists the readers of all benchmarks by their names."""

from __future__ import annotations

from collections.abc import Callable

from segp_ext.config import DataConfig
from segp_ext.data import benchmarks, class_folder_sets, matlab_list_sets, mnist, text_list_sets
from segp_ext.data.scenario import Collection

READERS: dict[str, Callable[[DataConfig], Collection]] = {
    "cifar100": benchmarks.cifar100,
    "imagenet-r": benchmarks.imagenet_r,
    "imagenet100": benchmarks.imagenet100,
    "cub200": benchmarks.cub200,
    "ucf101": benchmarks.ucf101,
    "aircraft": text_list_sets.aircraft,
    "caltech101": class_folder_sets.caltech101,
    "dtd": text_list_sets.dtd,
    "eurosat": class_folder_sets.eurosat,
    "flowers102": matlab_list_sets.flowers102,
    "food101": text_list_sets.food101,
    "mnist": mnist.mnist,
    "oxford-pets": text_list_sets.oxford_pets,
    "stanford-cars": matlab_list_sets.stanford_cars,
    "sun397": class_folder_sets.sun397,
}
"""The benchmarks by the name in `data.name`."""
