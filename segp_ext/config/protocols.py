"""Named protocols: the measurements of the paper and its peers, as settings.

A protocol fixes the data sets, the class order and the tasks. It also fixes class names, prompt, weights, transform and the images of the
evaluation. Every other setting belongs to the method. A comment says "ours" where the authors behind a protocol's name state nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_WHOLE = {
    "data.sources": None,
    "data.source_order": None,
    "data.shared_names": "qualified",
    "data.title": None,
    "data.prompts": None,
    "data.descriptions": None,
    "data.setting": "class-incremental",
    "data.max_images_per_class": None,
    "data.shots": None,
    "data.tasks": None,
    "data.evaluate_on": "test",
    "data.class_list": None,
    "data.names_file": None,
    "loading.resize": "exact",
    "model.precision": "fp32",
}
"""Settings of every protocol: all images, CLIP's own preprocessing, full precision."""
_OPENAI = {
    **_WHOLE,
    "model.name": "ViT-B-16-quickgelu",
    "model.pretrained": "openai",
    "model.resize_mode": "shortest",
}
"""CLIP's own weights and preprocessing. The paper does not name its preprocessing; this choice is ours."""
_PAPER = {**_OPENAI, "template": "a photo of a {}."}
_PEERS = {**_OPENAI, "template": "a good photo of a {}."}
"""The prompt of MG-CLIP and RAPF."""
_LAION = {
    **_WHOLE,
    "template": "a good photo of a {}.",  # ours: protocols differ only where the peers are known to differ
    "model.name": "ViT-B-16",
    "model.pretrained": "laion400m_e32",  # they state LAION-400M; the later of open_clip's two epochs is ours
    "model.resize_mode": "squash",
}
"""Weights and preprocessing of C3Box and LAMDA-PILOT: both sides to the input size, ignoring aspect."""


_ORDER_1 = (
    "aircraft", "caltech101", "cifar100", "dtd", "eurosat", "flowers102", "food101", "mnist", "oxford-pets", "stanford-cars", "sun397"
)  # fmt: skip
_ORDER_2 = (
    "stanford-cars", "food101", "mnist", "oxford-pets", "flowers102", "sun397", "aircraft", "caltech101", "dtd", "eurosat", "cifar100"
)  # fmt: skip


def _stream(data_sets: Sequence[str], prompts: str | None, setting: str, shots: int | None = None) -> dict[str, Any]:
    """A stream of data sets with a task each, on CLIP's weights.

    The share held out for testing is ZSCL's, for the data sets without a split of their own; which images it takes is ours. Where CoOp's
    split files are on disk, they decide.
    """
    names = {"mnist": {"names": "folders"}}  # torchvision's names, "0 - zero", as in ZSCL's code
    return {
        **_PAPER,
        "data.name": "auto",
        "data.order": None,
        "data.classes_per_task": 10,  # which no source reads
        "data.names": "spaces",
        "data.test_fraction": 0.2,
        "data.sources": [{"name": name, **names.get(name, {})} for name in data_sets],
        "data.prompts": prompts,
        "data.setting": setting,
        "data.shots": shots,
    }


def _protocol(base: dict[str, Any], data: str, order: int | str, classes_per_task: int, names: str) -> dict[str, Any]:
    # For a flat tree of ImageNet-R without lists. Ours, after the 24,000 and 6,000 images of the published splits.
    share = {"data.test_fraction": 0.2} if data == "imagenet-r" else {}
    return {
        **share,
        "data.name": data,
        "data.order": order,
        "data.classes_per_task": classes_per_task,
        "data.names": names,
        **base,
    }


PROTOCOLS: dict[str, dict[str, Any]] = {
    # The paper: five benchmarks, ten tasks each, OpenAI's weights. It names no class orders. Ours come from MG-CLIP, or from RAPF and
    # C3Box where MG-CLIP has none, as the paper compares with their numbers. Class names as words are ours as well.
    "segp-cifar100": _protocol(_PAPER, "cifar100", "cifar100-icarl", 10, "spaces"),
    "segp-imagenet-r": _protocol(_PAPER, "imagenet-r", "imagenet-r-mgclip", 20, "spaces"),
    "segp-imagenet100": _protocol(_PAPER, "imagenet100", 1993, 10, "spaces"),
    "segp-cub200": _protocol(_PAPER, "cub200", "cub200-rapf", 20, "spaces"),
    "segp-ucf101": _protocol(_PAPER, "ucf101", 1993, 10, "spaces"),
    # MG-CLIP and RAPF keep underscores in class names. (ImageNet's names from open_clip have none.)
    "mgclip-cifar100": _protocol(_PEERS, "cifar100", "cifar100-icarl", 10, "folders"),
    "mgclip-imagenet-r": _protocol(_PEERS, "imagenet-r", "imagenet-r-mgclip", 20, "folders"),
    "mgclip-imagenet100": _protocol(_PEERS, "imagenet100", 1993, 10, "folders"),
    "rapf-cifar100": _protocol(_PEERS, "cifar100", "cifar100-icarl", 10, "folders"),
    "rapf-imagenet-r": _protocol(_PEERS, "imagenet-r", "imagenet-r-rapf", 20, "folders"),
    "rapf-imagenet100": _protocol(_PEERS, "imagenet100", 1993, 10, "folders"),
    "rapf-cub200": _protocol(_PEERS, "cub200", "cub200-rapf", 20, "folders"),
    # C3Box and LAMDA-PILOT: the seeded order everywhere. PILOT states it for ImageNet100, C3Box for UCF101. Class names as words are
    # ours.
    "lamda-cifar100": _protocol(_LAION, "cifar100", 1993, 10, "spaces"),
    "lamda-imagenet-r": _protocol(_LAION, "imagenet-r", 1993, 20, "spaces"),
    "lamda-imagenet100": _protocol(_LAION, "imagenet100", 1993, 10, "spaces"),
    "lamda-cub200": _protocol(_LAION, "cub200", 1993, 20, "spaces"),
    "lamda-ucf101": _protocol(_LAION, "ucf101", 1993, 10, "spaces"),
    # MTIL (ZSCL, arXiv 2303.06628) and its form with 16 images a class (DIKI): the data set of an image is known, and the prompts of CLIP's
    # authors are averaged. Class names are CoOp's (ours).
    "mtil-order1": _stream(_ORDER_1, "clip", "task-known"),
    "mtil-order2": _stream(_ORDER_2, "clip", "task-known"),
    "mtil-fs16-order1": _stream(_ORDER_1, "clip", "task-known", 16),
    "mtil-fs16-order2": _stream(_ORDER_2, "clip", "task-known", 16),
    # X-TAIL (RAIL): without CIFAR100, one prompt, and all class names compete, unseen ones too.
    "x-tail-16": _stream([name for name in _ORDER_1 if name != "cifar100"], None, "global", 16),
}
"""Settings of each protocol by dotted name. Their fields have `protocol=True` (`segp_ext.config.setting`)."""
