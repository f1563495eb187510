"""How much of the reference's error is taken off a network's, level by level: a control variate's coefficient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmg_diffusers.checks import finite, of_type
from mmg_diffusers.denoisers.references import GaussianReference

# Nodes by which the integral between two knots is taken; the integrand there is smooth.
NODES = 12


@dataclass(frozen=True)
class Control:
    """A coefficient by level: straight lines between knots, and constant beyond the first and the last.

    Args:
        levels: rising log-SNRs.
        shares: the coefficient at each; 1 takes all of the reference's error off, 0 none.

    Raises:
        TypeError: for other than numbers.
        ValueError: for levels that do not rise, or another number of shares.
    """

    levels: tuple[float, ...]
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("levels", "shares"):
            of_type(getattr(self, name), (tuple, list), f"{name} of a control", "a tuple of numbers")
            object.__setattr__(self, name, tuple(finite(value, f"one of {name}") for value in getattr(self, name)))
        rising = all(a < b for a, b in zip(self.levels, self.levels[1:], strict=False))
        if not self.levels or not rising or len(self.levels) != len(self.shares):
            raise ValueError(f"expected rising levels with a share each, got {self}")

    def at(self, logsnr: Tensor) -> Tensor:
        """The coefficient at levels of any shape; not a number where a level is none."""
        found = np.interp(logsnr.numpy(), self.levels, self.shares)
        return torch.from_numpy(np.asarray(found))

    def record(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {"levels": list(self.levels), "shares": list(self.shares)}

    @staticmethod
    def of_record(held: Mapping[str, Any] | None) -> Control | None:
        """From what `record` gave."""
        return None if held is None else Control(tuple(held["levels"]), tuple(held["shares"]))


def integral_of_control(
    control: Control | None, reference: GaussianReference, x: Tensor, ends: tuple[float, float]
) -> Tensor:
    """Half the integral of (1 - coefficient) E|eps - e_G|^2 given x, `(N,)` nats: what a partial control leaves known."""
    total = torch.zeros(len(x), dtype=torch.float64)
    if control is None:
        return total
    inner = [level for level in control.levels if ends[0] < level < ends[1]]
    # Pieces of at most one unit, in which the error of a Gaussian is smooth.
    knots = [ends[0], *inner, ends[1]]
    edges = [
        edge for a, b in pairwise(knots) for edge in np.linspace(a, b, max(1, int(np.ceil(b - a))) + 1)[:-1].tolist()
    ]
    edges.append(ends[1])
    place, gauss = np.polynomial.legendre.leggauss(NODES)
    begin, end = np.array(edges[:-1])[:, None], np.array(edges[1:])[:, None]
    levels = torch.from_numpy(((begin + end) / 2 + (end - begin) / 2 * place).ravel())
    weights = torch.from_numpy(((end - begin) / 2 * gauss).ravel())
    return total + reference.error(x, levels) @ (weights * (1 - control.at(levels))) / 2
