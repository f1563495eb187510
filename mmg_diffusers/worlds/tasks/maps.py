"""Bijections of one variable: they change its shape and leave the mutual information alone.

A map takes `(n, d)` float64 and returns n rows of float64. A `Change` is a pair of maps, one of x and one of
y. The definitions are those of Czyz et al. 2023, "Beyond Normal: On the Evaluation of Mutual Information
Estimators".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Array = NDArray[np.float64]
Map = Callable[[Array], Array]

_HALVINGS = 53
"""Bisections of a bracket: all the bits of a float64."""


def identity(v: Array) -> Array:
    """The variable as it is."""
    return v


def normal_cdf(v: Array) -> Array:
    """A standard normal's distribution function: normal margins become uniform on [0, 1]."""
    return ndtr(v)


def half_cube(v: Array) -> Array:
    """The sign of v times |v|^1.5, which lengthens the tails."""
    return v * np.sqrt(np.abs(v))


def asinh(v: Array) -> Array:
    """The inverse hyperbolic sine, which shortens the tails."""
    return np.arcsinh(v)


def wiggly_x(v: Array) -> Array:
    """A rising curve with waves."""
    return v + 0.4 * np.sin(v) + 0.2 * np.sin(1.7 * v + 1) + 0.03 * np.sin(3.3 * v - 2.5)


def wiggly_y(v: Array) -> Array:
    """Another rising curve with waves."""
    return v - 0.4 * np.sin(0.4 * v) + 0.17 * np.sin(1.3 * v + 3.5) + 0.02 * np.sin(4.3 * v - 2.5)


def swissroll(u: Array) -> Array:
    """One uniform column on [0, 1], rolled up in the plane: `(n, 1)` to `(n, 2)`."""
    t = 1.5 * np.pi * (1 + 2 * u)
    return np.hstack([t * np.cos(t), t * np.sin(t)]) / 21


@dataclass(frozen=True)
class BimodalQuantile:
    """The quantile function of weight N(low, 1) + (1 - weight) N(high, 1), for low < high.

    It takes probabilities strictly between 0 and 1.
    """

    weight: float
    low: float
    high: float

    def __call__(self, u: Array) -> Array:
        # A mixture's quantile lies between those of its components. Bisection, since Newton's step overshoots
        # where the density is nearly 0, between the two modes.
        normal = ndtri(u)
        left, right = self.low + normal, self.high + normal
        for _ in range(_HALVINGS):
            middle = (left + right) / 2
            below = self.weight * ndtr(middle - self.low) + (1 - self.weight) * ndtr(middle - self.high) < u
            left, right = np.where(below, middle, left), np.where(below, right, middle)
        return (left + right) / 2


@dataclass(frozen=True)
class Spiral:
    """A rotation by the angle |v|^2 / d in the plane of two coordinates, from the first axis to the second.

    The norm is kept, so the same rotation backwards is the inverse.
    """

    first: int
    second: int

    def __call__(self, v: Array) -> Array:
        dim = v.shape[1]
        if dim <= max(self.first, self.second):
            raise ValueError(
                f"the variable has {dim} coordinates; this spiral turns coordinates {self.first} and "
                f"{self.second}, counted from 0: give it a variable that has both"
            )
        angle = np.square(v).sum(1) / dim
        cos, sin = np.cos(angle), np.sin(angle)
        turned = v.copy()
        turned[:, self.first] = cos * v[:, self.first] - sin * v[:, self.second]
        turned[:, self.second] = sin * v[:, self.first] + cos * v[:, self.second]
        return turned


@dataclass(frozen=True)
class Warp:
    """A random invertible network of one variable: layers of a rotation, a rising bend and a coupling.

    The bend is v + bend sin(v), bend below 1; the coupling adds to one half of the coordinates a function of the other
    half. `undone` is its inverse.
    """

    dim: int
    seed: int
    layers: int = 3
    bend: float = 0.7

    def _parts(self) -> list[tuple[Array, Array]]:
        rng = np.random.default_rng(self.seed)
        half = self.dim // 2
        return [
            (
                np.linalg.qr(rng.standard_normal((self.dim, self.dim)))[0],
                rng.standard_normal((half, self.dim - half)) / np.sqrt(half),
            )
            for _ in range(self.layers)
        ]

    def __call__(self, v: Array) -> Array:
        half = self.dim // 2
        for turn, mix in self._parts():
            v = v @ turn
            v = v + self.bend * np.sin(v)
            v = np.hstack([v[:, :half], v[:, half:] + np.tanh(v[:, :half]) @ mix])
        return v

    def undone(self, v: Array) -> Array:
        """Invert the network."""
        half = self.dim // 2
        for turn, mix in reversed(self._parts()):
            v = np.hstack([v[:, :half], v[:, half:] - np.tanh(v[:, :half]) @ mix])
            low, high = v - self.bend, v + self.bend
            for _ in range(60):
                middle = (low + high) / 2
                below = middle + self.bend * np.sin(middle) < v
                low, high = np.where(below, middle, low), np.where(below, high, middle)
            v = (low + high) / 2 @ turn.T
        return v


@dataclass(frozen=True)
class Change:
    """A map of x with a map of y, and what they add to a task's key and name."""

    key: str
    name: str
    x: Map
    y: Map


NORMAL_CDF = Change("normal_cdf", "Normal CDF", normal_cdf, normal_cdf)
HALF_CUBE = Change("half_cube", "Half-cube", half_cube, half_cube)
ASINH = Change("asinh", "Asinh", asinh, asinh)
WIGGLY = Change("wiggly", "Wiggly", wiggly_x, wiggly_y)
BIMODAL = Change("bimodal", "Bimodal", BimodalQuantile(0.3, 0.0, 5.0), BimodalQuantile(0.5, -1.0, 3.0))
SWISSROLL_X = Change("swissroll_x", "Swiss roll", swissroll, identity)
# Two different planes, or the two rotations would partly undo each other in a pair that moves together.
SPIRAL = Change("spiral", "Spiral", Spiral(0, 1), Spiral(1, 2))
