"""Tests the labels of a folder before it is learnt: likely wrong ones, and images that are there twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from segp_ext.clip.backbone import Backbone
from segp_ext.config import MethodConfig
from segp_ext.data.duplicates import Pair, digests, duplicates, groups, thumbnails
from segp_ext.data.labelled_folder import LabelledFolder
from segp_ext.method.answers import NOT_FINITE
from segp_ext.method.confident_learning import Suspect, classes_to_test, held_out_probabilities, suspects_of
from segp_ext.report.suspect_rows import Kind, SuspectRow
from segp_ext.run.readable_files import file_reader, read_files


class Encoded(NamedTuple):
    """Images of a folder as a model sees them.

    Attributes:
        places: Places of the images in the folder's list.
        features: Raw features float32 `[N, D]`.
        digests: Hash of each image's pixels.
        thumbnails: Small pictures `[N, 256]`.
    """

    places: list[int]
    features: Tensor
    digests: list[bytes]
    thumbnails: Tensor


@dataclass
class Suspects:
    """What the test of a folder's labels found.

    Attributes:
        images: Number of images that were read.
        agreement: Share of the tested images whose best class, by a classifier that has not seen them, is the given one. A low one
            means that the features do not tell the classes apart, and suspects are mostly right labels.
        rows: What is suspect, in the order in which it is shown: likely wrong labels first, then images that are there twice.
        untested: Names of the classes with too few images to test their labels.
        unread: Images that could not be read, each with the reason, by name within the folder.
    """

    images: int
    agreement: float
    rows: list[SuspectRow] = field(default_factory=list)
    untested: list[str] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)


@torch.no_grad()
def encode_folder(
    backbone: Backbone, config: MethodConfig, folder: LabelledFolder, batch_size: int | None, workers: int | None
) -> tuple[Encoded, dict[str, str]]:
    """Encodes a folder's images, batch by batch. Features and thumbnails of all of them are kept.

    Args:
        backbone: The model.
        config: The learner's settings.
        folder: The images.
        batch_size: Images encoded together; the learner's setting if None.
        workers: Processes that decode ahead of the model; the learner's setting if None.

    Returns:
        The images that could be read, and the reason for each of the others, by name within the folder.

    Raises:
        ChildProcessError: If a worker process ends.
        ValueError: If no image can be read.
    """
    reader = file_reader(backbone, config.loading, workers)
    size = config.inference.batch_size if batch_size is None else batch_size
    places: list[int] = []
    features, small, hashes = [], [], []
    unread = dict.fromkeys(folder.missing, "no file, or a link to none")
    for batch in read_files(folder.files, reader, size, "encoding"):
        unread |= {folder.inside(folder.files[place]): why for place, why in batch.errors.items()}
        if batch.pixels is None:
            continue
        feature = backbone.encode_image(backbone.to_unit(batch.pixels))[1].float().cpu()
        sound = feature.isfinite().all(dim=1)
        for place, fits in zip(batch.places, sound.tolist(), strict=True):
            if fits:
                places.append(place)
            else:
                unread[folder.inside(folder.files[place])] = f"its scores {NOT_FINITE}"
        features.append(feature[sound])
        small.append(thumbnails(batch.pixels[sound]))
        hashes += digests(batch.pixels[sound])
    if not places:
        first = next(iter(unread.values()), "")
        raise ValueError(f"no image in {folder.base} could be read; the first: {first}")
    return Encoded(places, torch.cat(features), hashes, torch.cat(small)), unread


def find_suspects(
    backbone: Backbone,
    config: MethodConfig,
    folder: LabelledFolder,
    batch_size: int | None = None,
    workers: int | None = None,
) -> Suspects:
    """Tests the labels of a folder.

    Args:
        backbone: The model whose features are used; the pre-trained one, which no label of the folder has changed.
        config: As for `encode_folder`.
        folder: The images with their labels, of two classes at least.
        batch_size: As for `encode_folder`.
        workers: As for `encode_folder`.

    Raises:
        ChildProcessError: If a worker process ends.
        ValueError: If the folder has one class, or no image can be read.
    """
    if len(folder.folders) < 2:
        raise ValueError(
            f"labels are tested against each other, so two classes are needed; {folder.base} has {len(folder.folders)}"
        )
    encoded, unread = encode_folder(backbone, config, folder, batch_size, workers)
    pairs = duplicates(encoded.digests, encoded.thumbnails, encoded.features)
    label = np.array([folder.label[place] for place in encoded.places], dtype=np.int64)
    wrong, tested, agreement = wrong_labels(encoded.features.numpy(), label, groups(len(label), pairs))
    files = [folder.inside(folder.files[place]) for place in encoded.places]
    rows = [
        SuspectRow("label", files[one.image], folder.names[one.given], folder.names[one.likely], one.score)
        for one in wrong
    ]
    rows += _pair_rows(pairs, files, [folder.names[own] for own in label])
    untested = [name for place, name in enumerate(folder.names) if place not in tested]
    return Suspects(len(label), agreement, rows, untested, unread)


def wrong_labels(features: np.ndarray, label: np.ndarray, group: np.ndarray) -> tuple[list[Suspect], list[int], float]:
    """Finds likely wrong labels among the classes that can be tested.

    Args:
        features: Features of the images `[N, D]`.
        label: Class of each image, int64 `[N]`.
        group: Group of images that look the same, int64 `[N]`.

    Returns:
        The suspects, images and classes as in the arguments; the classes that were tested; `Suspects.agreement`, 1 if none was.
    """
    tested = classes_to_test(label, group)
    if len(tested) < 2:
        return [], [], 1.0
    chosen = np.flatnonzero(np.isin(label, tested))
    own = np.searchsorted(tested, label[chosen])
    probabilities = held_out_probabilities(features[chosen], own, group[chosen])
    found = suspects_of(probabilities, own)
    wrong = [Suspect(int(chosen[s.image]), tested[s.given], tested[s.likely], s.score) for s in found]
    return wrong, tested, float((probabilities.argmax(axis=1) == own).mean())


def _pair_rows(pairs: list[Pair], files: list[str], names: list[str]) -> list[SuspectRow]:
    """Makes rows of pairs: those of two classes first, whose labels contradict each other, then those of one."""
    rows = []
    for pair in pairs:
        one, other = names[pair.first], names[pair.second]
        kind: Kind = "same pixels" if pair.same_pixels else "near duplicate"
        likely = one if one != other else ""
        rows.append(SuspectRow(kind, files[pair.second], other, likely, pair.likeness, files[pair.first]))
    return sorted(rows, key=lambda row: (not row.likely, row.kind != "same pixels", -row.score, row.file))
