"""What turns a network's output into predictions that the data allow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor

from mmg_diffusers.arrays.base import MultiDenoiser
from mmg_diffusers.arrays.values import named
from mmg_diffusers.checks import of_type, shown
from mmg_diffusers.denoisers.levels import per_event, signal_and_noise
from mmg_diffusers.measure.grid import Grid

# Steps of a grid that noise may be wide where boxes count, and where fewer of them do; and standard deviations of it beyond which none does.
_WIDTHS, _REACH = (4.0, 1.0, 0.25), 9.0
# Share of a step that noise is at the clean end where boxes count: their blurred edges hide at most twice that, in nats a coordinate.
_EDGE = 1e-3


class OnGrid(MultiDenoiser):
    """A network for variables that lie on a grid: what it predicts of a clean value is a mean of levels.

    At the clean end the noisy value alone tells the level; a network that predicts the noise itself has to learn these
    steps, and hardly does. Here every coordinate has a law over its levels v,

        q(v) in proportion to p(v) exp(-(z / a - v)^2 a^2 / (2 s^2) + t v),

    the levels' fit to its own noisy value, tilted by what the network knows from all others; eps follows from the mean of q. p is the
    same for all levels, unless shares are given: then the head starts as the exact denoiser of coordinates that are independent.
    With v of -1 and 1 it is tanh(a z / s^2 + t). The tilt t is (s z - e) / a for e the network's own output, in units of half
    the grid, so that a network that starts as the denoiser of independent coordinates of variance 1 starts without a tilt.

    Args:
        network: of any kind.
        grids: of those of its variables that lie on one; the others keep the network's prediction.
        shares: of those that have some, how often each coordinate is at each level, `(*shape, levels)`; `shares_of` counts.

    Raises:
        TypeError: for something that is no network or no grid.
        ValueError: for a name that it does not have, without any grid, or for shares of another shape or that are not above 0.
    """

    def __init__(
        self, network: MultiDenoiser, grids: Mapping[str, Grid], shares: Mapping[str, Tensor] | None = None
    ) -> None:
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
        self._log_shares = {name: f"log_share_{name}" for name in shares or {}}
        for name, held in (shares or {}).items():
            if name not in grids:
                raise ValueError(f"got shares of {shown(name)}, which has no grid among {named(grids)}")
            expected = (*network.shapes[name], grids[name].levels)
            if tuple(held.shape) != expected or not bool((held > 0).all()):
                raise ValueError(f"the shares of {shown(name)} are {tuple(held.shape)}; expected {expected} above 0")
            self.register_buffer(self._log_shares[name], (held / held.sum(-1, keepdim=True)).log().float())

    @staticmethod
    def shares_of(x: Tensor, grid: Grid, others: float = 10.0) -> Tensor:
        """Count how often each coordinate of `(N, *shape)` is at each level, `(*shape, levels)`.

        Args:
            x: on the grid.
            grid: of it.
            others: how many more there are thought to be, spread as the levels of all coordinates together are, and a tenth evenly.

        Raises:
            ValueError: for a value that is no level.
        """
        index = grid.index(x)
        counts = torch.stack([(index == level).sum(0) for level in range(grid.levels)], -1).double()
        together = counts.flatten(0, -2).sum(0) / counts.sum()
        return (counts + others * (0.9 * together + 0.1 / grid.levels)) / (len(x) + others)

    def snap(self, logsnr: Tensor) -> Tensor:
        return self.network.snap(logsnr)

    def read(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.network.read(given)

    def forward(self, noisy: Mapping[str, Tensor], logsnr: Tensor, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        eps = self.network(noisy, logsnr, given)
        return {
            name: self._on(name, noisy[name], logsnr, _tilt(noisy[name], logsnr, part)) if name in self.grids else part
            for name, part in eps.items()
        }

    def _log_share(self, name: str) -> Tensor | None:
        return self.get_buffer(self._log_shares[name]) if name in self._log_shares else None

    def _on(self, name: str, z: Tensor, logsnr: Tensor, tilt: Tensor) -> Tensor:
        grid, log_share = self.grids[name], self._log_share(name)
        a, s = (per_event(scale, z) for scale in signal_and_noise(logsnr))
        half, middle = (grid.high - grid.low) / 2, (grid.high + grid.low) / 2
        place = torch.linspace(-1, 1, grid.levels, dtype=z.dtype, device=z.device)
        # Of v = middle + half place, without what all levels share.
        own = half * a / s**2 * (z - a * middle)
        bend = (half * a / s).square() / 2
        logits = (own + tilt)[..., None] * place - bend[..., None] * place.square()
        logits = logits if log_share is None else logits + log_share.to(logits)
        return (z - a * (middle + half * (torch.softmax(logits, -1) @ place))) / s


class SpreadOnGrid(OnGrid):
    """The same for values to which uniform noise of a step's width was added: each level is a box, and x one place in it.

    With the box of v from v - h to v + h, q(v) is in proportion to its share of N(z / a, s^2 / a^2), tilted alike, and within a
    box x follows that Gaussian, cut. A network that was trained with `OnGrid` needs no other training: the uniform noise is to it
    as much more of the Gaussian's, so that it is told the level whose noise has the variance of both, or the cleanest that it knows.
    What z itself says counts in full, at any level: the head goes on until noise is a thousandth of a step. Where noise is wider than
    four steps, `OnGrid` answers, of which it cannot be told apart.

    Raises:
        ValueError: for grids of different steps, whose noise is no one level; and, when it is called, for a variable without a grid.
    """

    def __init__(
        self, network: MultiDenoiser, grids: Mapping[str, Grid], shares: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__(network, grids, shares)
        steps = [grid.step for grid in self.grids.values()]
        if not max(steps) - min(steps) < 1e-9 * max(steps):
            raise ValueError(
                f"the grids' steps are {', '.join(f'{step:.4g}' for step in steps)}; expected one, since spread values of "
                "different steps are not seen at one level of noise"
            )
        self.step = steps[0]
        low, high = network.logsnr_range
        self.logsnr_range = (low, max(high, -2 * math.log(_EDGE * self.step)))

    def snap(self, logsnr: Tensor) -> Tensor:
        return logsnr

    def forward(self, noisy: Mapping[str, Tensor], logsnr: Tensor, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        for name in noisy:
            if name not in self.grids:
                raise ValueError(
                    f"{shown(name)} has no grid among {named(self.grids)}; spread values are read where all that is noisy lies on one"
                )
        told = -torch.log(torch.exp(-logsnr) + self.step**2 / 12)
        told = self.network.snap(told.clamp(max=self.network.logsnr_range[1]))
        scale = signal_and_noise(told)[0] / signal_and_noise(logsnr)[0]
        seen = {name: (per_event(scale, z) * z).to(z) for name, z in noisy.items()}
        eps = self.network(seen, told, given)
        return {name: self._on(name, noisy[name], logsnr, _tilt(seen[name], told, eps[name])) for name in noisy}

    def _on(self, name: str, z: Tensor, logsnr: Tensor, tilt: Tensor) -> Tensor:
        grid, out = self.grids[name], super()._on(name, z, logsnr, tilt)
        a, s = signal_and_noise(logsnr)
        noise, out = s / (a * grid.step), out.clone()
        # The less noise, the fewer boxes count.
        for most, least in pairwise((*_WIDTHS, 0.0)):
            rows = ((noise <= most) & (noise > least)).nonzero().flatten()
            if len(rows):
                here = rows.to(z.device)
                found = _in_boxes(grid, z[here], logsnr[rows], tilt[here], self._log_share(name), most)
                out[here] = found.to(out)
        return out


def _tilt(z: Tensor, logsnr: Tensor, eps: Tensor) -> Tensor:
    """What a network's output says of a level beyond the noisy value itself."""
    a, s = (per_event(scale, z) for scale in signal_and_noise(logsnr))
    return (s * z - eps) / a


def _in_boxes(grid: Grid, z: Tensor, logsnr: Tensor, tilt: Tensor, log_share: Tensor | None, most: float) -> Tensor:
    """eps of values that are spread over the boxes of a grid, at levels whose noise is at most so many steps."""
    a, s = (per_event(scale, z.double()) for scale in signal_and_noise(logsnr.double()))
    half, width = (grid.high - grid.low) / 2, min(grid.levels, 2 * math.ceil(_REACH * most) + 3)
    tilt = tilt.double() / half
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
    logits = share + (tilt * grid.step)[..., None] * offset
    if log_share is not None:
        levels = (first[..., None] + offset).long()
        logits = logits + log_share.to(logits).expand(len(z), *log_share.shape).gather(-1, levels)
    q = torch.softmax(logits, -1)
    ends = [torch.exp(-end.square() / 2 - share) / math.sqrt(2 * math.pi) for end in (below, above)]
    place = ((seen - first)[..., None] + noise[..., None] * (ends[0] - ends[1])).clamp(offset - 0.5, offset + 0.5)
    mean = grid.low + grid.step * (first + (q * place).sum(-1))
    return (z - a * mean) / s
