"""The format onnx: one ONNX model from images to scores, compared by ONNX Runtime."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from segp_ext.runtime.progress import first_line
from segp_ext.serving.scorer import BATCH, INPUT, OUTPUT, unexportable
from segp_ext.serving.subject import Subject

MODEL = "model.onnx"
"""Name of the file. A model above 2 GB has its weights in a second file, of this name and `.data`."""
PACKAGES = ("onnx", "onnxruntime", "onnxscript")
"""Packages of the extra."""


def onnx_files(subject: Subject, metadata: Mapping[str, str]) -> dict[str, bytes]:
    """Writes a learner as an ONNX model; returns the files' contents by name. The model holds `metadata`.

    Raises:
        ValueError: naming the head and the model, if their code has operations that ONNX lacks.
    """
    program = subject.program
    try:
        with _silent():
            made: Any = torch.onnx.export(
                program,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes={INPUT: {0: BATCH}},
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # torch has many kinds for code that it cannot export
        raise ValueError(f"{unexportable(subject.plain, subject.path)}: {first_line(error)}") from error
    made.model.metadata_props.update(metadata)
    with tempfile.TemporaryDirectory() as folder:
        made.save(Path(folder) / MODEL)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps torch's exporter from saying what it leaves as it is, and what it has yet to change."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def onnx_scores(folder: Path, subject: Subject, images: Sequence[Image.Image]) -> Tensor:
    """Scores images with the model in a folder, by ONNX Runtime on the processor; returns `[N, C]`.

    Raises:
        ValueError: if ONNX Runtime does not load the model.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(folder / MODEL, providers=["CPUExecutionProvider"])
    except Exception as error:  # its kind depends on what is wrong
        raise ValueError(f"ONNX Runtime does not load the export: {first_line(error)}; nothing was written") from error

    def score(pixels: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: pixels.numpy()})[0])

    return subject.in_batches(score, images)
