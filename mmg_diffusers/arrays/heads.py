"""What turns a network's output into predictions that the data allow."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mmg_diffusers.arrays.base import MultiDenoiser
from mmg_diffusers.checks import of_type, shown
from mmg_diffusers.denoisers.levels import per_event, signal_and_noise
from mmg_diffusers.measure.grid import Grid

# Steps of a grid that noise may be wide where boxes count, and standard deviations of it beyond which no box counts.
_WIDE, _REACH = 4.0, 9.0


class OnGrid(MultiDenoiser):
    """A network for variables that lie on a grid: what it predicts of a clean value is a mean of levels.

    At the clean end the noisy value alone tells the level; a network that predicts the noise itself has to learn these
    steps, and hardly does. Here every coordinate has a law over its levels v,

        q(v) in proportion to exp(-(z / a - v)^2 a^2 / (2 s^2) + t v),

    the levels' fit to its own noisy value, tilted by what the network knows from all others; eps follows from the mean of q.
    With v of -1 and 1 it is tanh(a z / s^2 + t). The tilt t is (s z - e) / a for e the network's own output, in units of half
    the grid, so that a network that starts as the denoiser of independent coordinates of variance 1 starts without a tilt.

    Args:
        network: of any kind.
        grids: of those of its variables that lie on one; the others keep the network's prediction.

    Raises:
        TypeError: for something that is no network or no grid.
        ValueError: for a name that it does not have, or without any grid.
    """

    def __init__(self, network: MultiDenoiser, grids: Mapping[str, Grid]) -> None:
        of_type(network, MultiDenoiser, "the network", "a MultiDenoiser such as a VectorNetwork")
        of_type(grids, Mapping, "grids", "grids by the name of their variable, such as {'x': Grid(-1, 1, 2)}")
        super().__init__(network.shapes, network.logsnr_range)
        network.need(list(grids))
        for name, grid in grids.items():
            of_type(grid, Grid, f"the grid of {shown(name)}", "one such as Grid(-1, 1, 2)")
        if not grids:
            raise ValueError(
                "there is no grid; name one or more variables that lie on one, or leave the network as it is"
            )
        self.network, self.grids = network, dict(grids)

    def snap(self, logsnr: Tensor) -> Tensor:
        return self.network.snap(logsnr)

    def read(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.network.read(given)

    def forward(self, noisy: Mapping[str, Tensor], logsnr: Tensor, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        eps = self.network(noisy, logsnr, given)
        return {
            name: self._on(self.grids[name], noisy[name], logsnr, part) if name in self.grids else part
            for name, part in eps.items()
        }

    @staticmethod
    def _on(grid: Grid, z: Tensor, logsnr: Tensor, eps: Tensor) -> Tensor:
        a, s = (per_event(scale, z) for scale in signal_and_noise(logsnr))
        half, middle = (grid.high - grid.low) / 2, (grid.high + grid.low) / 2
        tilt = (s * z - eps) / a
        place = torch.linspace(-1, 1, grid.levels, dtype=z.dtype, device=z.device)
        # Of v = middle + half place, without what all levels share.
        own = half * a / s**2 * (z - a * middle)
        bend = (half * a / s).square() / 2
        logits = (own + tilt)[..., None] * place - bend[..., None] * place.square()
        return (z - a * (middle + half * (torch.softmax(logits, -1) @ place))) / s


class SpreadOnGrid(OnGrid):
    """The same for values to which uniform noise of a step's width was added: each level is a box, and x one place in it.

    With the box of v from v - h to v + h, q(v) is in proportion to its share of N(z / a, s^2 / a^2), tilted alike, and within a
    box x follows that Gaussian, cut. A network that was trained with `OnGrid` needs no other training: what it knows of the others'
    levels, and so the tilt, is the same. Where noise is wider than four steps, `OnGrid` answers, of which it cannot be told apart.
    """

    @staticmethod
    def _on(grid: Grid, z: Tensor, logsnr: Tensor, eps: Tensor) -> Tensor:
        out = OnGrid._on(grid, z, logsnr, eps)
        a, s = signal_and_noise(logsnr)
        near = (s / a <= _WIDE * grid.step).to(z.device)
        if bool(near.any()):
            out = out.clone()
            out[near] = _in_boxes(grid, z[near], logsnr[near.to(logsnr.device)], eps[near]).to(out)
        return out


def _in_boxes(grid: Grid, z: Tensor, logsnr: Tensor, eps: Tensor) -> Tensor:
    """eps of values that are spread over the boxes of a grid, at levels whose noise is at most `_WIDE` steps."""
    a, s = (per_event(scale, z.double()) for scale in signal_and_noise(logsnr.double()))
    half, width = (grid.high - grid.low) / 2, min(grid.levels, 2 * math.ceil(_REACH * _WIDE) + 3)
    tilt = (s * z - eps) / (a * half)
    # In steps, counted from the first level of each value's window.
    seen, noise = (z.double() / a - grid.low) / grid.step, s / (a * grid.step)
    first = (seen.round() - width // 2).clamp(0, grid.levels - width)
    offset = torch.arange(width, dtype=torch.float64, device=z.device)
    below = (offset - 0.5 - (seen - first)[..., None]) / noise[..., None]
    above = below + 1 / noise[..., None]
    # Both ends on the side of the Gaussian where its distribution function is small, so that the difference holds its digits.
    low, high = torch.where(below > 0, -above, below), torch.where(below > 0, -below, above)
    high_share = torch.special.log_ndtr(high)
    share = high_share + torch.log1p(-torch.exp(torch.special.log_ndtr(low) - high_share))
    q = torch.softmax(share + (tilt * grid.step)[..., None] * offset, -1)
    ends = [torch.exp(-end.square() / 2 - share) / math.sqrt(2 * math.pi) for end in (below, above)]
    place = ((seen - first)[..., None] + noise[..., None] * (ends[0] - ends[1])).clamp(offset - 0.5, offset + 0.5)
    mean = grid.low + grid.step * (first + (q * place).sum(-1))
    return (z - a * mean) / s
