"""Where to look on the log-SNR axis, and with what weight.

A rule places nodes for a block of pairs between two ends and weights them so that ``(weight * f(logsnr)).sum(-1)``
is the integral of f from one end to the other. Networks know certain levels only: a rule is handed the function that
snaps to them. Nodes are then levels that the network knows, but the weights are those of the range that was asked for:
what lies between an end and the level nearest to it is integrated as well, or left out. So every rule integrates a
constant exactly (the independent logistic one in expectation), and ranges that adjoin add up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmg_diffusers.checks import finite, of_type, whole
from mmg_diffusers.measure.weights import simpson_over, trapezoid_over

Snap = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Quadrature(ABC):
    """A rule with `nodes` evaluations of the integrand.

    Raises:
        TypeError: for a number of nodes that is not whole.
        ValueError: for fewer than 2 nodes.
    """

    nodes: int = 64

    random: ClassVar[bool] = False
    """Whether the nodes depend on the pair's own random numbers."""
    independent: ClassVar[bool] = False
    """Whether the nodes are independent draws, so that their spread is the error."""

    def __post_init__(self) -> None:
        whole(self.nodes, "nodes", 2)

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        """The part of [low, high] that the rule integrates over."""
        return low, high

    def place(self, low: float, high: float, snap: Snap, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes and weights.

        Args:
            low, high: the ends, finite, low < high.
            snap: maps levels to those that the network knows.
            uniform: `(P, nodes)` float64 numbers in [0, 1), one row a pair; deterministic rules ignore the values.

        Returns:
            logsnr and weight, `(P, n)` float64 each; n < nodes if several nodes snap to one level.

        Raises:
            ValueError: for ends that are infinite or in the wrong order.
        """
        if not (np.isfinite([low, high]).all() and low < high):
            raise ValueError(
                f"expected finite ends in rising order, got [{low}, {high}]; give `logsnr_range=` for a denoiser "
                "whose range is unbounded"
            )
        return self._place(low, high, snap, uniform)

    @abstractmethod
    def _place(self, low: float, high: float, snap: Snap, uniform: Tensor) -> tuple[Tensor, Tensor]: ...


def _shared(levels: Tensor, weights: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    rows = len(uniform)
    return levels.expand(rows, -1), weights.expand(rows, -1)


@dataclass(frozen=True)
class Trapezoid(Quadrature):
    """Trapezoidal rule on the network's levels nearest to an even grid that includes both ends. Order 2."""

    def _place(self, low: float, high: float, snap: Snap, uniform: Tensor) -> tuple[Tensor, Tensor]:
        levels = torch.unique(snap(torch.linspace(low, high, self.nodes, dtype=torch.float64)))
        _need_two(levels, low, high)
        return _shared(levels, trapezoid_over(levels, low, high), uniform)


@dataclass(frozen=True)
class Simpson(Quadrature):
    """Simpson's rule on the network's levels nearest to an even grid that includes both ends. Order 3 or more, if the
    integrand is smooth: its weights alternate, so it bears noise worse than the trapezoidal rule.
    """  # fmt: skip

    def _place(self, low: float, high: float, snap: Snap, uniform: Tensor) -> tuple[Tensor, Tensor]:
        levels = torch.unique(snap(torch.linspace(low, high, self.nodes, dtype=torch.float64)))
        _need_two(levels, low, high)
        return _shared(levels, simpson_over(levels, low, high), uniform)


@dataclass(frozen=True)
class AtLevels(Quadrature):
    """Trapezoidal rule from the first to the last of chosen levels, each snapped to the nearest that the network knows.

    Args:
        levels: rising log-SNRs, all within the range that the network knows.

    Raises:
        ValueError: for fewer than two levels, levels that do not rise, or levels outside of the range.
    """

    nodes: int = field(init=False, default=0)
    levels: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        of_type(self.levels, (tuple, list), "levels", "a tuple of rising log-SNRs")
        object.__setattr__(self, "levels", tuple(finite(level, "a level") for level in self.levels))
        object.__setattr__(self, "nodes", len(self.levels))
        if self.nodes < 2:
            raise ValueError(f"got {self.nodes} levels; expected at least 2")
        if not all(a < b for a, b in zip(self.levels, self.levels[1:], strict=False)):
            raise ValueError(f"expected rising levels, got {self.levels}")

    @classmethod
    def widening(cls, low: float, high: float, nodes: int, knee: float = -3.5) -> AtLevels:
        """Levels that are even in log-SNR above the knee, and below it in SNR: what is visible in the noise falls with
        the SNR there, so that small steps would be spent on nothing.

        Raises:
            ValueError: as the class does, and for ends that do not rise.
        """
        whole(nodes, "nodes", 2)
        if not finite(low, "low") < finite(high, "high"):
            raise ValueError(f"expected low < high, got {low} and {high}")
        ends = np.logaddexp(0.0, np.array([low, high]) - knee)
        levels = knee + np.log(np.expm1(np.linspace(ends[0], ends[1], nodes)))
        return cls((low, *levels[1:-1].tolist(), high))

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        first, last = self.levels[0], self.levels[-1]
        if first < low - 1e-9 or last > high + 1e-9:
            raise ValueError(f"levels from {first} to {last} leave the range [{low:.3f}, {high:.3f}]")
        return max(low, first), min(high, last)

    def _place(self, low: float, high: float, snap: Snap, uniform: Tensor) -> tuple[Tensor, Tensor]:
        levels = torch.unique(snap(torch.tensor(self.levels, dtype=torch.float64).clamp(low, high)))
        _need_two(levels, low, high)
        return _shared(levels, trapezoid_over(levels, low, high), uniform)


@dataclass(frozen=True)
class GaussLegendre(Quadrature):
    """Gauss-Legendre on snapped nodes.

    Snapping spoils Gauss' weights. They get the smallest change that makes polynomials exact again, up to the highest
    degree (at most half the number of distinct nodes) that leaves every weight positive.
    """

    def _place(self, low: float, high: float, snap: Snap, uniform: Tensor) -> tuple[Tensor, Tensor]:
        place, gauss = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(self.nodes))
        middle, half = (low + high) / 2, (high - low) / 2
        asked = middle + half * place
        levels, merged = torch.unique(snap(asked), return_inverse=True)
        _need_two(levels, low, high)
        weights = torch.zeros_like(levels).index_add_(0, merged, half * gauss)
        if float((levels[merged] - asked).abs().max()) > 1e-9 * half:
            weights = _mended(weights, ((levels - middle) / half).numpy(), 2 * half)
        return _shared(levels, weights, uniform)


def _mended(weights: Tensor, place: NDArray[np.float64], length: float) -> Tensor:
    """The nearest weights that integrate Legendre polynomials exactly at places in [-1, 1]."""
    for degree in range(min(len(weights) // 2, 40), 0, -1):
        basis = torch.from_numpy(np.polynomial.legendre.legvander(place, degree).T)
        lacking = -(basis @ weights)
        lacking[0] += length
        change = torch.linalg.lstsq(basis, lacking[:, None], driver="gelsd").solution[:, 0]
        exact = float((basis @ change - lacking).abs().max()) < 1e-10 * length
        if exact and bool((weights + change > 0).all()):
            return weights + change
    return weights * (length / weights.sum())


def _need_two(levels: Tensor, low: float, high: float) -> None:
    if len(levels) < 2:
        raise ValueError(f"the network knows only {len(levels)} level in [{low:.3f}, {high:.3f}]; widen the range")


@dataclass(frozen=True)
class StratifiedUniform(Quadrature):
    """One uniform draw in each of `nodes` equal intervals. Unbiased; the error falls as nodes^-3/2."""

    random = True

    def _place(self, low: float, high: float, snap: Snap, uniform: Tensor) -> tuple[Tensor, Tensor]:
        edges = torch.linspace(low, high, self.nodes + 1, dtype=torch.float64)
        return _in_strata(edges, snap, uniform)


def _in_strata(edges: Tensor, snap: Snap, uniform: Tensor) -> tuple[Tensor, Tensor]:
    width = edges.diff()
    return snap(edges[:-1] + width * uniform), width.expand(len(uniform), -1)


@dataclass(frozen=True)
class _Proposal(Quadrature):
    """A logistic density in log-SNR, cut at `clip` scales from its centre and at the range's ends."""

    loc: float = 0.0
    scale: float = 2.0
    clip: float = 4.0

    random = True

    def __post_init__(self) -> None:
        super().__post_init__()
        finite(self.loc, "loc")
        if not (finite(self.scale, "scale") > 0 and self.clip > 0):
            raise ValueError(f"expected scale > 0 and clip > 0, got {self.scale} and {self.clip}")

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        left, right = max(low, self.loc - self.clip * self.scale), min(high, self.loc + self.clip * self.scale)
        if left >= right:
            raise ValueError(
                f"the logistic proposal around {self.loc} (scale {self.scale}, clip {self.clip}) misses the range "
                f"[{low:.3f}, {high:.3f}]; move loc or widen the scale"
            )
        return left, right

    def _quantile(self, probability: Tensor, left: float, right: float) -> tuple[Tensor, float]:
        """Levels at the given quantiles of the cut density, and the mass that the cut leaves."""
        ends = torch.sigmoid((torch.tensor([left, right], dtype=torch.float64) - self.loc) / self.scale)
        mass = float(ends[1] - ends[0])
        return self.loc + self.scale * torch.logit(ends[0] + mass * probability), mass


@dataclass(frozen=True)
class Logistic(_Proposal):
    """Independent draws from a truncated logistic density, as in MMG and ITD (arXiv 2302.03792)."""

    independent = True

    def _place(self, low: float, high: float, snap: Snap, uniform: Tensor) -> tuple[Tensor, Tensor]:
        left, right = self.bounds(low, high)
        levels, mass = self._quantile(uniform, left, right)
        at = (levels - self.loc) / self.scale
        density = torch.sigmoid(at) * torch.sigmoid(-at) / self.scale / mass
        return snap(levels), 1 / (density * self.nodes)


@dataclass(frozen=True)
class StratifiedLogistic(_Proposal):
    """One draw in each of `nodes` intervals that hold equal logistic mass, uniform within its interval.

    The weight is the interval's width, so the rule is unbiased and exact on constants at once.
    """

    def _place(self, low: float, high: float, snap: Snap, uniform: Tensor) -> tuple[Tensor, Tensor]:
        left, right = self.bounds(low, high)
        edges, _ = self._quantile(torch.linspace(0, 1, self.nodes + 1, dtype=torch.float64), left, right)
        edges[0], edges[-1] = left, right
        return _in_strata(edges, snap, uniform)


@dataclass(frozen=True)
class StratifiedProfile(Quadrature):
    """One draw in each of `nodes` intervals of equal mass under a piecewise constant density.

    Args:
        edges: K + 1 rising levels.
        mass: K positive shares of the nodes; they need not sum to 1.

    Raises:
        ValueError: for edges that do not rise, or masses that do not fit them.
    """

    edges: tuple[float, ...] = (-8.0, 12.0)
    mass: tuple[float, ...] = (1.0,)

    random = True

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("edges", "mass"):
            of_type(getattr(self, name), (tuple, list), name, "a tuple of numbers")
            object.__setattr__(self, name, tuple(finite(value, f"a number in {name}") for value in getattr(self, name)))
        rising = all(a < b for a, b in zip(self.edges, self.edges[1:], strict=False))
        if len(self.edges) != len(self.mass) + 1 or not rising or min(self.mass, default=0.0) <= 0:
            raise ValueError(f"expected rising edges and one positive mass between each two, got {self}")

    def bounds(self, low: float, high: float) -> tuple[float, float]:
        left, right = max(low, self.edges[0]), min(high, self.edges[-1])
        if left >= right:
            raise ValueError(f"the profile over {self.edges[0]} to {self.edges[-1]} misses the range [{low}, {high}]")
        return left, right

    def _place(self, low: float, high: float, snap: Snap, uniform: Tensor) -> tuple[Tensor, Tensor]:
        left, right = self.bounds(low, high)
        known = np.concatenate([[0.0], np.cumsum(self.mass)])
        ends = np.interp([left, right], self.edges, known)
        strata = np.interp(np.linspace(ends[0], ends[1], self.nodes + 1), known, self.edges)
        strata[0], strata[-1] = left, right
        return _in_strata(torch.from_numpy(strata), snap, uniform)
