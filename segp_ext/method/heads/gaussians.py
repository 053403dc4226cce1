"""Normally distributed classes: discriminant analysis about prototypes, with covariances learnt task after task from sums."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from segp_ext.config import MethodConfig
from segp_ext.method.class_places import merged_rows, places_kept
from segp_ext.method.heads.base import Head
from segp_ext.runtime.processes import Processes


class Gaussians(Head):
    """Normal distributions of features about their classes' means, all classes equally likely.

    With `prototypes.features` unit, features are normalised first. The mean of a class is then its prototype, times the length that the
    mean of its unit features had when it was learnt. With raw, the prototype is the mean.

    Σ_c = (1 − γ)·((1 − λ)·Σ + λ·S_c) + γ·v·I. Σ is the covariance of all images about the means of their classes, and S_c is the covariance
    of class c alone. v is the mean variance of the mixture of both. λ = 0 is linear discriminant analysis, λ = 1 a quadratic one. In
    between lies regularised discriminant analysis (Friedman 1989; for class-incremental learning on frozen features, FeCAM,
    arXiv 2309.14062). Sums are added up in float64, batch by batch. Sums of earlier tasks stay as the model of that time gave them.

    Args:
        width: Dr, the width of raw features.
        device: device of the features.
        config: γ is `prototypes.shrinkage`. None estimates γ from Σ and the number of images, by oracle approximating
            shrinkage (Chen, Wiesel, Eldar, Hero 2010). This share fits normally distributed features best. λ is
            `prototypes.own_covariance`; above 0 every class keeps a matrix `[Dr, Dr]`.

    Attributes:
        scatters: sums of (z − μ)(z − μ)ᵀ, each image about its class's mean, float64. λ = 0 has one sum of all classes `[1, Dr, Dr]`;
            λ above 0 has one of each class `[C, Dr, Dr]`. Once classes were removed, one more row is the sum of them all: it counts in Σ
            as before, so that the scores of other classes stay.
        counts: number of images in each of these sums.
        lengths: lengths of the classes' means when they were learnt, float64 `[C]`.
        share: γ in use.
    """

    def __init__(self, width: int, device: torch.device, config: MethodConfig) -> None:
        settings = config.prototypes
        self.shrinkage, self.own, self.unit = settings.shrinkage, settings.own_covariance, settings.features == "unit"
        self.settings = self.shrinkage, self.own, self.unit
        self.scatters = torch.zeros(0, width, width, dtype=torch.float64, device=device)
        self.counts = torch.zeros(0, dtype=torch.float64, device=device)
        self.lengths = torch.zeros(0, dtype=torch.float64, device=device)
        self._factors, self._volumes, self.share = self.scatters, self.counts, 0.0
        self.begin(0)

    def begin(self, classes: int) -> None:
        """Starts a task of `classes` classes."""
        width, device = self.scatters.shape[1], self.scatters.device
        groups = classes if self.own > 0 else 1
        self._products = torch.zeros(groups, width, width, dtype=torch.float64, device=device)
        self._sums = torch.zeros(classes, width + 1, dtype=torch.float64, device=device)  # the last column counts

    def add(self, feature: Tensor, label: Tensor, index: Tensor) -> None:
        """Takes raw features `[N, Dr]` of images with labels int64 `[N]` within the task; their numbers in it do not matter here."""
        z = self.taken(feature)
        self._sums.index_add_(0, label, torch.cat([z, z.new_ones(len(z), 1)], dim=1))
        for group in label.unique().tolist() if self.own > 0 else [0]:
            rows = z[label == group] if self.own > 0 else z
            self._products[group] += rows.T @ rows

    def taken(self, feature: Tensor) -> Tensor:
        """Returns features as the distributions take them, float64 `[N, Dr]`: of unit length where `prototypes.features` is unit."""
        return F.normalize(feature.double(), dim=1) if self.unit else feature.double()

    def finish(self, processes: Processes) -> None:
        """Ends the task."""
        products, sums = processes.sum(self._products), processes.sum(self._sums)
        counts = sums[:, -1]
        means = sums[:, :-1] / counts[:, None]
        if self.own > 0:
            squares = counts[:, None, None] * means[:, :, None] * means[:, None, :]
            known = len(self.lengths)  # the sum of removed classes stands behind
            scatters = torch.cat([self.scatters[:known], products - squares, self.scatters[known:]])
            counts = torch.cat([self.counts[:known], counts, self.counts[known:]])
        else:
            squares = (counts[:, None] * means).T @ means
            scatters = (products - squares) + self.scatters.sum(dim=0, keepdim=True)
            counts = (counts.sum() + self.counts.sum())[None]
        self._take(scatters, counts, torch.cat([self.lengths, means.norm(dim=1)]))
        self.begin(0)

    def update(self, feature: Tensor, label: Tensor, means: Tensor, counts: Tensor) -> None:
        """Adds more images of known classes to the sums; see `Head.update`."""
        scatters, totals, lengths = self.scatters.clone(), self.counts.clone(), self.lengths.clone()
        z = self.taken(feature)
        for place in label.unique().tolist():
            rows, old = z[label == place], counts[place]
            mean, count = rows.mean(dim=0), len(rows)
            apart = mean - means[place]
            scatter = (rows - mean).T @ (rows - mean) + old * count / (old + count) * apart[:, None] * apart
            group = place if self.own > 0 else 0
            scatters[group] += scatter
            totals[group] += count
            lengths[place] = ((old * means[place] + count * mean) / (old + count)).norm()
        self._take(scatters, totals, lengths)

    def keep(self, places: Tensor) -> None:
        """Leaves classes out; their sums go on to count in Σ. See `Head.keep`."""
        scatters, counts, factors, volumes = self.scatters, self.counts, self._factors, self._volumes
        known, lengths = len(self.lengths), self.lengths[places]
        if self.own > 0 and len(places) < known:
            gone = torch.cat([places_kept(known, places), torch.arange(known, len(counts), device=places.device)])
            scatters = torch.cat([scatters[places], scatters[gone].sum(dim=0, keepdim=True)])
            counts = torch.cat([counts[places], counts[gone].sum()[None]])
            factors, volumes = factors[places], volumes[places]
        self.scatters, self.counts, self.lengths = scatters, counts, lengths
        self._factors, self._volumes = factors, volumes

    def merge(self, places: Tensor, means: Tensor, counts: Tensor) -> None:
        """Makes one class of several, whose scatter holds the differences of their means too; see `Head.merge`."""
        own = counts[places]
        mean = (own[:, None] * means[places]).sum(dim=0) / own.sum()
        apart = means[places] - mean
        between = (own[:, None] * apart).T @ apart
        scatters, totals = self.scatters, self.counts
        if self.own > 0:
            scatters = merged_rows(scatters, places, scatters[places].sum(dim=0) + between)
            totals = merged_rows(totals, places, own.sum())
        else:
            scatters = scatters + between
        self._take(scatters, totals, merged_rows(self.lengths, places, mean.norm()))

    def left_out_scores(
        self, feature: Tensor, label: Tensor, means: Tensor, counts: Tensor, logit_scale: float
    ) -> Tensor:
        """Scores images as if their classes had not learnt them; see `Head.left_out_scores`.

        An image z of a class of n images with mean m gave d dᵀ·n/(n − 1) to its class's sum, d = z − m. Without that, every covariance is
        Σ_c − a_c d dᵀ, whose inverse has a closed form (Sherman and Morrison 1950). What is left of the class has the mean m − d/(n − 1).
        Left out is the change of scale, 1/n, that dividing by one image fewer brings.
        """
        z = self.taken(feature)
        apart, count = z - means[label], counts[label]
        ratio, total = count / (count - 1), self.counts.sum()
        shared = (1 - self.share) * (1 - self.own) * ratio / total
        extra = (1 - self.share) * self.own * ratio / count
        columns = []
        for place, centre in enumerate(means):
            group = place if self.own > 0 else 0
            factor, volume = self._factors[group], self._volumes[group]
            mine = label == place
            from_mean = torch.where(mine[:, None], apart * ratio[:, None], z - centre) @ factor
            along = apart @ factor
            share = shared + extra * mine
            left = (1 - share * along.square().sum(dim=1)).clamp(min=1e-6)
            distance = from_mean.square().sum(dim=1) + share * (from_mean * along).sum(dim=1).square() / left
            columns.append(-0.5 * distance - (volume + 0.5 * left.log() if self.own > 0 else 0))
        return torch.stack(columns, dim=1)

    def _take(self, scatters: Tensor, counts: Tensor, lengths: Tensor) -> None:
        """Keeps the sums; for each covariance also a factor A of its inverse, A Aᵀ = Σ_c⁻¹, and ½ log det Σ_c. It keeps all or nothing."""
        shared = scatters.sum(dim=0) / counts.sum().clamp(min=1)
        shrinkage = self._estimated(shared, counts) if self.shrinkage is None else self.shrinkage
        factors, volumes = [], []
        groups = len(lengths) if self.own > 0 else 1
        for scatter, count in zip(scatters[:groups], counts[:groups], strict=True):
            covariance = (1 - self.own) * shared + self.own * scatter / count
            variance = covariance.diagonal().mean().clamp(min=1e-12)  # images that are all alike have none
            identity = torch.eye(len(shared), dtype=torch.float64, device=shared.device)
            values, vectors = torch.linalg.eigh((1 - shrinkage) * covariance + shrinkage * variance * identity)
            values = values.clamp(min=float(torch.finfo(torch.float64).eps * torch.maximum(values[-1], variance)))
            factors.append(vectors * values.rsqrt())
            volumes.append(values.log().sum() / 2)
        self.scatters, self.counts, self.lengths = scatters, counts, lengths
        self._factors, self._volumes, self.share = torch.stack(factors), torch.stack(volumes), shrinkage

    @staticmethod
    def _estimated(covariance: Tensor, counts: Tensor) -> float:
        spread, level = covariance.square().mean(), covariance.diagonal().mean().square()
        apart = (counts.sum() + 1) * (spread - level / len(covariance))
        return float(((spread + level) / apart).clamp(max=1)) if apart > 0 else 1.0

    def scores(self, feature: Tensor, prototypes: Tensor, logit_scale: float) -> Tensor:
        """Computes −½ (z − p)ᵀ Σ_c⁻¹ (z − p) − ½ log det Σ_c, log-likelihoods up to a constant that classes share; p is the class's mean.

        Args:
            feature: raw features `[B, Dr]`.
            prototypes: prototypes of all classes so far, `[C, Dr]`.
            logit_scale: does not matter here.

        Returns:
            Scores, float32 `[B, C]`.
        """
        z, p = self.taken(feature), prototypes.double()
        if self.unit:
            p = p * self.lengths[:, None]
        if self.own > 0:
            columns = [
                -0.5 * ((z - centre) @ factor).square().sum(dim=1) - volume
                for centre, factor, volume in zip(p, self._factors, self._volumes, strict=True)
            ]
            return torch.stack(columns, dim=1).float()
        z, p = z @ self._factors[0], p @ self._factors[0]
        return (z @ p.T - 0.5 * p.square().sum(dim=1) - 0.5 * z.square().sum(dim=1, keepdim=True)).float()

    def state(self) -> dict[str, Tensor]:
        """Returns the tensors that a checkpoint keeps, by name."""
        return {"scatters": self.scatters, "counts": self.counts, "lengths": self.lengths}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Takes over the tensors that `state` gave.

        Raises:
            ValueError: naming the tensor that does not fit the others.
        """
        scatters, counts, lengths = (state[name].to(self.scatters.device) for name in ("scatters", "counts", "lengths"))
        groups = len(lengths) if self.own > 0 else min(len(lengths), 1)
        if self.own > 0 and groups and len(scatters) == len(counts) == groups + 1:
            groups += 1  # the sum of removed classes
        width = self.scatters.shape[1]
        for name, tensor, shape in (("scatters", scatters, [groups, width, width]), ("counts", counts, [groups])):
            if list(tensor.shape) != shape:
                raise ValueError(f"head.{name} must be {shape} for {len(lengths)} classes; got {list(tensor.shape)}")
        if groups:
            self._take(scatters, counts, lengths)
