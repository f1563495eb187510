"""How much of the reference's error is taken off a network's, level by level: a control variate's coefficient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmg_diffusers.checks import finite, of_type, shown
from mmg_diffusers.denoisers.references import GaussianReference
from mmg_diffusers.files.identity import Identity
from mmg_diffusers.measure.moments import Curve
from mmg_diffusers.measure.noise import noise_variance
from mmg_diffusers.measure.quadrature import StratifiedProfile

# Draws with a coefficient of 1 that are added to those of a pilot.
PRIOR = 8.0
# The share of nodes that is spread evenly, in case the pilot saw too little.
EVENLY = 0.15


@dataclass(frozen=True)
class Control:
    """A coefficient by level: straight lines between knots, and constant beyond the first and the last.

    Args:
        levels: rising log-SNRs.
        shares: the coefficient at each; 1 takes all of the reference's error off, 0 none.
        data, rows: identity and `(n,)` int64 marks of the data that it was fitted on, if it was.

    Raises:
        TypeError: for other than numbers.
        ValueError: for levels that do not rise, or another number of shares.
    """

    levels: tuple[float, ...]
    shares: tuple[float, ...]
    data: Identity | None = None
    rows: Tensor | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("levels", "shares"):
            of_type(getattr(self, name), (tuple, list), f"{name} of a control", "a tuple of numbers")
            object.__setattr__(self, name, tuple(finite(value, f"one of {name}") for value in getattr(self, name)))
        rising = all(a < b for a, b in zip(self.levels, self.levels[1:], strict=False))
        if not self.levels or not rising or len(self.levels) != len(self.shares):
            raise ValueError(
                f"the levels of a control are {shown(self.levels)}, its shares {shown(self.shares)}; expected rising levels with a "
                "share each"
            )

    def at(self, logsnr: Tensor) -> Tensor:
        """The coefficient at levels of any shape; not a number where a level is none."""
        found = np.interp(logsnr.numpy(), self.levels, self.shares)
        return torch.from_numpy(np.asarray(found))

    def values(self, curve: Curve, expected: Tensor) -> Tensor:
        """`(N, D, L)` expected + share (error of the reference - expected) - error of the network.

        At every level it has the mean of the gap over noise, whatever the share.
        """
        share = self.at(curve.logsnr)
        return share * curve.gap + (1 - share) * (expected - curve.error)

    def record(self) -> dict[str, Any]:
        """What JSON can hold."""
        data = None if self.data is None else self.data.digest
        return {"levels": list(self.levels), "shares": list(self.shares), "data": data}

    @staticmethod
    def of_record(held: Mapping[str, Any] | None) -> Control | None:
        """From what `record` gave."""
        if held is None:
            return None
        data = None if held["data"] is None else Identity(held["data"])
        return Control(tuple(held["levels"]), tuple(held["shares"]), data)


def fit_control(curve: Curve, expected: Tensor) -> Control:
    """The coefficient that leaves the least noise in what a network errs by, from a pilot on other data.

    Args:
        curve: of the pilot: a reference and a network, in two draws or more.
        expected: `(N, D, L)` the reference's errors in the mean over noise.

    Returns:
        at each level the regression of the network's error on that of the reference, both less what is expected of the
        latter: 1 - sum (gap - mean) away / sum away^2, with away = error of the reference - expected. Neighbours are
        averaged, and PRIOR draws with a coefficient of 1 are added. Levels that are one, as of a network that knows few, have the
        mean of their coefficients.
    """
    gap = curve.gap.flatten(0, 1)
    away = gap + (curve.error - expected).flatten(0, 1)
    both = ((gap - gap.mean(0)) * away).mean(0)
    both, square = _smooth(both), _smooth(away.square().mean(0)) * (1 + PRIOR / len(gap))
    shares = (1 - torch.where(square > 0, both / square, 0.0)).clamp(0.0, 1.5)
    level = curve.logsnr.mean((0, 1))
    first = torch.cat([torch.ones(1, dtype=torch.bool), level.diff() > 1e-9])
    which = first.cumsum(0) - 1
    knots = which.bincount(shares) / which.bincount()
    return Control(tuple(level[first].tolist()), tuple(knots.tolist()))


def _smooth(values: Tensor) -> Tensor:
    """Averaged with their neighbours, `(L,) -> (L,)`: a level's own scatter should not decide."""
    padded = torch.cat([values[:1], values, values[-1:]])
    return (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4


def fit_rule(curve: Curve, expected: Tensor, control: Control, nodes: int) -> StratifiedProfile:
    """Levels in proportion to the noise that a pilot of two draws or more leaves in the controlled integrand."""
    low, high = curve.logsnr_range
    noise = noise_variance(control.values(curve, expected)).mean(0).sqrt()
    root = _smooth(noise)
    mass = EVENLY / len(root) + (1 - EVENLY) * root / root.sum() if float(root.sum()) > 0 else torch.ones_like(root)
    edges = torch.linspace(low, high, len(root) + 1, dtype=torch.float64)
    return StratifiedProfile(nodes, tuple(edges.tolist()), tuple(mass.tolist()))


def expected_error(reference: GaussianReference, x: Tensor, logsnr: Tensor) -> Tensor:
    """E|eps - e_G|^2 given each of `(N, *event)` at levels of its own `(N, D, L)`: `(N, D, L)` float64."""
    each = [reference.error(one[None], levels.flatten())[0] for one, levels in zip(x, logsnr, strict=True)]
    return torch.stack(each).view_as(logsnr)
