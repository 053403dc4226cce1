"""A learner's classifier as one module from images to scores, and as a program of torch.export."""

from __future__ import annotations

import copy
import dataclasses

import torch
from torch import Tensor, nn

from segp_ext.config import ScorePath
from segp_ext.method.checks import alike_rows, prompts
from segp_ext.method.class_statistics import ClassStatistics
from segp_ext.method.classifier import Classifier
from segp_ext.method.encoding import encode_classes
from segp_ext.method.heads import HEADS
from segp_ext.method.scores import FrozenModel
from segp_ext.runtime.progress import first_line

INPUT, OUTPUT, BATCH = "image", "scores", "batch"
"""Names of the exported models' input, output and first axis."""


def in_float32(classifier: Classifier) -> Classifier:
    """Returns a classifier of its own that computes in float32 without autocast or compiling, whatever `model.precision` is."""
    exact = classifier.backbone.precision == "fp32"
    backbone, config = classifier.backbone.to_export(), classifier.config
    text = classifier.text
    if not exact:
        tokens = prompts(backbone, config.template, classifier.class_names, classifier.wording)
        text = alike_rows(encode_classes(backbone, tokens, config.training.prompts_per_pass), tokens)
    frozen = classifier.frozen
    if frozen is not None:
        frozen = FrozenModel(frozen.backbone.to_export(), _statistics_in_float32(frozen.statistics))
    statistics = _statistics_in_float32(classifier.statistics)
    return dataclasses.replace(classifier, backbone=backbone, text=text.clone(), statistics=statistics, frozen=frozen)


def _statistics_in_float32(statistics: ClassStatistics) -> ClassStatistics:
    own = copy.deepcopy(statistics)
    own.prototypes = own.prototypes.float()
    return own


class Scorer(nn.Module):
    """Images to scores, by the classifier's own code: preprocessing's normalisation, the vision tower, and the head.

    Args:
        classifier: what `in_float32` gives.
        path: which scores to compute.
    """

    def __init__(self, classifier: Classifier, path: ScorePath) -> None:
        super().__init__()
        self.path, self.scale = path, classifier.backbone.logit_scale
        share = classifier.trained_share(path)
        if share > 0:
            self.visual, self.projection = classifier.backbone.clip.visual, classifier.backbone.projection
        if share < 1 and classifier.frozen is not None:
            frozen = classifier.frozen.backbone
            self.frozen_visual, self.frozen_projection = frozen.clip.visual, frozen.projection
        # Not a submodule: the text tower would be exported too.
        self._of = (classifier,)

    def forward(self, image: Tensor) -> Tensor:
        """Maps RGB images `[B, 3, S, S]` in [0, 1] to scores `[B, C]`."""
        (classifier,) = self._of
        return classifier.scores_of(classifier.features(image, self.path), self.path, self.scale)


@torch.no_grad()
def program_of(classifier: Classifier, path: ScorePath) -> torch.export.ExportedProgram:
    """Exports a classifier as a program with any number of images.

    Args:
        classifier: what `in_float32` gives, on the CPU.
        path: which scores to compute.

    Raises:
        ValueError: naming the head and the model, if their code is more than tensor operations.
    """
    scorer = Scorer(classifier, path).eval()
    side = classifier.backbone.image_size
    shapes = {INPUT: {0: torch.export.Dim(BATCH, min=1)}}
    try:
        return torch.export.export(scorer, (torch.zeros(2, 3, side, side),), dynamic_shapes=shapes)
    except Exception as error:  # torch has many kinds for code that it cannot export
        raise ValueError(f"{unexportable(classifier, path)}: {first_line(error)}") from error


def unexportable(classifier: Classifier, path: ScorePath) -> str:
    """Begins the error for a classifier whose code cannot be exported."""
    named = classifier.config.prototypes.score
    own = path != "text" and type(classifier.statistics.head) not in HEADS.values()
    hint = ", whose scores must be plain operations on tensors" if own else ""
    head = "" if path == "text" else f" by the head {named}{hint},"
    return f"the {path} scores{head} on {classifier.backbone.name} cannot be exported"
