"""Weights of fixed levels: of the whole range, of a band of it, and from every level upwards."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def trapezoid(levels: Tensor) -> Tensor:
    """Weights of the trapezoidal rule from the first of rising levels to the last, `(L,) -> (L,)`."""
    step = levels.diff() / 2
    weights = torch.zeros_like(levels)
    weights[:-1] += step
    weights[1:] += step
    return weights


def _to_first(levels: Tensor, low: float, points: int) -> Tensor:
    """Weights of the integral from the first level to `low`, `(L,)`; negative if `low` lies below it.

    Below the first level its value goes on; above it runs the polynomial through the first levels, 2 or 3 `points`.
    """
    first = float(levels[0])
    weights = torch.zeros_like(levels)
    if low <= first:
        weights[0] = low - first
        return weights
    known = levels[: min(points, len(levels))] - first
    powers = torch.arange(1, len(known) + 1, dtype=torch.float64)
    moments = (low - first) ** powers / powers
    weights[: len(known)] = torch.linalg.solve(torch.stack([known**power for power in powers - 1]), moments)
    return weights


def _within_ends(weights: Tensor, levels: Tensor, low: float, high: float, points: int) -> Tensor:
    """Weights from the first level to the last, `(L,)`, made those of the integral from `low` to `high`."""
    above = _to_first(-levels.flip(0), -high, points).flip(0)
    return weights - _to_first(levels, low, points) - above


def trapezoid_over(levels: Tensor, low: float, high: float) -> Tensor:
    """Weights of the trapezoidal rule from `low` to `high`, on rising levels of which the first and the last are those
    nearest to the ends; `(L,) -> (L,)`.

    What is integrated are the straight lines between the levels; beyond the first and the last, their values go on.
    """  # fmt: skip
    return _within_ends(trapezoid(levels), levels, low, high, 2)


def simpson_over(levels: Tensor, low: float, high: float) -> Tensor:
    """As `trapezoid_over`, by Simpson's rule for steps of any width (Cartwright 2017)."""
    return _within_ends(_cumulative_simpson(levels)[0], levels, low, high, 3)


def starts(levels: Tensor, low: float, high: float) -> Tensor:
    """Where `upper_trapezoid` and `upper_simpson` begin, `(L,)`: at `low`, each level between, and `high`."""
    begin = levels.clone()
    begin[0], begin[-1] = low, high
    return begin


def upper_trapezoid(levels: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """`(L, L)` weights of the trapezoidal rule from each of `starts` up to `high`; the first row is the whole integral.

    Args:
        levels: `(L,)`, rising.
        low, high: the ends of the integral; the first and the last level by default.
    """
    upper = torch.triu(trapezoid(levels).expand(len(levels), -1))
    upper.diagonal()[:-1].copy_(levels.diff() / 2)
    return _from_starts(upper, levels, low, high, 2)


def upper_simpson(levels: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """As `upper_trapezoid`, by Simpson's rule for steps of any width (Cartwright 2017)."""
    return _from_starts(_cumulative_simpson(levels), levels, low, high, 3)


def _cumulative_simpson(levels: Tensor) -> Tensor:
    """`(L, L)` weights of Simpson's rule from every level up to the last."""
    # Here, and not above: importing the package should not wait for scipy.
    from scipy.integrate import cumulative_simpson

    basis = np.eye(len(levels))
    upto = torch.from_numpy(cumulative_simpson(basis, x=levels.double().numpy(), axis=-1, initial=0.0))
    return (upto[:, -1:] - upto).T.contiguous()


def _from_starts(upper: Tensor, levels: Tensor, low: float | None, high: float | None, points: int) -> Tensor:
    """Weights from every level up to the last, made those from `low`, each level between, up to `high`."""
    low, high = float(levels[0]) if low is None else low, float(levels[-1]) if high is None else high
    above = _to_first(-levels.flip(0), -high, points).flip(0)
    upper = upper - above
    upper[0] -= _to_first(levels, low, points)
    upper[-1] = 0.0
    return upper


def trapezoid_within(
    levels: Tensor, low: float, high: float, ends: tuple[float, float] | None = None
) -> Tensor:  # fmt: skip
    """Weights for a band, `(L,) -> (L,)`: of the integral of `trapezoid_over`, the part from `low` to `high`.

    Weights of adjoining bands add up.

    Args:
        levels: `(L,)`, rising.
        low, high: of the band; an infinite one is that of the range.
        ends: of the range; the first and the last level by default.

    Raises:
        ValueError: for a band that is empty, or leaves the range.
    """
    first, last = (float(levels[0]), float(levels[-1])) if ends is None else ends
    low, high = first if low == -math.inf else low, last if high == math.inf else high
    if not (first - 1e-6 <= low < high <= last + 1e-6):
        raise ValueError(f"the band {low:g} to {high:g} is not a rising part of the log-SNR {first:.3f} to {last:.3f}")
    low, high = max(low, first), min(high, last)
    begin = levels[:-1].clamp(low, high)
    end = levels[1:].clamp(low, high)
    # The share of the upper level, in the mean over what the band leaves of an interval.
    share = ((begin + end) / 2 - levels[:-1]) / levels.diff()
    weights = torch.zeros_like(levels)
    weights[:-1] += (end - begin) * (1 - share)
    weights[1:] += (end - begin) * share
    weights[0] += (min(high, float(levels[0])) - low) if low < float(levels[0]) else 0.0
    weights[-1] += (high - max(low, float(levels[-1]))) if high > float(levels[-1]) else 0.0
    return weights
