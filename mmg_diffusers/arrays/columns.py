"""Monotone maps of single coordinates, which make them easy to denoise and keep mutual information."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.interpolate import PPoly

Array = NDArray[np.float64]

# A column further from normal than this (Kolmogorov-Smirnov distance) is mapped to normal ranks.
NORMAL = 0.012
KNOTS = 64


@dataclass(frozen=True)
class Column:
    """A monotone map of one coordinate: to mean 0 and deviation 1, or through its ranks to a normal law."""

    mean: float
    deviation: float
    ranks: PPoly | None = None
    ends: tuple[float, float] = (0.0, 0.0)

    @staticmethod
    def fit(values: Array) -> Column:
        """Fit to training values; columns that are nearly normal stay linear."""
        # Here, and not above: importing the package should not wait for scipy.
        from scipy.interpolate import PchipInterpolator
        from scipy.special import ndtr, ndtri
        from scipy.stats import kstest

        mean, deviation = float(values.mean()), float(values.std())
        standard = (values - mean) / deviation
        # More than some thousand values tell nothing new about a distance of 1 %, and long tails none of the rest.
        if np.isfinite(standard).all() and kstest(standard[:20000], "norm").statistic < NORMAL:
            return Column(mean, deviation)
        distinct, counts = np.unique(values, return_counts=True)
        rank = (np.cumsum(counts) - counts / 2) / len(values)
        if len(distinct) > KNOTS:
            # Even in the normal scale, and few, so that the map is smooth in the tails too; the outermost values are
            # accidents of the sample.
            edge = max(rank[0], 1 - rank[-1], 5 / len(values))
            wanted = ndtr(np.linspace(ndtri(edge), -ndtri(edge), KNOTS))
            keep = np.unique(np.searchsorted(rank, wanted).clip(0, len(rank) - 1))
            distinct, rank = distinct[keep], rank[keep]
        centre, spread = float(np.median(values)), float(np.subtract(*np.quantile(values, [0.75, 0.25]))) or deviation
        knots = np.arcsinh((distinct - centre) / spread)
        # Values that this scale does not tell apart share a knot.
        apart = np.concatenate([[True], np.diff(knots) > 1e-12 * (knots[-1] - knots[0])])
        knots, rank = knots[apart], rank[apart]
        return Column(centre, spread, PchipInterpolator(knots, ndtri(rank)), (float(knots[0]), float(knots[-1])))

    def __call__(self, values: Array) -> Array:
        standard = (values - self.mean) / self.deviation
        if self.ranks is None:
            return standard
        # The inverse hyperbolic sine is linear in the middle and logarithmic far out, where few training values are.
        place = np.arcsinh(standard)
        low, high = self.ends
        inside = self.ranks(place.clip(low, high))
        # Beyond the knots, on along the secant over the outermost eighth.
        left, right = low + (high - low) / 8, high - (high - low) / 8
        slope_low = (self.ranks(left) - self.ranks(low)) / (left - low)
        slope_high = (self.ranks(high) - self.ranks(right)) / (high - right)
        return inside + (place - low).clip(max=0) * slope_low + (place - high).clip(min=0) * slope_high
