"""A network of one's own, as it was trained: pixels in [0, 1], time that runs from noise to data, a prediction of x.

python examples/own_network.py
"""

import math

import torch
import typer
from torch import Tensor, nn

from mmg_diffusers import MMG, Adapted
from mmg_diffusers.denoisers.base import Rescaled
from mmg_diffusers.denoisers.interpolant import Interpolant
from mmg_diffusers.measure.quadrature import Trapezoid

AGREE = 0.9
NO_LABEL = 2


class Ink(nn.Module):
    """Sees t x + (1 - t) eps and predicts x, a pixel that is 0 or 1. Exact here; yours is trained.

    The label tells the pixel right in nine cases of ten.
    """

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor) -> Tensor:
        """E[x | noisy, label], `(B, 1)`."""
        prior = torch.tensor([1 - AGREE, AGREE, 0.5], dtype=noisy.dtype)[label][:, None]
        t = time[:, None].to(noisy.dtype)
        return torch.sigmoid(torch.logit(prior) + t * (noisy - t / 2) / (1 - t) ** 2)


def main(pairs: int = 2000) -> None:
    """Compare the estimate with ln 2 less the entropy of a label that errs, in the network's scale and in another."""
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(2, (pairs,), generator=generator)
    right = torch.rand(pairs, generator=generator) < AGREE
    x = torch.where(right, label, 1 - label)[:, None].float()

    convention = Interpolant("sample", signal=lambda t: t, noise=lambda t: 1 - t, times=(1e-3, 1 - 1e-3))
    denoiser = Adapted(Ink(), convention, null={"label": torch.tensor([NO_LABEL])})
    print(MMG("auto", Trapezoid(64))(denoiser, x, {"label": label}))
    # The same for data in [-1, 1].
    print(MMG("auto", Trapezoid(64))(Rescaled(denoiser, scale=2.0, shift=-1.0), 2 * x - 1, {"label": label}))
    truth = math.log(2) + AGREE * math.log(AGREE) + (1 - AGREE) * math.log(1 - AGREE)
    print(f"exactly {truth:.4f} nats")


if __name__ == "__main__":
    typer.run(main)
