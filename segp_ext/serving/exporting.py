"""Exports a learner for use without this package. An export predicts as its learner, or nothing is written."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from PIL import Image
from torch import Tensor

from segp_ext.config import ScorePath
from segp_ext.method.learner import SeGPCL
from segp_ext.serving import facts, merged_weights, model_card, onnx_model, torch_program
from segp_ext.serving.agreement import Agreement, chosen_images, compare
from segp_ext.serving.source import read_source
from segp_ext.serving.subject import Subject
from segp_ext.storage import sealed


@dataclass(frozen=True)
class Format:
    """A format of exports.

    Attributes:
        write: makes the files' contents by name, given the learner and the metadata to keep in them.
        score: scores images with the export in a folder; the learner gives the batch size.
        text_only: whether it holds both towers, and so gives the scores of the text path and no others.
        needs: packages of the extra that has the format's name; none if there is no such extra.
    """

    write: Callable[[Subject, Mapping[str, str]], dict[str, bytes]]
    score: Callable[[Path, Subject, Sequence[Image.Image]], Tensor]
    text_only: bool = False
    needs: tuple[str, ...] = ()


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "open_clip": Format(merged_weights.merged_files, merged_weights.merged_scores, text_only=True),
        "hub": Format(model_card.hub_files, merged_weights.merged_scores, text_only=True),
        "onnx": Format(onnx_model.onnx_files, onnx_model.onnx_scores, needs=onnx_model.PACKAGES),
        "torch": Format(torch_program.torch_files, torch_program.torch_scores),
    }
)
"""All formats by name."""


@dataclass(frozen=True)
class Exported:
    """A finished export.

    Attributes:
        folder: the folder that was written.
        path: the path whose scores it gives.
        agreement: how close these are to the learner's.
    """

    folder: Path
    path: ScorePath
    agreement: Agreement


def export_learner(
    learner: SeGPCL,
    folder: str | os.PathLike[str],
    format: str,
    *,
    path: ScorePath | None = None,
    images: Sequence[Any] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Exported:
    """Writes a learner for use without this package, whole or not at all.

    The folder also gets `classes.json`, `segp_export.json` with the preprocessing and all else there is to know, and `SHA256SUMS`. What was
    written is loaded again and compared with the learner first: scores, probabilities, and the best class of every image. Exports
    compute in float32, whatever `model.precision` is.

    Args:
        learner: a learner that has learnt a class at least. It is not changed.
        folder: the folder to write; an export that is there is replaced.
        format: open_clip (merged weights as open_clip's own model, for the text path), hub (the same with a model card), onnx (a
            model for ONNX Runtime and others; needs the extra `onnx`) or torch (a program of torch.export).
        path: the path whose scores an ONNX model or a program gives, one of the learner's; the configuration's by default.
        images: images to compare on, as `segp_ext.data.decoding.to_pil` takes them, of which 100 are taken; 100 random ones by default.
        checkpoint: the folder that the learner was loaded from, if its checksum and the result of its run are to be in the export.

    Returns:
        What was written, and how close it is to the learner.

    Raises:
        FileExistsError: if `folder` holds other things than an export.
        ModuleNotFoundError: if the format needs an extra that is not installed; says how to install it.
        TypeError: for a learner or an image of another type.
        ValueError: for an unknown format or path, a learner without classes, a model or head that cannot be exported, and an export that
            does not predict as the learner does.
    """
    chosen = check_format(format, path)
    if not isinstance(learner, SeGPCL):
        raise TypeError(f"learner must be a segp_ext.SeGPCL; got {type(learner).__name__}")
    if not learner.class_names:
        raise ValueError("the learner has learnt no class yet, so there is nothing to export; call learn_task first")
    target = Path(os.path.expanduser(folder)).resolve()
    sealed.check_replaceable(target, facts.FACTS, "an export")
    source = None if checkpoint is None else read_source(Path(os.path.expanduser(checkpoint)), learner.class_names)
    if learner.backbone.device.type != "cpu":
        learner = learner.copy().to("cpu")
    classifier = learner.classifier()
    subject = Subject(learner, "text" if chosen.text_only else classifier.chosen_path(path), source)
    compared = chosen_images(classifier, images)
    about = facts.facts_of(subject, format, facts.versions_of(chosen.needs))
    classes = facts.classes_of(learner)
    files = {**facts.fact_files(about, classes), **chosen.write(subject, facts.metadata_of(about, classes))}
    found: list[Agreement] = []

    def check(written: Path) -> None:
        scores = chosen.score(written, subject, compared)
        temperature = classifier.temperature(subject.path)
        found.append(compare(subject.expected(compared), scores, f"the {format} export", temperature))

    sealed.seal(target, files, check)
    return Exported(target, subject.path, found[0])


def check_format(name: str, path: ScorePath | None = None) -> Format:
    """Finds a format that can be written here.

    Args:
        name: the format's name.
        path: the path whose scores are asked for.

    Raises:
        ModuleNotFoundError: if it needs an extra that is not installed.
        ValueError: if there is no such format, or it does not give the scores of that path.
    """
    if name not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}; got {name!r}")
    found = FORMATS[name]
    if found.text_only and path not in (None, "text"):
        others = ", ".join(other for other, one in FORMATS.items() if not one.text_only)
        raise ValueError(f"format {name} gives the scores of the text path alone; for path {path} take one of {others}")
    lacks = [package for package in found.needs if importlib.util.find_spec(package) is None]
    if lacks:
        raise ModuleNotFoundError(
            f"format {name} needs {', '.join(lacks)}, not installed here: pip install 'segp_ext[{name}]'", name=lacks[0]
        )
    return found
