"""The classifier: a learner's state at one time, which nothing changes any more."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from segp_ext.clip.backbone import Backbone
from segp_ext.config import FROZEN_PATHS, PATHS, MethodConfig, ScorePath
from segp_ext.data.decoding import prepared
from segp_ext.method.answers import NOT_FINITE, Answer, Prediction, best_names
from segp_ext.method.calibration import Calibration, mixed_scores
from segp_ext.method.checks import listed, prompts_of_others
from segp_ext.method.class_statistics import ClassStatistics
from segp_ext.method.encoding import encode_prompts
from segp_ext.method.losses import clip_scores
from segp_ext.method.made_once import MadeOnce
from segp_ext.method.own_parts import check_returned, title
from segp_ext.method.unknown import Background, background_of, fit_scores
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
class Classifier:
    """A CLIP model with its adapter merged, and the classes that it has learnt. Any number of threads may use it at a time.

    Attributes:
        backbone: the model, its adapter merged.
        text: text embeddings u of the classes `[C, De]`.
        statistics: prototypes and head of the visual path.
        class_names: names of all classes, in the order in which they were learnt.
        config: the method's settings.
        frozen: the pre-trained model and its head, for the paths frozen and auto; None without `prototypes.frozen_head`.
        calibration: what the images held back tell; None if none were held back.
    """

    backbone: Backbone
    text: Tensor
    statistics: ClassStatistics
    class_names: tuple[str, ...]
    config: MethodConfig
    frozen: FrozenModel | None = None
    calibration: Calibration | None = None
    _text_of_others: MadeOnce[Tensor] = field(default_factory=MadeOnce, init=False, repr=False, compare=False)
    _background: MadeOnce[Background | None] = field(default_factory=MadeOnce, init=False, repr=False, compare=False)

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
        text = clip_scores(embedding, self.text, scale)
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

    @torch.no_grad()
    @without_autocast()
    def answer(
        self,
        pixels: Tensor,
        path: ScorePath | None = None,
        others: Sequence[str] = (),
        unknown_rate: float | None = None,
    ) -> Answer:
        """Computes probabilities, and tells which images belong to no learnt class, in one pass.

        Args:
            pixels: as for `logits`.
            path: as for `scores`.
            others: as for `probabilities`.
            unknown_rate: share of images of learnt classes that may be called unknown, between 0 and 1; None asks nothing.

        Raises:
            ValueError: as `probabilities`; for a rate out of range; for a learner without images held back, which has no limit.
        """
        path, scale = self.chosen_path(path), self.backbone.logit_scale
        limit = None if unknown_rate is None else self.unknown_limit(unknown_rate)
        features = self.features(pixels, path, on_text=bool(others), on_frozen=limit is not None)
        # In float64, as a high temperature makes close scores one probability in float32, and so the best class another one.
        found = (self.scores_of(features, path, scale).double() / self.temperature(path)).softmax(dim=1)
        if others:
            assert features.embedding is not None
            everything = torch.cat([self.text, self.encode_others(others)])
            text = (clip_scores(features.embedding, everything, scale).double() / self.temperature("text")).softmax(
                dim=1
            )
            learnt, other = text.split([len(self.class_names), len(others)], dim=1)
            found = torch.cat([learnt.sum(dim=1, keepdim=True) * found, other], dim=1)
        if limit is None:
            return Answer(found, None, None)
        fit = self.unknown_scores(features)
        return Answer(found, fit < limit, self._measured.unknown_share(fit))

    @torch.no_grad()
    def unknown_scores(self, features: Features) -> Tensor:
        """Computes how well images fit the learnt classes, on the frozen model where the learner has a head there.

        Args:
            features: what `features(..., on_frozen=True)` gave.

        Returns:
            Scores, float64 `[B]`. The lower one is, the more its image looks like no learnt class (`segp_ext.method.unknown`).
        """
        statistics, feature = (
            (self.statistics, features.raw) if self.frozen is None else (self.frozen.statistics, features.frozen)
        )
        assert feature is not None
        background = self._background.get(None, lambda: background_of(statistics))
        return fit_scores(statistics, feature, self.backbone.logit_scale, background)

    def unknown_limit(self, rate: float) -> float:
        """Returns the score of `unknown_scores` below which an image counts as unknown.

        Args:
            rate: share of images of learnt classes that may lie below it, between 0 and 1.

        Raises:
            ValueError: for another rate, or a learner that held no images back.
        """
        return self._measured.limit(rate)

    def probabilities(self, pixels: Tensor, path: ScorePath | None = None, others: Sequence[str] = ()) -> Tensor:
        """Computes the probability of every learnt class, and of names that were never learnt.

        Without `others`, it is the softmax of `logits` / T, with the path's `temperature` T. Names that were never learnt have no
        prototype, so text alone scores them. The softmax of the text scores over all names, learnt or not, gives each of `others` its
        probability. What is left belongs to the learnt classes together; they share it as they do without `others`, by the chosen path:

            p(other) = p_text(other),  p(class) = Σ p_text(learnt) · p_path(class | learnt).

        So on the text path all names compete alike, and on every path `others` leave the learnt classes in their order.

        Args:
            pixels: as for `logits`.
            path: as for `scores`.
            others: names that were never learnt.

        Returns:
            Probabilities `[B, C + O]` in float64, the learnt classes first.

        Raises:
            ValueError: for pixels of another shape or dtype, another path, or a name that cannot compete.
        """
        return self.answer(pixels, path, others).probabilities

    def encode_others(self, others: Sequence[str]) -> Tensor:
        """Returns the text embeddings of names that were never learnt, in the learner's prompt, `[O, De]`; the last ones are kept.

        Raises:
            ValueError: naming a name that is empty, learnt, given twice, too long, or read like another one by the text encoder.
        """

        def encoded() -> Tensor:
            tokens = prompts_of_others(self.backbone, self.config.template, self.class_names, others)
            return encode_prompts(self.backbone, tokens, self.config.training.prompts_per_pass)

        return self._text_of_others.get((*others,), encoded)

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

    def predict(
        self,
        images: Any,
        topk: int | None = 5,
        path: ScorePath | None = None,
        others: Sequence[str] = (),
        unknown: float | None = None,
    ) -> list[list[Prediction]]:
        """Names the classes of images; see `SeGPCL.predict`."""
        if not self.class_names:
            raise ValueError("predict needs at least one learnt task; call learn_task first")
        others = tuple(listed(others, "others"))
        topk = len(self.class_names) + len(others) if topk is None else topk
        if not isinstance(topk, (int, np.integer)) or isinstance(topk, bool) or topk < 1:
            raise ValueError(f"topk must be 1 or more, or None for all; got {topk!r}")
        one = (str, os.PathLike, Image.Image, bytes, bytearray, memoryview)
        several = isinstance(images, Iterable) and not isinstance(images, Mapping)
        if not isinstance(images, one) and not hasattr(images, "read") and not several:
            raise TypeError(f"images must be an image, its path, or a list of these; got {type(images).__name__}")
        if isinstance(images, Set):
            raise TypeError(
                f"images must have an order, which answers follow; got a {type(images).__name__}. Pass a list"
            )
        paths = isinstance(images, np.ndarray) and images.dtype.kind in "UO"
        single = isinstance(images, one) or hasattr(images, "read") or (getattr(images, "ndim", 4) < 4 and not paths)
        sources = [images] if single else list(images)
        results: list[list[Prediction]] = []
        size = self.config.inference.batch_size
        for start in range(0, len(sources), size):
            upright = self.config.loading.orientation == "exif"
            part = enumerate(sources[start : start + size], start=start)
            pixels = torch.stack([prepared(image, self.backbone.transform, f"image {i}", upright) for i, image in part])
            answer = self.answer(self.backbone.to_unit(pixels), path, others, unknown)
            for index, named in enumerate(self.best(answer, int(topk), others), start=start):
                if named is None:
                    raise FloatingPointError(f"the scores of image {index} {NOT_FINITE}")
                results.append(named)
        return results

    def best(self, answer: Answer, topk: int, others: Sequence[str] = ()) -> Iterator[list[Prediction] | None]:
        """Yields the `topk` best names of each image of an answer, given the same `others`; see `best_names`."""
        return best_names(answer, (*self.class_names, *others), len(self.class_names), topk)
