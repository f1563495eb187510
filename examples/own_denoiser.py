"""Any network that predicts noise can be measured: here an exact one, whose information is known.

python examples/own_denoiser.py
"""

import math

import torch
import typer
from torch import Tensor

from mmg_diffusers import MMG, Denoiser
from mmg_diffusers.denoisers.base import Condition
from mmg_diffusers.denoisers.levels import signal_and_noise
from mmg_diffusers.measure.quadrature import Trapezoid


class Correlated(Denoiser):
    """x and y are normal with correlation rho; x is diffused, y is given or not."""

    logsnr_range = (-14.0, 18.0)

    def __init__(self, rho: float) -> None:
        super().__init__()
        self.rho = rho

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        """E[eps | z], or E[eps | z, y]."""
        a, s = (level[:, None] for level in signal_and_noise(logsnr))
        if cond is None:
            return s * z / (a**2 + s**2)
        return s * (z - a * self.rho * cond["y"]) / (a**2 * (1 - self.rho**2) + s**2)


def main(pairs: int = 2000, rho: float = 0.9) -> None:
    """Compare the estimate with -log(1 - rho^2) / 2."""
    noise = torch.randn(2, pairs, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = noise[0]
    x = rho * y + math.sqrt(1 - rho**2) * noise[1]
    out = MMG("auto", Trapezoid(64))(Correlated(rho), x, {"y": y})
    print(out)
    print(f"exactly {-math.log(1 - rho**2) / 2:.4f} nats")


if __name__ == "__main__":
    typer.run(main)
