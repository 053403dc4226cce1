"""Reads many image files in a stream for a model; a file that cannot be read is named, and the rest goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from segp_ext.clip.backbone import Backbone
from segp_ext.config import LoadingConfig
from segp_ext.data.file_batches import file_batches
from segp_ext.data.images import Reader
from segp_ext.runtime.progress import progress


class ReadFiles(NamedTuple):
    """Some files of a list.

    Attributes:
        places: Places in the list of the files that could be read, in order.
        pixels: Their pixels, uint8 `[B, 3, S, S]`; None if no file could be read.
        errors: Why the other files cannot be read, by their places.
    """

    places: list[int]
    pixels: Tensor | None
    errors: dict[int, str]


def file_reader(backbone: Backbone, loading: LoadingConfig, workers: int | None = None) -> Reader:
    """Makes a reader that reads as `learner.predict` does: exactly, whatever loading.resize says of training.

    Args:
        backbone: The model that the pixels are for.
        loading: The learner's settings.
        workers: Processes that decode ahead of the model; the learner's setting if None.
    """
    loading = dataclasses.replace(loading, resize="exact")
    if workers is not None:
        loading = dataclasses.replace(loading, workers=workers)
    return Reader(backbone.transform, loading, backbone.device)


def read_files(files: Sequence[Path], reader: Reader, batch_size: int, label: str) -> Iterator[ReadFiles]:
    """Yields the files of a list batch by batch, under a progress bar. No more than a few batches are in memory at a time.

    Args:
        files: Paths of image files.
        reader: How to read them.
        batch_size: Files in a batch.
        label: Name of the progress bar.

    Raises:
        ChildProcessError: If a worker process ends.
    """
    start = 0
    with progress((), label, total=len(files)) as bar:
        for batch in file_batches(files, reader, batch_size):
            numbered = list(enumerate(batch.errors, start=start))
            yield ReadFiles(
                [place for place, error in numbered if error is None],
                batch.pixels,
                {place: error for place, error in numbered if error is not None},
            )
            start += len(numbered)
            bar.update(len(numbered))
