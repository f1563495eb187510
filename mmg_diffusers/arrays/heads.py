"""What turns a network's output into predictions that the data allow."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mmg_diffusers.arrays.base import MultiDenoiser
from mmg_diffusers.checks import of_type, shown
from mmg_diffusers.denoisers.levels import per_event, signal_and_noise
from mmg_diffusers.measure.grid import Grid


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
