"""Covariances of many dimensions: variances along a few directions, and one for the rest; fitted to few points or many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from mmg_diffusers.denoisers.levels import signal_and_noise

Kind = Literal["isotropic", "diagonal", "full", "low rank"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Shares of one variance in all directions that a full covariance is tried with.
SHARES = (0.0, *(10 ** (k / 4) for k in range(-24, 1)))


@dataclass(frozen=True)
class Spectrum:
    """A covariance of d coordinates: variances along r `vectors`, and `rest`, that of all other directions.

    Args:
        rest: one variance, or `(d,)` of them if there are no vectors.
        values: `(r,)` variances along the vectors.
        vectors: `(d, r)` orthonormal columns.

    Raises:
        ValueError: unless all variances are positive and finite.
    """

    rest: Tensor
    values: Tensor
    vectors: Tensor

    def __post_init__(self) -> None:
        for values in (self.rest, self.values):
            wrong = values[~(values.isfinite() & (values > 0))]
            if len(wrong.flatten()):
                raise ValueError(
                    f"the covariance of a reference is not positive definite: a variance is {float(wrong.flatten()[0]):.3g}; "
                    "expected all above 0. A coordinate that never changes has to be left out"
                )

    @classmethod
    def flat(cls, rest: Tensor, size: int) -> Spectrum:
        """Without vectors: `rest` alone."""
        return cls(rest, torch.zeros(0, dtype=torch.float64), torch.zeros((size, 0), dtype=torch.float64))

    @classmethod
    def of(cls, covariance: Tensor) -> Spectrum:
        """Of a full covariance `(d, d)`."""
        values, vectors = torch.linalg.eigh(covariance)
        return cls(torch.ones((), dtype=torch.float64), values, vectors.contiguous())

    def variances(self, size: int) -> tuple[Tensor, Tensor]:
        """All different variances `(K,)`, and how many of `size` directions have each."""
        held = len(self.values)
        if self.rest.ndim:
            return self.rest, torch.ones(size, dtype=torch.float64)
        left = torch.tensor([size - held], dtype=torch.float64)
        one = torch.ones(held, dtype=torch.float64)
        return (
            (self.values, one) if held == size else (torch.cat([self.values, self.rest[None]]), torch.cat([one, left]))
        )

    def squares(self, centred: Tensor) -> Tensor:
        """`(N, d) -> (N, K)`: squared lengths along the directions of each of `variances`."""
        if self.rest.ndim:
            return centred.square()
        along = (centred @ self.vectors).square()
        if along.shape[1] == centred.shape[1]:
            return along
        return torch.cat([along, (centred.square().sum(1) - along.sum(1)).clamp(min=0)[:, None]], 1)

    def whitened(self, centred: Tensor) -> Tensor:
        """S^-1 times rows of `(B, d)`."""
        if not len(self.values):
            return centred / self.rest
        along = centred @ self.vectors
        if len(self.values) == centred.shape[1]:
            return (along / self.values) @ self.vectors.T
        return centred / self.rest + (along * (1 / self.values - 1 / self.rest)) @ self.vectors.T

    def scaled(self, centred: Tensor, logsnr: Tensor) -> Tensor:
        """s (a^2 S + s^2)^-1 times rows of `(B, d)`, at levels `(B,)`."""
        a, s = (scale.to(centred)[:, None] for scale in signal_and_noise(logsnr.double()))

        def gain(variance: Tensor) -> Tensor:
            return s / (a**2 * variance.to(centred) + s**2)

        if not len(self.values):
            return gain(self.rest) * centred
        vectors = self.vectors.to(centred)
        coordinates = centred @ vectors
        if len(self.values) == centred.shape[1]:
            return (gain(self.values) * coordinates) @ vectors.T
        return gain(self.rest) * centred + ((gain(self.values) - gain(self.rest)) * coordinates) @ vectors.T


def fit_spectrum(x: Tensor, kind: Kind, rank: int | None) -> tuple[Spectrum, float]:
    """A covariance of `(n, d)`, and how much of it was shrunk."""
    count, size = x.shape
    if bool((x == x[0]).all()):
        raise ValueError(f"all {count} points are the same, which have no covariance; expected different ones")
    centred = x - x.mean(0)
    variances = centred.square().sum(0) / (count - 1)
    if kind == "isotropic":
        return Spectrum.flat(variances.mean(), size), 0.0
    if kind == "diagonal":
        return Spectrum.flat(variances, size), 0.0
    if rank is not None:
        return _spiked(centred, float(variances.sum()), rank), 0.0
    return _shrunk(x)


def _shrunk(x: Tensor) -> tuple[Spectrum, float]:
    """The covariance of `(n, d)`, shrunk to one variance in all directions by the share that explains held-out points best.

    Ledoit and Wolf (2004) shrink to the same target by what brings the entries near; small variances, to which a density
    is most sensitive, ask for less where points are many, and for far more where they are few. So the share is found on
    every fourth point, of the covariance of the others; of fewer than eight on each by itself.
    """
    size = x.shape[1]
    seen = distinct(x)
    numbers = torch.arange(len(seen))
    # Of few points each is left out in its turn.
    parts = [numbers == left for left in numbers] if len(seen) < 8 else [numbers % 4 == 3]
    # Two points tell of a single direction, and nothing of the others.
    parts = parts if len(seen) > 2 else []
    held = [_held_out(seen[~part], seen[part]) for part in parts]
    shares = [share for share in SHARES if share > 0 or all(len(one.values) == size for one in held)]

    def surprise(share: float) -> float:
        return math.fsum(one.surprise(share) for one in held)

    share = min(shares, key=surprise) if held else 1.0
    values, vectors, level = _principal(x - x.mean(0))
    rest = share * level if len(values) < size else 1.0
    return Spectrum(torch.tensor(rest, dtype=torch.float64), (1 - share) * values + share * level, vectors), share


def distinct(x: Tensor) -> Tensor:
    """The rows of `(n, d)` that differ, in their order, if these are few for so many dimensions; else all rows.

    A row that is there twice would be fitted on and held out at once. Of laws of few values, whose draws recur, all count.
    """
    found, which = torch.unique(x, dim=0, return_inverse=True)
    if len(found) > 2 * x.shape[1]:
        return x
    first = torch.full((len(found),), len(x)).scatter_reduce(0, which, torch.arange(len(x)), "amin")
    return x[first.sort().values]


@dataclass(frozen=True)
class _Held:
    """Points that were held out, beside the covariance of the others; see `_principal`.

    Args:
        values: `(r,)` variances of the others along their directions.
        level: their mean variance of all `size` directions.
        along: `(r,)` mean squares of the held-out points along the same directions.
        left: what is left of their mean square.
    """

    values: Tensor
    level: float
    along: Tensor
    left: float
    size: int

    def surprise(self, share: float) -> float:
        """Of the held-out points under the covariance, so much of which is shrunk; up to a constant and a factor."""
        seen, rest = (1 - share) * self.values + share * self.level, share * self.level
        total = float((self.along / seen + seen.log()).sum())
        more = self.size - len(self.values)
        return total + self.left / rest + more * math.log(rest) if more else total


def _held_out(fitted: Tensor, other: Tensor) -> _Held:
    values, vectors, level = _principal(fitted - fitted.mean(0))
    centred = other - fitted.mean(0)
    along = (centred @ vectors).square().mean(0)
    left = float(centred.square().sum(1).mean() - along.sum())
    return _Held(values, level, along, left, fitted.shape[1])


def _principal(centred: Tensor) -> tuple[Tensor, Tensor, float]:
    """Variances above 0 and their directions of centred `(n, d)`, `(r,)` and `(d, r)`, and the mean variance of all d."""
    count, size = centred.shape
    # The covariance, or the products of the points, which have the same eigenvalues.
    few = count <= size
    values, vectors = torch.linalg.eigh((centred @ centred.T if few else centred.T @ centred) / (count - 1))
    level = float(values.sum()) / size
    kept = values > 1e-10 * values[-1]
    values, vectors = values[kept], vectors[:, kept]
    if few:
        vectors = (centred.T @ vectors) / ((count - 1) * values).sqrt()
    return values, vectors.contiguous(), level


def _spiked(centred: Tensor, total: float, rank: int) -> Spectrum:
    """Variances along the leading directions of centred `(n, d)`, and one for the rest, which add up to `total`.

    Directions that were found among d / n noisy coordinates a point are only partly those of the law, and the sample's
    variance along them is too large. What is kept is the law's own variance along the direction found, as for spiked
    covariances (Donoho, Gavish and Johnstone 2018, section 4: with a spike l and a squared cosine c^2, l c^2 + 1 - c^2, the
    best for Stein's loss, which is the Kullback-Leibler divergence). Directions that do not stand out become the rest.
    """
    count, size = centred.shape
    values, vectors, _ = _principal(centred)
    seen, vectors = values.flip(0)[:rank], vectors.flip(1)[:, :rank].contiguous()
    if len(seen) < rank:
        raise ValueError(f"the points span {len(seen)} directions; expected at least {rank}, the rank")
    ratio = size / (count - 1)
    rest = (total - float(seen.sum())) / (size - rank)
    if rest < 1e-14 * total:
        raise ValueError(
            f"the points lie within {rank} directions, the rank, and vary in no other; expected a lower rank"
        )
    kept = seen
    for _ in range(20):
        # Sample variances, in units of the rest: l is the spike that shows as `scaled`.
        scaled = seen / rest
        middle = scaled + 1 - ratio
        spike = (middle + (middle.square() - 4 * scaled).clamp(min=0).sqrt()) / 2
        above = scaled > (1 + ratio**0.5) ** 2
        away = (spike - 1).clamp(min=1e-12)
        cosine = ((1 - ratio / away.square()) / (1 + ratio / away)).clamp(0, 1)
        kept = torch.where(above, rest * (1 + (spike - 1) * cosine), rest)
        rest = (total - float(kept.sum())) / (size - rank)
    return Spectrum(torch.tensor(rest, dtype=torch.float64), kept, vectors)
