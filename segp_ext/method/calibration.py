"""What the images held back tell about a learner's scores: temperatures of its probabilities, and the weights of the path auto."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from segp_ext.config import from_dict

_WEIGHTS = tuple(step / 20 for step in range(21))
"""Shares of the trained model that the path auto tries."""
_LOW, _HIGH = math.log(1e-3), math.log(1e4)
"""Bounds of the logarithm of a temperature."""
_BINS = 15
"""Bins of the expected calibration error, as in Guo et al. (arXiv 1706.04599)."""


@dataclass(frozen=True)
class PathCalibration:
    """How one path fares on the images held back.

    Attributes:
        temperature: Temperature T that fits the probabilities softmax(scores / T) best.
        accuracy: Share of images whose best class is right.
        error_before: Expected calibration error of softmax(scores).
        error_after: Expected calibration error of softmax(scores / T).
    """

    temperature: float = 1.0
    accuracy: float = 0.0
    error_before: float = 0.0
    error_after: float = 0.0


@dataclass(frozen=True)
class Calibration:
    """How a learner fares on the images held back.

    Attributes:
        images: Number of these images, of all classes.
        paths: Findings by path.
        trained_share: Share w of the trained model in the path auto: w·dual/T_dual + (1 − w)·frozen/T_frozen.
    """

    images: int
    paths: dict[str, PathCalibration] = field(default_factory=dict)
    trained_share: float = 0.0

    def temperature(self, path: str) -> float:
        """Returns the temperature of a path; 1 where no image was held back."""
        found = self.paths.get(path)
        return 1.0 if found is None else found.temperature


def calibration_of(found: dict[str, Any] | None) -> Calibration | None:
    """Makes a calibration of its plain values, as `dataclasses.asdict` gives them; None of None.

    Raises:
        ValueError: Saying what is wrong with them.
    """
    if found is None:
        return None
    names = [f.name for f in fields(Calibration)]
    if not isinstance(found, dict) or sorted(found) != sorted(names) or not isinstance(found["paths"], dict):
        raise ValueError(f"measured must be an object of {', '.join(names)}; got {found!r:.200}")
    paths = {
        name: from_dict(PathCalibration, value, f"measured.paths.{name}.") for name, value in found["paths"].items()
    }
    return Calibration(found["images"], paths, found["trained_share"])


def calibrate(scores: Mapping[str, Tensor], label: Tensor) -> Calibration:
    """Fits temperatures and the weights of the path auto.

    The share of the trained model is the one with the least negative log-likelihood. Scores are stacked like predictions in stacked
    generalisation (Wolpert 1992; for probabilities, Ting and Witten 1999).

    Args:
        scores: Scores of the images held back by path, `[N, C]` each. With the paths dual and frozen, auto is fitted too.
        label: Class of each image, int64 `[N]`.
    """
    if not len(label):
        return Calibration(0)
    paths = {path: _fitted(of_path.double(), label) for path, of_path in scores.items()}
    share = 0.0
    if "frozen" in scores and "dual" in scores:
        trained, frozen = (scores[path].double() / paths[path].temperature for path in ("dual", "frozen"))
        mixed = {weight: _fitted(weight * trained + (1 - weight) * frozen, label) for weight in _WEIGHTS}
        losses = {
            weight: _loss(weight * trained + (1 - weight) * frozen, label, found.temperature)
            for weight, found in mixed.items()
        }
        share = min(losses, key=lambda weight: losses[weight])
        paths["auto"] = mixed[share]
    return Calibration(len(label), paths, share)


def mixed_scores(dual: Tensor | None, frozen: Tensor | None, found: Calibration) -> Tensor:
    """Returns the scores of the path auto `[B, C]`; see `Calibration.trained_share`.

    Args:
        dual: Scores of the path dual `[B, C]`; None where their share is 0.
        frozen: Scores of the path frozen `[B, C]`; None where their share is 0.
        found: What the images held back tell.
    """
    share = found.trained_share
    parts = []
    if dual is not None:
        parts.append(share * dual / found.temperature("dual"))
    if frozen is not None:
        parts.append((1 - share) * frozen / found.temperature("frozen"))
    return torch.stack(parts).sum(dim=0)


def calibration_error(probabilities: Tensor, label: Tensor) -> float:
    """Computes the expected calibration error: mean gap between the best probability and the accuracy, over 15 equal bins.

    Args:
        probabilities: Probabilities of all classes `[N, C]`.
        label: Class of each image, int64 `[N]`.
    """
    best, named = probabilities.double().max(dim=1)
    right = (named == label).double()
    place = (best * _BINS).ceil().clamp(1, _BINS).long() - 1
    gaps = torch.zeros(_BINS, dtype=torch.float64, device=best.device).index_add_(0, place, best - right)
    return float(gaps.abs().sum() / len(label))


def _fitted(scores: Tensor, label: Tensor) -> PathCalibration:
    temperature = _best_temperature(scores, label)
    before, after = scores.softmax(dim=1), (scores / temperature).softmax(dim=1)
    return PathCalibration(
        temperature,
        float((scores.argmax(dim=1) == label).double().mean()),
        calibration_error(before, label),
        calibration_error(after, label),
    )


def _loss(scores: Tensor, label: Tensor, temperature: float) -> float:
    """Computes the mean negative log-likelihood.

    As in Platt's scaling (1999), one image in N + 2 counts as its strongest other class. Without it, scores that are always right would ask
    for a temperature of 0.
    """
    logs = (scores / temperature).log_softmax(dim=1)
    own = logs.gather(1, label[:, None])[:, 0]
    if logs.shape[1] == 1:
        return float(-own.mean())
    other = logs.scatter(1, label[:, None], -torch.inf).max(dim=1).values
    share = 1 / (len(label) + 2)
    return float(-((1 - share) * own + share * other).mean())


def _best_temperature(scores: Tensor, label: Tensor) -> float:
    """Finds the temperature with the least negative log-likelihood by golden section; the loss is convex in 1/T."""
    golden = (math.sqrt(5) - 1) / 2
    low, high = _LOW, _HIGH
    inner = [high - golden * (high - low), low + golden * (high - low)]
    losses = [_loss(scores, label, math.exp(place)) for place in inner]
    while high - low > 1e-4:
        if losses[0] <= losses[1]:
            high, inner[1], losses[1] = inner[1], inner[0], losses[0]
            inner[0] = high - golden * (high - low)
            losses[0] = _loss(scores, label, math.exp(inner[0]))
        else:
            low, inner[0], losses[0] = inner[0], inner[1], losses[1]
            inner[1] = low + golden * (high - low)
            losses[1] = _loss(scores, label, math.exp(inner[1]))
    return math.exp((low + high) / 2)
