"""The format torch: a program of torch.export, which torch loads without this package."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from segp_ext.serving.subject import Subject

PROGRAM = "model.pt2"
"""Name of the file; `torch.export.load` reads it."""


def torch_files(subject: Subject, metadata: Mapping[str, str]) -> dict[str, bytes]:
    """Writes a learner as a program; returns the file's content by name. `metadata` is kept in it as extra files."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        # A weight that is stored by columns makes torch doubt that it is whole. The comparison that follows would find that out.
        warnings.filterwarnings("ignore", "No complete tensor found", UserWarning)
        torch.export.save(subject.program, content, extra_files=dict(metadata))
    return {PROGRAM: content.getvalue()}


@torch.no_grad()
def torch_scores(folder: Path, subject: Subject, images: Sequence[Image.Image]) -> Tensor:
    """Scores images with the program in a folder; returns `[N, C]`."""
    module = torch.export.load(folder / PROGRAM).module()
    return subject.in_batches(module, images)
