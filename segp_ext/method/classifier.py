"""The classifier: a learner's state at one time, which nothing changes any more."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from segp_ext.clip.wording import PLAIN, Wordings
from segp_ext.config import ScorePath
from segp_ext.data.decoding import prepared
from segp_ext.method.answers import NOT_FINITE, Answer, Prediction, best_names
from segp_ext.method.checks import listed, prompts, prompts_of_others
from segp_ext.method.encoding import encode_classes
from segp_ext.method.made_once import MadeOnce
from segp_ext.method.open_names import OpenNames, gated, with_others
from segp_ext.method.scores import Features, Scores
from segp_ext.method.unknown import Background, background_of, fit_scores
from segp_ext.runtime.process_state import without_autocast


@dataclass(frozen=True)
class Classifier(Scores):
    """Scores, and the answers that they give. Any number of threads may use it at a time."""

    _open_names: MadeOnce[OpenNames] = field(default_factory=MadeOnce, init=False, repr=False, compare=False)
    _background: MadeOnce[Background | None] = field(default_factory=MadeOnce, init=False, repr=False, compare=False)

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
        path = self.chosen_path(path)
        limit = None if unknown_rate is None else self.unknown_limit(unknown_rate)
        gate = bool(others) and self.config.inference.gate is not None
        features = self.features(pixels, path, on_text=bool(others), on_frozen=limit is not None or gate)
        if others:
            names = self.open_names(others)
            found = self.open_scores(features, path, names)
            if gate:
                found = self._gated(pixels, features, found, names)
            found = found.exp()
        else:
            found = self._log_probabilities(features, path).exp()
        if limit is None:
            return Answer(found, None, None)
        fit = self.unknown_scores(features)
        return Answer(found, fit < limit, self._measured.unknown_share(fit))

    def _log_probabilities(self, features: Features, path: ScorePath) -> Tensor:
        """Logarithms of the probabilities of the learnt classes, float64 `[B, C]`.

        In float64, as a high temperature makes close scores one probability in float32, and so the best class another one.
        """
        scores = self.scores_of(features, path, self.backbone.logit_scale)
        return (scores.double() / self.temperature(path)).log_softmax(dim=1)

    def open_scores(self, features: Features, path: ScorePath, names: OpenNames) -> Tensor:
        """Computes logarithms of the probabilities of learnt classes and other names, without a gate.

        Args:
            features: features of images, with embeddings.
            path: one of `paths`.
            names: the learnt classes and the others.

        Returns:
            float64 `[B, C + O]`; see `probabilities`.
        """
        assert features.embedding is not None
        text = names.of_text(features.embedding, self.backbone.logit_scale, self.temperature("text"))
        return with_others(self._log_probabilities(features, path), text) if names.learnt else text

    def is_far(self, features: Features) -> Tensor:
        """Tells which images fit no learnt class by the limit of `inference.gate`, bool `[B]`; none where no image was held back."""
        fit, rate = self.unknown_scores(features), self.config.inference.gate
        assert rate is not None
        return fit < self.unknown_limit(rate) if self._measured.fit else torch.zeros_like(fit, dtype=torch.bool)

    def _gated(self, pixels: Tensor, features: Features, scores: Tensor, names: OpenNames) -> Tensor:
        """Leaves images and names that were not learnt to the untouched model; encodes only the images that need it."""
        assert self.untouched is not None
        far = self.is_far(features)
        learnt, others = scores.tensor_split([names.learnt], dim=1)
        may_be_other = others.logsumexp(dim=1) >= learnt.amax(dim=1)  # however the untouched model shares them out
        rows = (far | may_be_other).nonzero().flatten()
        if not len(rows):
            return scores
        if features.frozen is None:
            embedding = self.untouched.encode_image(pixels[rows].to(self.untouched.dtype))[0]
        else:
            embedding = self.untouched.project(features.frozen[rows])
        of_untouched = names.of_text(embedding, self.backbone.logit_scale, self.temperature("text"), untouched=True)
        return scores.index_copy(0, rows, gated(scores[rows], of_untouched, far[rows], names.learnt))

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

    def open_names(self, others: Sequence[str], wording: Wordings | None = None) -> OpenNames:
        """Encodes names that were never learnt beside the learnt classes; the last ones are kept.

        Args:
            others: the names.
            wording: how the text encoder reads some of them, by name; the others have the learner's template.

        Raises:
            ValueError: naming a name that is empty, learnt, given twice, too long, or read like another one by the text encoder.
        """

        own = {name: (wording or {}).get(name, PLAIN) for name in others}

        def encoded() -> OpenNames:
            learnt, config, limit = self.class_names, self.config, self.config.training.prompts_per_pass
            if wording is None:
                prompts_of_others(
                    self.backbone, config.template, learnt, self.wording, others
                )  # refuses what cannot compete
            everything = prompts(self.backbone, config.template, [*learnt, *others], {**self.wording, **own})
            unlearnt = everything.begin_at(len(learnt))
            text = torch.cat([self.text, encode_classes(self.backbone, unlearnt, limit)])
            untouched = None if self.untouched is None else encode_classes(self.untouched, everything, limit)
            return OpenNames(text, len(learnt), untouched)

        return self._open_names.get((self.config.template, own), encoded)

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
