"""Whether what the Gaussian part leaves of two variables still depends: a test by powers, for many columns and few rows.

What correlations explain is taken off one variable by least squares. Of jointly Gaussian variables the rest is independent of
the other variable; of others products of columns, or columns times the length of the row, often still correlate with it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mmg_diffusers.arrays.columns import Array

# Canonical directions whose powers are looked at, shuffles, and rows that are looked at.
DIRECTIONS, SHUFFLES, MOST = 8, 60, 4_000
# Rows that are needed more than columns.
ROOM = 40


class Bent(NamedTuple):
    """What was found: nats that second and third powers show beyond the Gaussian part, to second order; and the p-value."""

    nats: float
    chance: float


def bent(x: Array, y: Array, seed: int = 0) -> Bent | None:
    """Test the rest of each variable against powers of the other, by shuffled rows; ``None`` for too few rows.

    Args:
        x, y: `(N, d)` floats with normal margins.
        seed: of the shuffles.
    """
    from scipy.stats import gamma

    x, y = x[:MOST], y[:MOST]
    if len(x) < x.shape[1] + y.shape[1] + ROOM:
        return None
    rng = np.random.default_rng([seed, 3])
    one, two = _canonical(x, y)
    chances: list[float] = []
    beyond = 0.0
    for source, target in ((one, two), (two, one)):
        rest = _without(target, source)[:, :DIRECTIONS]
        length = np.square(source).sum(1, keepdims=True)
        some = source[:, :DIRECTIONS]
        turned, squares = _powers(some * length, source), _powers(_products(some), source)
        for powers, what in ((turned, rest), (squares, rest), (squares, _products(rest))):
            left = _standard(what)
            found = _together(powers, left)
            shuffled = np.array([_together(powers, left[rng.permutation(len(left))]) for _ in range(SHUFFLES)])
            mean, variance = float(shuffled.mean()), float(shuffled.var(ddof=1))
            chance = float(gamma.sf(found, mean**2 / variance, scale=variance / mean))
            chances.append(chance)
            beyond += max(found - mean, 0.0) / 2 if chance < 0.01 else 0.0
    # The same dependence shows from both sides.
    return Bent(beyond / 2, min(1.0, min(chances) * len(chances)))


def _canonical(x: Array, y: Array) -> tuple[Array, Array]:
    """Whitened columns of either, along canonical directions, the most correlated first."""
    white: list[Array] = []
    for values in (x, y):
        left, size, _ = np.linalg.svd(values - values.mean(0), full_matrices=False)
        white.append(left[:, size > 1e-9 * size[0]] * math.sqrt(len(values)))
    left, _, right = np.linalg.svd(white[0].T @ white[1])
    return white[0] @ left, white[1] @ right.T


def _without(values: Array, source: Array) -> Array:
    """What least squares by the source leaves."""
    design = np.hstack([np.ones((len(source), 1)), source])
    return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]


def _powers(values: Array, source: Array) -> Array:
    return _standard(_without(values, source))


def _products(values: Array) -> Array:
    first, second = np.triu_indices(values.shape[1])
    return values[:, first] * values[:, second]


def _standard(values: Array) -> Array:
    return (values - values.mean(0)) / np.maximum(values.std(0), 1e-300)


def _together(one: Array, two: Array) -> float:
    """The sum of squared correlations."""
    return float(np.square(one.T @ two / len(one)).sum())
