"""Mixtures of products of laws over equally spaced levels, such as the 256 of a pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from mmg_diffusers.checks import finite, of_type, shown, whole
from mmg_diffusers.worlds.densities.base import Array, Ints, KnownLaw, Labelled, log_sum, pick, shares

# Numbers of an intermediate result, so that memory stays bounded.
_AT_A_TIME = 2**21


@dataclass(frozen=True, eq=False)
class LevelMixture(KnownLaw):
    """A mixture whose components are products of laws over the same levels; the label of a value is its component.

    Args:
        weights: `(K,)` positive, in proportion to the components' probabilities.
        probabilities: `(K, d, levels)` positive, in proportion to the probabilities of each coordinate's levels.
        low, high: the least level and the greatest.

    Raises:
        TypeError: for probabilities that are no array.
        ValueError: for fewer than two levels, low above high, or numbers that are not positive.
    """

    weights: Array
    probabilities: Array
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", shares(self.weights, "weights"))
        of_type(self.probabilities, np.ndarray, "probabilities", "an array")
        held = self.probabilities.astype(np.float64)
        if held.ndim != 3 or len(held) != len(self.weights) or held.shape[2] < 2:
            raise ValueError(
                f"probabilities have shape {held.shape}; expected ({len(self.weights)}, coordinates, levels), two levels or more"
            )
        if not np.isfinite(held).all() or not (held > 0).all():
            raise ValueError(f"probabilities are {shown(self.probabilities)}; expected finite numbers above 0")
        if not finite(self.low, "low") < finite(self.high, "high"):
            raise ValueError(f"the levels run from {self.low} to {self.high}; expected a rising range")
        object.__setattr__(self, "probabilities", held / held.sum(2, keepdims=True))

    @classmethod
    def of_normals(
        cls, dim: int, components: int, levels: int, seed: int, width: tuple[float, float] = (0.02, 0.15)
    ) -> LevelMixture:
        """Make equally likely components whose coordinates are normal laws, cut into levels from -1 to 1.

        Centres are drawn from -0.8 to 0.8 and standard deviations between `width`; one share in a thousand is spread
        evenly, so that every level can occur.
        """
        whole(levels, "levels", 2)
        rng = np.random.default_rng(seed)
        centre = rng.uniform(-0.8, 0.8, (components, dim, 1))
        sd = rng.uniform(*width, (components, dim, 1))
        values = np.linspace(-1, 1, levels)
        edges = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
        mass = np.diff(norm.cdf((edges - centre) / sd), axis=2)
        return cls(np.ones(components), 0.999 * mass / mass.sum(2, keepdims=True) + 0.001 / levels)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.probabilities.shape[1:2]

    @property
    def levels(self) -> tuple[float, float, int]:
        return self.low, self.high, self.probabilities.shape[2]

    @property
    def labels(self) -> int:
        return len(self.weights)

    @property
    def values(self) -> Array:
        """`(levels,)` what a coordinate may be."""
        return np.linspace(*self.levels)

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        return self.draw_labelled(n, rng).x

    def draw_labelled(self, n: int, rng: np.random.Generator) -> Labelled:
        label = pick(self.weights, n, rng)
        below, unit = self.probabilities.cumsum(2), rng.random((n, *self.shape))
        x = np.empty((n, *self.shape))
        for k in range(self.labels):
            mine = label == k
            for i in range(self.shape[0]):
                index = np.searchsorted(below[k, i], unit[mine, i], side="right")
                x[mine, i] = self.values[index.clip(max=len(self.values) - 1)]
        return Labelled(x, label)

    def log_prob(self, x: Array, label: Ints | None = None) -> Array:
        index = self._index(self._flat(x))
        coordinate = np.arange(self.shape[0])
        each = np.stack([np.log(held[coordinate, index]).sum(1) for held in self.probabilities], 1)
        if label is not None:
            return each[np.arange(len(x)), self._label(label, len(x))]
        return log_sum(np.log(self.weights) + each)

    def _index(self, flat: Array) -> Ints:
        """Which level each coordinate is at."""
        step = (self.high - self.low) / (len(self.values) - 1)
        index = np.rint((flat - self.low) / step).astype(np.int64)
        off = (index < 0) | (index >= len(self.values)) | (np.abs(flat - self.low - step * index) > 1e-5 * step)
        if off.any():
            raise ValueError(
                f"x holds {shown(flat[off][0])}; expected one of {len(self.values)} levels from {self.low:g} to {self.high:g}"
            )
        return index

    def posterior_mean(self, observed: Array, sd: Array, label: Ints | None = None) -> Array:
        flat = self._flat(observed)
        rows = max(1, _AT_A_TIME // (self.labels * math.prod(self.probabilities.shape[1:])))
        of = None if label is None else self._label(label, len(flat))
        parts = [
            self._mean(
                flat[start : start + rows], sd[start : start + rows], None if of is None else of[start : start + rows]
            )
            for start in range(0, len(flat), rows)
        ]
        return np.concatenate(parts).reshape(observed.shape) if parts else observed.copy()

    def _mean(self, flat: Array, sd: Array, label: Ints | None) -> Array:
        square = np.square(flat[..., None] - self.values)
        # In proportion to the density of the observation under each level; the nearest has 1.
        fit = np.exp((square.min(2, keepdims=True) - square) / (2 * np.square(sd))[:, None, None])
        # Coordinates first: one product of matrices for each.
        total = np.matmul(fit.transpose(1, 0, 2), self.probabilities.transpose(1, 2, 0))  # (d, n, K)
        weighed = (self.probabilities * self.values).transpose(1, 2, 0)
        mean = np.matmul(fit.transpose(1, 0, 2), weighed) / total
        if label is not None:
            return np.take_along_axis(mean, label[None, :, None], 2)[..., 0].T
        log_weight = np.log(self.weights) + np.log(total).sum(0)
        share = np.exp(log_weight - log_sum(log_weight)[:, None])
        return (mean * share).sum(2).T
