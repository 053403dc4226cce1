"""Decodes many image files in batches, ahead of the model that takes them. No more than a few batches are in memory at a time.

`segp_ext.data.images.Images` reads a data set that is passed over again and again: it keeps pixels, and an image that cannot be read ends
it. Here each file is read once, and a file that cannot be read costs the others nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from segp_ext.data.decoding import Transform, open_image, prepared
from segp_ext.data.images import Reader, ahead, workers_named
from segp_ext.runtime.progress import first_line


class FileBatch(NamedTuple):
    """Some files in a row, decoded.

    Attributes:
        pixels: pixels of the files that can be read, uint8 `[G, 3, S, S]`; None if there is no such file.
        errors: for every file why it cannot be read, or None.
    """

    pixels: Tensor | None
    errors: list[str | None]


class _Files(Dataset):
    """Decodes files by index; gives the reason for a file that cannot be read."""

    def __init__(self, files: Sequence[str], transform: Transform, upright: bool) -> None:
        self.files, self.transform, self.upright = files, transform, upright

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Tensor | str:
        file = self.files[index]
        try:
            if os.path.exists(file) and not os.path.isfile(file):  # who opens a pipe may wait for ever
                return f"cannot read {file} as an image: it is neither a file nor a link to one"
            return prepared(open_image(file), self.transform, file, self.upright)
        except Exception as error:
            return first_line(error)


def _joined(items: list[Tensor | str]) -> FileBatch:
    read = [item for item in items if isinstance(item, Tensor)]
    return FileBatch(torch.stack(read) if read else None, [item if isinstance(item, str) else None for item in items])


def file_batches(files: Sequence[str | os.PathLike[str]], reader: Reader, batch_size: int) -> Iterator[FileBatch]:
    """Yields the decoded files in their order, `batch_size` at a time.

    Args:
        files: paths of image files.
        reader: how to read them. Its transform must give pixels of one size. Its worker processes decode two batches each ahead.
        batch_size: files in a batch; the last batch may have fewer.

    Raises:
        ChildProcessError: if a worker process ends.
    """
    batches = _decoded([os.fspath(file) for file in files], reader, batch_size)
    return ahead(map(_pinned, batches)) if reader.pin else batches


def _pinned(batch: FileBatch) -> FileBatch:
    return batch if batch.pixels is None else batch._replace(pixels=batch.pixels.pin_memory())


def _decoded(files: list[str], reader: Reader, batch_size: int) -> Iterator[FileBatch]:
    workers = min(reader.workers, -(-len(files) // batch_size)) if len(files) > batch_size else 0
    own = torch.Generator("cpu")  # the loader draws a number whether it needs one or not; not from the caller's
    dataset = _Files(files, reader.transform, reader.upright)
    loader: Any = DataLoader(dataset, batch_size, num_workers=workers, collate_fn=_joined, generator=own)
    with torch.device("cpu"), workers_named(workers):
        decoded = iter(loader)
    while True:
        with workers_named(workers):
            batch = next(decoded, None)
        if batch is None:
            return
        yield batch
