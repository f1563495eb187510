"""Mixtures of isotropic Gaussians in any number of dimensions; pictures in noise are such mixtures, too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmg_diffusers.checks import finite, of_type, shown
from mmg_diffusers.worlds.densities.base import Array, Ints, KnownLaw, Labelled, log_sum, pick, shares
from mmg_diffusers.worlds.shapes import SIZE, render
from mmg_diffusers.worlds.shapes.render import NUISANCES, SHAPES


@dataclass(frozen=True, eq=False)
class GaussianMixture(KnownLaw):
    """A mixture of isotropic Gaussians; the label of a value is its component.

    Args:
        weights: `(K,)` positive, in proportion to the components' probabilities.
        means: `(K, *shape)`.
        sds: `(K,)` standard deviations.

    Raises:
        TypeError: for means that are no array.
        ValueError: for parts of other shapes, weights or deviations that are not positive, or values that are not finite.
    """

    weights: Array
    means: Array
    sds: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", shares(self.weights, "weights"))
        of_type(self.means, np.ndarray, "means", "an array")
        means, sds = self.means.astype(np.float64), np.asarray(self.sds, dtype=np.float64)
        count = len(self.weights)
        if means.ndim < 2 or len(means) != count or not np.isfinite(means).all():
            raise ValueError(f"the means are {shown(self.means)}; expected finite numbers, ({count}, *shape)")
        if sds.shape != (count,) or not np.isfinite(sds).all() or not (sds > 0).all():
            raise ValueError(f"the standard deviations are {shown(self.sds)}; expected {count} above 0")
        object.__setattr__(self, "means", means)
        object.__setattr__(self, "sds", sds)

    @classmethod
    def scattered(cls, dim: int, components: int, sd: float, seed: int, spread: float = 1.0) -> GaussianMixture:
        """Make a mixture of equally likely Gaussians whose means are N(0, spread^2) in every coordinate."""
        means = spread * np.random.default_rng(seed).standard_normal((components, dim))
        return cls(np.ones(components), means, np.full(components, sd))

    @classmethod
    def of_pictures(cls, pictures: NDArray[Any], sd: float) -> GaussianMixture:
        """Make the law of pictures `(K, *shape)`, all equally likely, in white noise; the label tells which picture it is."""
        of_type(pictures, np.ndarray, "pictures", "an array")
        return cls(np.ones(len(pictures)), pictures, np.full(len(pictures), finite(sd, "sd")))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.means.shape[1:]

    @property
    def labels(self) -> int:
        return len(self.weights)

    @property
    def entropy(self) -> float | None:
        if self.labels > 1:
            return None
        return math.prod(self.shape) * math.log(2 * math.pi * math.e * float(self.sds[0]) ** 2) / 2

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        return self.draw_labelled(n, rng).x

    def draw_labelled(self, n: int, rng: np.random.Generator) -> Labelled:
        label = pick(self.weights, n, rng)
        noise = rng.standard_normal((n, *self.shape))
        sd = self.sds[label].reshape(n, *(1,) * len(self.shape))
        return Labelled(self.means[label] + sd * noise, label)

    def log_prob(self, x: Array, label: Ints | None = None) -> Array:
        flat = self._flat(x)
        each = self._log_each(flat, np.zeros(len(flat)))
        if label is not None:
            return each[np.arange(len(flat)), self._label(label, len(flat))]
        return log_sum(np.log(self.weights) + each)

    def posterior_mean(self, observed: Array, sd: Array, label: Ints | None = None) -> Array:
        flat = self._flat(observed)
        means, noise = self.means.reshape(len(self.weights), -1), np.square(sd)
        # Of each component, the share of the observation in its posterior mean.
        gain = np.square(self.sds) / (np.square(self.sds) + noise[:, None])
        if label is not None:
            of = self._label(label, len(flat))
            mine = gain[np.arange(len(flat)), of][:, None]
            mean = means[of] + mine * (flat - means[of])
        else:
            log_weight = np.log(self.weights) + self._log_each(flat, noise)
            share = np.exp(log_weight - log_sum(log_weight)[:, None])
            mean = (share * gain).sum(1, keepdims=True) * flat + (share * (1 - gain)) @ means
        return mean.reshape(observed.shape)

    def _log_each(self, flat: Array, noise: Array) -> Array:
        """`(n, K)` log density of each component, in noise of variances `(n,)`."""
        means = self.means.reshape(len(self.weights), -1)
        square = np.stack([np.square(flat - mean).sum(1) for mean in means], 1)
        variance = np.square(self.sds) + noise[:, None]
        return -(square / variance + flat.shape[1] * np.log(2 * np.pi * variance)) / 2


def shapes_pictures(count: int, seed: int = 0) -> Array:
    """Draw pictures of the Shapes world, `(count, 3, 32, 32)` from -1 to 1, whose factors are all drawn evenly."""
    unit = np.random.default_rng(seed).random((count, 4 + len(NUISANCES)))
    shape = (unit[:, 3] * len(SHAPES)).astype(np.int64)
    images, _, _ = render(unit[:, 0], unit[:, 1], unit[:, 2], shape, np.ascontiguousarray(unit[:, 4:]))
    assert images.shape[1:] == (SIZE, SIZE, 3)
    return 2 * images.transpose(0, 3, 1, 2).astype(np.float64) - 1
