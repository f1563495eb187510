"""A labelled network of one's own, whole: the levels it knows, what labels tell, how far its null can be believed.

python examples/own_labels.py
"""

import math

import torch
import typer
from torch import Tensor, nn

from mmg_diffusers import MMG, Adapted, LabelSet, audit_labels, classify, filter_labels, known_range
from mmg_diffusers.denoisers.check import check_denoiser
from mmg_diffusers.denoisers.interpolant import Interpolant
from mmg_diffusers.measure.candidates import NoisePath
from mmg_diffusers.measure.quadrature import Trapezoid

MEANS = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
SPREAD, NAMES = 0.6, ("south-west", "north-west", "south-east", "north-east")


class Points(nn.Module):
    """Sees t x + (1 - t) eps and predicts x, exactly here. Called with label=None, it knows no label."""

    def forward(self, noisy: Tensor, time: Tensor, label: Tensor | None) -> Tensor:
        """E[x | noisy, label], `(B, 2)`."""
        t = time.double()[:, None]
        wide, variance = noisy.double(), t**2 * SPREAD**2 + (1 - t) ** 2
        if label is None:
            squares = (wide[:, None] - t[..., None] * MEANS).square().sum(2)
            share = torch.softmax(-squares / (2 * variance), 1)
        else:
            share = torch.nn.functional.one_hot(label, 4).double()
        of_each = MEANS + (t * SPREAD**2 / variance)[..., None] * (wide[:, None] - t[..., None] * MEANS)
        return (share[..., None] * of_each).sum(1).to(noisy.dtype)


def sample(pairs: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points, and the corner that each was drawn about."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(4, (pairs,), generator=generator)
    return (MEANS[label] + SPREAD * torch.randn(pairs, 2, generator=generator).double()).float(), label


def main(pairs: int = 200) -> None:
    """Measure, with every number's verdict."""
    x, label = sample(pairs, seed=0)
    convention = Interpolant("sample", signal=lambda t: t, noise=lambda t: 1 - t, times=(1e-3, 1 - 1e-3))
    denoiser = Adapted(Points(), convention, null={"label": None})
    check_denoiser(denoiser, x, {"label": label})  # raises, with what usually causes it

    # A network that hardly saw some levels in training is measured over those that it knows.
    known = known_range(denoiser, x)
    print(
        f"known: log-SNR {known.logsnr_range[0]:.2f} to {known.logsnr_range[1]:.2f}; {known.note or 'nothing was cut'}"
    )
    measured = MMG("auto", Trapezoid(48), antithetic=True)(
        denoiser, x, {"label": label}, logsnr_range=known.logsnr_range, entropy=math.log(4)
    )
    # An entropy speaks against a number above it; what vouches for a null is an audit.
    labels = LabelSet({"label": torch.arange(4)}, NAMES)
    audit = audit_labels(denoiser, x, labels, label)
    print(measured.noting(audit.finding))
    print(audit)

    # Which label? A calibration is fitted on other points.
    other, told = sample(pairs, seed=1)
    path = NoisePath(logsnr_range=known.logsnr_range)
    calibration = classify(denoiser, other, labels, path=path).calibrate(told.tolist())
    found = classify(denoiser, x, labels, path=path, calibration=calibration)
    right = sum(best == NAMES[k] for best, k in zip(found.best, label.tolist(), strict=True))
    print(f"{right} of {pairs} right; I(x; label) >= {found.bound(label.tolist())}; no more than {found.entropy:.4f}")
    # Or on the other parts of the same points, as every filter does.
    print(filter_labels(denoiser, x, labels, label))
    log_p = torch.log_softmax(-torch.cdist(x.double(), MEANS).square() / (2 * SPREAD**2), 1)
    print(f"exactly {float(log_p[torch.arange(pairs), label].mean()) + math.log(4):.4f} nats of these points")


if __name__ == "__main__":
    typer.run(main)
