"""Laws of columns that are cut into cells, or at zero, and of what two columns tell only together; with their information."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, xlogy

from mmg_diffusers.worlds.tasks.everyday import Wave
from mmg_diffusers.worlds.tasks.laws import REACH, Array, LabelledNormal, Law, ManyToOne, Pair, normal

_FINE = 4001
"""Points of a trapezoidal sum over one axis of a normal law."""


@dataclass(frozen=True)
class Cut(Law):
    """A normal v; x the number of its cell among rising `edges`, as a float, and y = v + N(0, noise^2), which is not cut.

    The truth is a sum over cells under an integral over y, of which v is normal: the mean of log P(cell | y) / P(cell).
    """

    edges: tuple[float, ...]
    noise: float

    def chances(self, y: Array) -> Array:
        """P(cell | y), `(cells, len(y))`."""
        spread = math.hypot(1.0, self.noise)
        ends = np.concatenate([[-np.inf], self.edges, [np.inf]])
        return np.diff(ndtr((ends[:, None] - y / spread**2) * spread / self.noise), axis=0)

    @property
    def shares(self) -> Array:
        """P(cell)."""
        return np.diff(ndtr(np.concatenate([[-np.inf], self.edges, [np.inf]])))

    @property
    def mi_nats(self) -> float:
        spread = math.hypot(1.0, self.noise)
        reach = REACH * spread
        y = np.linspace(-reach, reach, 1 + math.ceil(2 * reach / (self.noise / 8)))
        given, shares = self.chances(y), self.shares[:, None]
        told = xlogy(given, np.maximum(given, 1e-300)) - xlogy(given, shares)
        return float((normal(y, spread) * told.sum(0)).sum() * (y[1] - y[0]))

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        v, noise = rng.standard_normal((2, n, 1))
        return np.searchsorted(self.edges, v).astype(float), v + self.noise * noise


@dataclass(frozen=True)
class Rectified(Law):
    """max(v, 0) of two normals of correlation r: each is exactly 0 in half of the rows, and has a density in the others.

    The truth has four parts: both are 0, one of them is, neither is.
    """

    correlation: float

    @property
    def mi_nats(self) -> float:
        r = self.correlation
        left = math.sqrt(1 - r * r)
        both = 0.25 + math.asin(r) / (2 * math.pi)
        x = np.linspace(0, REACH, _FINE)
        step = x[1] - x[0]
        even = np.full(_FINE, step)
        even[[0, -1]] /= 2
        below = ndtr(-r * x / left)
        one = float((even * normal(x, 1.0) * xlogy(below, np.maximum(2 * below, 1e-300))).sum())
        given = normal(x - r * x[:, None], left)
        told = xlogy(given, np.maximum(given, 1e-300) / normal(x, 1.0))
        neither = float((even * normal(x, 1.0)) @ told @ even)
        return both * math.log(4 * both) + 2 * one + neither

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        v, noise = rng.standard_normal((2, n, 1))
        other = self.correlation * v + math.sqrt(1 - self.correlation**2) * noise
        return np.maximum(v, 0), np.maximum(other, 0)


@dataclass(frozen=True)
class Exclusive(ManyToOne):
    """x of `dim` fair bits, and y whether the first and the last differ, in normal noise: no single bit tells anything."""

    noise: float

    @property
    def mi_nats(self) -> float:
        return LabelledNormal((0.5, 0.5), ((0.0,), (1.0,)), (self.noise, self.noise)).mi_nats

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        x = rng.integers(2, size=(n, self.dim)).astype(float)
        return x, (x[:, :1] != x[:, -1:]) + self.noise * rng.standard_normal((n, 1))


@dataclass(frozen=True)
class WaveOfTwo(ManyToOne):
    """x of `dim` uniforms on [-pi, pi], and y = cos(turns (x_first - x_last)) + N(0, noise^2), for a whole number of turns."""

    turns: int
    noise: float

    @property
    def mi_nats(self) -> float:
        # The phase is uniform, as that of a wave of one column.
        return Wave(self.turns, self.noise).mi_nats

    def draw(self, n: int, rng: np.random.Generator) -> Pair:
        x = rng.uniform(-math.pi, math.pi, (n, self.dim))
        return x, np.cos(self.turns * (x[:, :1] - x[:, -1:])) + self.noise * rng.standard_normal((n, 1))
