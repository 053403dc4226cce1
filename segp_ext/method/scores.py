"""The scores of a learner's state at one time: features of images, and the logits of each path."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from segp_ext.clip.backbone import Backbone
from segp_ext.clip.wording import Wordings
from segp_ext.config import FROZEN_PATHS, PATHS, MethodConfig, ScorePath
from segp_ext.method.calibration import Calibration, mixed_scores
from segp_ext.method.class_statistics import ClassStatistics
from segp_ext.method.own_parts import check_returned, title
from segp_ext.method.text_scores import first_alike, text_scores
from segp_ext.runtime.process_state import without_autocast


class FrozenModel(NamedTuple):
    """The pre-trained model, and the head that was learnt on it.

    Attributes:
        backbone: the model without its adapter.
        statistics: prototypes and head.
    """

    backbone: Backbone
    statistics: ClassStatistics


class Features(NamedTuple):
    """Features of images in the models that a path needs.

    Attributes:
        embedding: embeddings v in the trained model `[B, De]`; None where the path needs none.
        raw: raw features in the trained model `[B, Dr]`; likewise.
        frozen: raw features in the pre-trained model `[B, Dr]`; likewise.
    """

    embedding: Tensor | None
    raw: Tensor | None
    frozen: Tensor | None


@dataclass(frozen=True)
class Scores:
    """A CLIP model with its adapter merged, the classes that it has learnt, and the scores of each path.

    Attributes:
        backbone: the model, its adapter merged.
        text: text embeddings u of the classes `[C, De]`.
        statistics: prototypes and head of the visual path.
        wording: how the text encoder reads each class, by its name, in the order in which the classes were learnt.
        config: the method's settings.
        frozen: the pre-trained model and its head, for the paths frozen and auto; None without `prototypes.frozen_head`.
        calibration: what the images held back tell; None if none were held back.
        untouched: the model before all learning, for `inference.gate`; None without it.
    """

    backbone: Backbone
    text: Tensor
    statistics: ClassStatistics
    wording: Wordings
    config: MethodConfig
    frozen: FrozenModel | None = None
    calibration: Calibration | None = None
    untouched: Backbone | None = None
    _alike: Tensor | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_alike", first_alike(self.text))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes, in the order in which they were learnt."""
        return (*self.wording,)

    @property
    def prototypes(self) -> Tensor:
        """Prototypes μ of all classes in the trained model `[C, Dr]`."""
        return self.statistics.prototypes

    @torch.no_grad()
    @without_autocast()
    def scores(
        self, embedding: Tensor, feature: Tensor, path: ScorePath | None = None, frozen: Tensor | None = None
    ) -> Tensor:
        """Computes logits over all classes (equations 30 and 31, times s).

        text: s·v̂·û; visual: s·r̂·μ, or the score that `prototypes.score` names; dual: text + β·visual. Ours: frozen, the score of the
        head on the pre-trained model; auto, the weighted sum of dual and frozen (`Calibration.trained_share`).

        Args:
            embedding: embeddings v `[B, De]`, any norm.
            feature: raw features z `[B, Dr]`, any norm.
            path: one of `paths`; the configuration's by default.
            frozen: raw features in the pre-trained model `[B, Dr]`, for the paths frozen and auto.

        Returns:
            Logits `[B, C]`.

        Raises:
            ValueError: for another path, or a missing feature.
            OwnPartError: if a head of the user's own fails, or returns scores of another shape.
        """
        path = self.chosen_path(path)
        if path in FROZEN_PATHS and frozen is None:
            raise ValueError(
                f"the path {path} needs raw features of the pre-trained model too: scores(..., frozen=features)"
            )
        return self.scores_of(Features(embedding, feature, frozen), path, self.backbone.logit_scale)

    def scores_of(self, features: Features, path: ScorePath, scale: float) -> Tensor:
        """Computes the logits of one path `[B, C]` from the features that it needs, given s as `scale`; see `scores`.

        Exported models hold this code: operations on tensors, and a check of shapes that tracing resolves.
        """
        share = self.trained_share(path)
        trained = on_frozen = None
        if share > 0:
            assert features.embedding is not None and features.raw is not None
            own = path if path in PATHS else "dual"
            trained = self._trained_scores(features.embedding, features.raw, own, scale)
        if share < 1:
            assert features.frozen is not None and self.frozen is not None
            on_frozen = self.frozen.statistics.scores(features.frozen, scale)
        if path != "auto":
            found = on_frozen if trained is None else trained
            assert found is not None
            return found
        return mixed_scores(trained, on_frozen, self._measured)

    @property
    def _measured(self) -> Calibration:
        """What the images held back tell; nothing if none were held back."""
        return Calibration(0) if self.calibration is None else self.calibration

    def temperature(self, path: ScorePath) -> float:
        """Returns the temperature T of a path's probabilities, softmax(logits / T); 1 if no images were held back."""
        return self._measured.temperature(path)

    def trained_share(self, path: ScorePath) -> float:
        """Returns the share of the trained model in a path's scores: 0 needs the pre-trained model alone, 1 the trained one alone."""
        if path == "auto":
            return self._measured.trained_share
        return 0.0 if path == "frozen" else 1.0

    @property
    def paths(self) -> tuple[ScorePath, ...]:
        """The paths that this classifier has."""
        return PATHS if self.frozen is None else (*PATHS, *FROZEN_PATHS)

    def chosen_path(self, path: ScorePath | None) -> ScorePath:
        """Returns `path`, or the configuration's for None.

        Raises:
            ValueError: for another path than `paths`.
        """
        path = self.config.inference.path if path is None else path
        if path not in self.paths:
            why = "; it keeps no head on the frozen model (prototypes.frozen_head)" if path in FROZEN_PATHS else ""
            raise ValueError(f"path must be one of {', '.join(self.paths)}; got {path!r}{why}")
        return path

    def _trained_scores(self, embedding: Tensor, feature: Tensor, path: ScorePath, scale: float) -> Tensor:
        """Computes the logits of one path of the trained model."""
        text = text_scores(embedding, self.text, self._alike, scale)
        if path == "text":
            return text
        visual = self.statistics.scores(feature, scale)
        named = f"{title('prototypes.score', self.statistics.head)}: scores"
        check_returned(named, visual, text.shape, None, text.device)
        return visual if path == "visual" else self.dual(text, visual)

    def dual(self, text: Tensor, visual: Tensor) -> Tensor:
        """Adds the scores of both paths (SeGP-CL, arXiv 2603.12055, equation 31): text + β·visual.

        Args:
            text: logits of the text path `[B, C]`.
            visual: logits of the visual path `[B, C]`.

        Returns:
            Logits of the dual path `[B, C]`.
        """
        return text + self.config.inference.beta * visual

    @torch.no_grad()
    def logits(self, pixels: Tensor, path: ScorePath | None = None) -> Tensor:
        """Scores preprocessed images.

        Args:
            pixels: `[B, 3, S, S]`, floating point in [0, 1], on the backbone's device.
            path: as for `scores`.

        Returns:
            Logits over all classes `[B, C]`.

        Raises:
            ValueError: for pixels of another shape or dtype, or another path.
        """
        path = self.chosen_path(path)
        return self.scores_of(self.features(pixels, path), path, self.backbone.logit_scale)

    def features(self, pixels: Tensor, path: ScorePath, on_text: bool = False, on_frozen: bool = False) -> Features:
        """Encodes preprocessed images with the models that a path needs.

        Args:
            pixels: as for `logits`.
            path: one of `paths`.
            on_text: whether the trained model's embeddings are needed whatever the path.
            on_frozen: whether features of the pre-trained model are needed whatever the path, if the learner has a head there.

        Raises:
            ValueError: for pixels of another shape or dtype.
        """
        side = self.backbone.image_size
        fits = isinstance(pixels, Tensor) and list(pixels.shape[1:]) == [3, side, side] and pixels.is_floating_point()
        if not fits:
            got = (
                f"{pixels.dtype} {list(pixels.shape)}"
                if isinstance(pixels, (Tensor, np.ndarray))
                else type(pixels).__name__
            )
            raise ValueError(
                f"pixels must be a floating-point tensor [B, 3, {side}, {side}] in [0, 1], as backbone.to_unit gives it; got {got}. "
                "predict takes images of any size"
            )
        pixels, share = pixels.to(self.backbone.dtype), self.trained_share(path)
        embedding = feature = frozen = None
        if share > 0 or on_text:
            embedding, feature = self.backbone.encode_image(pixels)
        if share < 1 or (on_frozen and self.frozen is not None):
            assert self.frozen is not None
            frozen = self.frozen.backbone.encode_image(pixels)[1]
        return Features(embedding, feature, frozen)
