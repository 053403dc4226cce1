"""The classifier: a learner's state at one time, which nothing changes any more."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from segp_ext.clip.backbone import Backbone
from segp_ext.config import PATHS, MethodConfig, ScorePath
from segp_ext.data.decoding import prepared
from segp_ext.method.checks import listed, prompts_of_others
from segp_ext.method.encoding import encode_prompts
from segp_ext.method.heads import Head
from segp_ext.method.losses import clip_scores
from segp_ext.method.made_once import MadeOnce
from segp_ext.method.own_parts import check_returned, naming, title
from segp_ext.runtime.process_state import without_autocast

NOT_FINITE = "are not finite; with model.precision fp16, bf16 or fp32 may help"
"""What a message says of an image's scores that are not finite."""


class Prediction(NamedTuple):
    """One answer for one image.

    Attributes:
        name: the class name, or a name that was never learnt.
        score: its probability. The scores of all names add up to 1; see `Classifier.probabilities`.
    """

    name: str
    score: float


@dataclass(frozen=True)
class Classifier:
    """A CLIP model with its adapter merged, and the classes that it has learnt. Any number of threads may use it at a time.

    Attributes:
        backbone: the model, its adapter merged.
        text: text embeddings u of the classes `[C, De]`.
        prototypes: μ `[C, Dr]`.
        head: scores the visual path.
        class_names: names of all classes, in the order in which they were learnt.
        config: the method's settings.
    """

    backbone: Backbone
    text: Tensor
    prototypes: Tensor
    head: Head
    class_names: tuple[str, ...]
    config: MethodConfig
    _text_of_others: MadeOnce[Tensor] = field(default_factory=MadeOnce, init=False, repr=False, compare=False)

    @torch.no_grad()
    @without_autocast()
    def scores(self, embedding: Tensor, feature: Tensor, path: ScorePath | None = None) -> Tensor:
        """Computes logits over all classes (equations 30 and 31, times s).

        text: s·v̂·û; visual: s·r̂·μ, or the score that `prototypes.score` names; dual: text + β·visual.

        Args:
            embedding: embeddings v `[B, De]`, any norm.
            feature: raw features z `[B, Dr]`, any norm.
            path: one of `segp_ext.config.PATHS`; the configuration's by default.

        Returns:
            Logits `[B, C]`.

        Raises:
            ValueError: for another path.
            OwnPartError: if a head of the user's own fails, or returns scores of another shape.
        """
        return self.scores_at(embedding, feature, self.chosen_path(path), self.backbone.logit_scale)

    def chosen_path(self, path: ScorePath | None) -> ScorePath:
        """Returns `path`, or the configuration's for None.

        Raises:
            ValueError: for another path than those of `segp_ext.config.PATHS`.
        """
        path = self.config.inference.path if path is None else path
        if path not in PATHS:
            raise ValueError(f"path must be one of {', '.join(PATHS)}; got {path!r}")
        return path

    def scores_at(self, embedding: Tensor, feature: Tensor, path: ScorePath, scale: float) -> Tensor:
        """Computes the logits of one path, given s as `scale`; see `scores`.

        Exported models hold this code: operations on tensors, and a check of shapes that tracing resolves.
        """
        text = clip_scores(embedding, self.text, scale)
        if path == "text":
            return text
        with naming("prototypes.score", self.head):
            visual = self.head.scores(feature, self.prototypes, scale)
        named = f"{title('prototypes.score', self.head)}: scores"
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
        return self.scores(*self._encoded(pixels), path)

    @torch.no_grad()
    @without_autocast()
    def probabilities(self, pixels: Tensor, path: ScorePath | None = None, others: Sequence[str] = ()) -> Tensor:
        """Computes the probability of every learnt class, and of names that were never learnt.

        Without `others`, it is the softmax of `logits`. Names that were never learnt have no prototype, so text alone scores them.
        The softmax of the text scores over all names, learnt or not, gives each of `others` its probability. What is left
        belongs to the learnt classes together; they share it as they do without `others`, by the chosen path:

            p(other) = p_text(other),  p(class) = Σ p_text(learnt) · p_path(class | learnt).

        So on the text path all names compete alike, and on every path `others` leave the learnt classes in their order.

        Args:
            pixels: as for `logits`.
            path: as for `scores`.
            others: names that were never learnt.

        Returns:
            Probabilities `[B, C + O]`, the learnt classes first.

        Raises:
            ValueError: for pixels of another shape or dtype, another path, or a name that cannot compete.
        """
        embedding, feature = self._encoded(pixels)
        own = self.scores(embedding, feature, path).softmax(dim=1)
        if not others:
            return own
        everything = torch.cat([self.text, self.encode_others(others)])
        text = clip_scores(embedding, everything, self.backbone.logit_scale).softmax(dim=1)
        learnt, other = text.split([len(self.class_names), len(others)], dim=1)
        return torch.cat([learnt.sum(dim=1, keepdim=True) * own, other], dim=1)

    def encode_others(self, others: Sequence[str]) -> Tensor:
        """Returns the text embeddings of names that were never learnt, in the learner's prompt, `[O, De]`; the last ones are kept.

        Raises:
            ValueError: naming a name that is empty, learnt, given twice, too long, or read like another one by the text encoder.
        """

        def encoded() -> Tensor:
            tokens = prompts_of_others(self.backbone, self.config.template, self.class_names, others)
            return encode_prompts(self.backbone, tokens, self.config.training.prompts_per_pass)

        return self._text_of_others.get((*others,), encoded)

    def _encoded(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes preprocessed images; refuses pixels of another shape or dtype."""
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
        return self.backbone.encode_image(pixels.to(self.backbone.dtype))

    def predict(
        self, images: Any, topk: int | None = 5, path: ScorePath | None = None, others: Sequence[str] = ()
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
            probabilities = self.probabilities(self.backbone.to_unit(pixels), path, others)
            for index, named in enumerate(self.best(probabilities, int(topk), others), start=start):
                if named is None:
                    raise FloatingPointError(f"the scores of image {index} {NOT_FINITE}")
                results.append(named)
        return results

    def best(self, probabilities: Tensor, topk: int, others: Sequence[str] = ()) -> Iterator[list[Prediction] | None]:
        """Yields the `topk` best names of each image, best first; None for an image whose probabilities are not finite.

        Args:
            probabilities: what `probabilities` returned, `[B, C + O]`.
            topk: how many names to yield, or all where there are fewer.
            others: the names that were never learnt, as `probabilities` had them.
        """
        names = (*self.class_names, *others)
        top = probabilities.topk(min(topk, len(names)), dim=1)
        for values, places in zip(top.values.tolist(), top.indices.tolist(), strict=True):
            finite = math.isfinite(sum(values))
            yield [Prediction(names[c], v) for v, c in zip(values, places, strict=True)] if finite else None
