"""What the images held back tell about a learner: temperatures, the weights of the path auto, and the limit for unknown images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segp_ext.config import from_dict

_SHARES = tuple(step / 20 for step in range(21))
"""Shares of the trained model that the path auto tries."""
_LOW, _HIGH = math.log(1e-3), math.log(1e4)
"""Bounds of the logarithm of a temperature."""
_LEVELS = 201
"""Quantiles of the fit that a calibration keeps, evenly spaced from 0 to 1."""
BINS = 15
"""Bins of the expected calibration error, as in Guo et al. (arXiv 1706.04599)."""


NO_LIMIT = (
    "this learner knows no limit for unknown images, as it held none of its training images back; learn with --method auto, or with "
    "calibration.fraction above 0"
)
"""What an error says of a learner that cannot tell unknown images."""


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
        fit: 201 quantiles, evenly spaced from 0 to 1, of how well the images fit the learnt classes (`segp_ext.method.unknown`); empty
            without images.
    """

    images: int
    paths: dict[str, PathCalibration] = field(default_factory=dict)
    trained_share: float = 0.0
    fit: tuple[float, ...] = ()

    def temperature(self, path: str) -> float:
        """Returns the temperature of a path; 1 where no image was held back."""
        found = self.paths.get(path)
        return 1.0 if found is None else found.temperature

    def limit(self, rate: float) -> float:
        """Returns the fit below which this share of images of learnt classes lies.

        A rate below 1/(N + 1) gives the worst fit of the N images: so few images tell no more.

        Raises:
            ValueError: For a rate that is not between 0 and 1, or a calibration without images.
        """
        if not isinstance(rate, (int, float)) or not 0 < rate < 1:
            raise ValueError(
                f"unknown must be the share of images of learnt classes that may be called unknown, above 0 and below 1; got {rate!r}"
            )
        if not self.fit:
            raise ValueError(NO_LIMIT)
        place = rate * (_LEVELS - 1)
        low = math.floor(place)
        return self.fit[low] + (place - low) * (self.fit[low + 1] - self.fit[low])

    def unknown_share(self, fit: Tensor) -> Tensor:
        """Tells how unusual images are, float64 `[N]` from 0 to 1: the share of images of learnt classes that fit better.

        Args:
            fit: How well the images fit the learnt classes, `[N]`.
        """
        quantiles = torch.tensor(self.fit, dtype=torch.float64, device=fit.device)
        return 1 - torch.searchsorted(quantiles, fit.double(), right=True) / _LEVELS


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
    fit = found["fit"]
    quantiles = isinstance(fit, (list, tuple)) and all(isinstance(value, (int, float)) for value in fit)
    if not quantiles or len(fit) not in (0, _LEVELS) or not all(a <= b for a, b in pairwise(fit)):
        raise ValueError(f"measured.fit must be {_LEVELS} numbers in rising order, or none; got {fit!r:.200}")
    return Calibration(found["images"], paths, found["trained_share"], tuple(fit))


def calibrate(scores: Mapping[str, Tensor], label: Tensor, fit: Tensor) -> Calibration:
    """Fits temperatures and the weights of the path auto.

    Scores of both models are stacked like predictions in stacked generalisation (Wolpert 1992; for probabilities, Ting and Witten 1999). Of
    the shares whose negative log-likelihood is within one standard error of the least, the share nearest to one half is taken: where the
    images cannot tell two models apart, their mean is the safer choice.

    Args:
        scores: Scores of the images held back by path, `[N, C]` each. With the paths dual and frozen, auto is fitted too.
        label: Class of each image, int64 `[N]`.
        fit: How well each image fits the learnt classes, `[N]`.
    """
    if not len(label):
        return Calibration(0)
    paths = {path: _fitted(of_path.double(), label) for path, of_path in scores.items()}
    share = 0.0
    if "frozen" in scores and "dual" in scores:
        share = chosen_share(share_losses(scores, label, paths))
        chosen = Calibration(len(label), paths, share)
        paths["auto"] = _fitted(mixed_scores(scores["dual"].double(), scores["frozen"].double(), chosen), label)
    return Calibration(len(label), paths, share, quantiles_of(fit))


def measured_again(scores: Mapping[str, Tensor], label: Tensor, fit: Tensor, before: Calibration) -> Calibration:
    """Measures anew how a learner fares that lost classes; its temperatures and the weights of the path auto stay.

    The scores of the other classes then stay too, and their probabilities keep their ratios.

    Args:
        scores, label, fit: As `calibrate` takes them, of the classes that are left.
        before: What was found before.
    """
    found = {path: of_path.double() for path, of_path in scores.items()}
    if "auto" in before.paths:
        found["auto"] = mixed_scores(found["dual"], found["frozen"], before)
    paths = {path: _fared(of_path, label, before.temperature(path)) for path, of_path in found.items()}
    return Calibration(len(label), paths, before.trained_share, quantiles_of(fit))


def quantiles_of(fit: Tensor) -> tuple[float, ...]:
    """Returns the quantiles that a calibration keeps, of values `[N]`.

    The i-th smallest of N values stands for the level i/(N + 1), since a further value falls below it with that probability. Values
    between are interpolated, and the levels beyond have the smallest and the largest value.
    """
    ordered = fit.double().sort().values.cpu().numpy()
    count = len(ordered)
    levels = np.arange(1, count + 1) / (count + 1)
    return tuple(np.interp(np.linspace(0, 1, _LEVELS), levels, ordered).tolist())


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
    return float(calibration_gaps(probabilities, label).abs().sum() / len(label))


def calibration_gaps(probabilities: Tensor, label: Tensor) -> Tensor:
    """Adds up best probability minus hit in each bin, float64 `[15]`. Gaps of several batches add up; see `calibration_error`."""
    best, named = probabilities.double().max(dim=1)
    right = (named == label).double()
    place = (best * BINS).ceil().clamp(1, BINS).long() - 1
    return torch.zeros(BINS, dtype=torch.float64, device=best.device).index_add_(0, place, best - right)


def _fitted(scores: Tensor, label: Tensor) -> PathCalibration:
    return _fared(scores, label, _best_temperature(scores, label))


def _fared(scores: Tensor, label: Tensor, temperature: float) -> PathCalibration:
    before, after = scores.softmax(dim=1), (scores / temperature).softmax(dim=1)
    return PathCalibration(
        temperature,
        float((scores.argmax(dim=1) == label).double().mean()),
        calibration_error(before, label),
        calibration_error(after, label),
    )


def share_losses(
    scores: Mapping[str, Tensor], label: Tensor, paths: Mapping[str, PathCalibration]
) -> dict[float, Tensor]:
    """Computes the loss of each image under each share of the trained model that the path auto may take, `[N]` by share.

    Args:
        scores, label: As `calibrate` takes them.
        paths: Calibration of the paths dual and frozen.
    """
    trained, frozen = (scores[path].double() / paths[path].temperature for path in ("dual", "frozen"))
    sums = {share: share * trained + (1 - share) * frozen for share in _SHARES}
    return {share: _losses(of, label, _best_temperature(of, label)) for share, of in sums.items()}


def chosen_share(losses: Mapping[float, Tensor]) -> float:
    """Chooses a share by the images' losses under each, `[N]`; see `calibrate`."""
    best = min(losses.values(), key=lambda of: float(of.mean()))

    def undecided(weight: float) -> bool:
        apart = losses[weight] - best
        return float(apart.mean()) <= float(apart.std(correction=0)) / math.sqrt(len(apart))

    return min(filter(undecided, losses), key=lambda weight: abs(weight - 0.5))


def _loss(scores: Tensor, label: Tensor, temperature: float) -> float:
    """Computes the mean negative log-likelihood of images; see `_losses`."""
    return float(_losses(scores, label, temperature).mean())


def _losses(scores: Tensor, label: Tensor, temperature: float) -> Tensor:
    """Computes the negative log-likelihood of each image, `[N]`.

    Half an image in N + 1 counts as its strongest other class: the share of errors to expect where none was seen, under Jeffreys' prior.
    Without it, scores that are always right would ask for a temperature of 0. Platt (1999) takes an image in N + 2, which leaves scores
    that are nearly always right too unsure (evidence/results/unknown).
    """
    logs = (scores / temperature).log_softmax(dim=1)
    own = logs.gather(1, label[:, None])[:, 0]
    if logs.shape[1] == 1:
        return -own
    other = logs.scatter(1, label[:, None], -torch.inf).max(dim=1).values
    share = 0.5 / (len(label) + 1)
    return -((1 - share) * own + share * other)


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
