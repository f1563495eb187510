"""Where along the noise a condition speaks: prompt influence over time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmg_diffusers.quadrature import trapezoid
from mmg_diffusers.result import Estimate, Value, noise_variance


@dataclass(frozen=True)
class Influence:
    """I(A; B | X_tau): what the condition still adds once the variable is seen at a noise level (arXiv 2310.09031, eq. 29).

    `logsnr` `(L,)` rises; `nats` and `stderr` `(N, L)` hold half the integral from `logsnr[l]` to the clean end for every
    pair, and the standard error that its noise draws leave. `nats[:, 0]` is the pair's whole information.
    """

    logsnr: Tensor
    nats: Tensor
    stderr: Tensor

    def mean(self) -> tuple[Tensor, Tensor]:
        """Mean over pairs and its standard error, `(L,)` each; of a single pair, that pair's own."""
        count = len(self.nats)
        return self.nats.mean(0), self.nats.std(0) / count**0.5 if count > 1 else self.stderr[0]

    def half(self) -> Value:
        """The log-SNR at which half of the mean information has arrived, with its standard error over pairs (jackknife).

        Raises:
            ValueError: when the mean information is not positive, so that there is no half of it.
        """
        total = self.nats.sum(0)
        if float(total[0]) <= 0:
            raise ValueError(
                f"the mean information is {float(total[0]) / len(self.nats):.4f} nats; no half of it arrives"
            )
        value = self._crossing(total)
        count = len(self.nats)
        if count == 1:
            return Value(value, float("nan"))
        left_out = torch.tensor([self._crossing(total - own) for own in self.nats], dtype=torch.float64)
        return Value(value, float(((count - 1) / count * (left_out - left_out.mean()).square().sum()).sqrt()))

    def _crossing(self, total: Tensor) -> float:
        """The last level above which half of the total still lies, interpolated."""
        above = (total >= total[0] / 2).nonzero().flatten()
        last = int(above[-1])
        if last + 1 == len(total):
            return float(self.logsnr[-1])
        step = (total[last] - total[0] / 2) / (total[last] - total[last + 1])
        return float(self.logsnr[last] + step * (self.logsnr[last + 1] - self.logsnr[last]))


def influence(estimate: Estimate) -> Influence:
    """Read the influence over noise off an estimate; no network is called.

    Args:
        estimate: measured with the trapezoidal rule, whose sums from any level upwards are trapezoidal sums again.

    Raises:
        ValueError: for another quadrature, or a single level.
    """
    logsnr, order = estimate.curve.logsnr.sort(1)
    weight = estimate.curve.weight.gather(1, order)[0]
    grid = logsnr[0]
    even = trapezoid(grid)
    shared = len(grid) > 1 and bool((logsnr == grid).all()) and torch.allclose(weight, even)
    if not shared:
        raise ValueError(
            "influence over noise needs levels that all pairs share, with the weights of the trapezoidal rule; measure with "
            "quadrature=Trapezoid(levels), the default"
        )
    values = estimate.values.gather(2, order[:, None].expand_as(estimate.values))
    # Row l holds the trapezoidal weights of the levels from l upwards.
    upper = torch.triu(even.expand(len(grid), -1))
    upper.diagonal()[:-1].copy_(grid.diff() / 2)
    upper[-1, -1] = 0.0
    nats = values.mean(1) @ upper.T / 2
    stderr = (noise_variance(values) @ (upper.T / 2).square()).sqrt()
    return Influence(grid, nats, stderr)
