"""The bars of docs/likelihood.md on laws whose density is known: errors in nats a dimension, coverage, evaluations.

    python scripts/measure_density.py [gaussian mixtures templates narrow coverage]    # all by default; minutes on one core

Prints one row of the page's tables a case, with the settings that it was measured with.
"""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor

from mmg_diffusers import MMG
from mmg_diffusers.denoisers import GaussianDenoiser, GaussianReference, MixtureDenoiser
from mmg_diffusers.measure import Density, StratifiedUniform, Trapezoid
from mmg_diffusers.measure.noise import own_stderr
from mmg_diffusers.worlds.shapes import Shapes

RANGE = (-10.0, 14.0)


def normals(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def draws_of(law: MixtureDenoiser, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draws of a mixture, and which component each is of."""
    label = torch.multinomial(law.log_weights.exp(), count, True, generator=torch.Generator().manual_seed(seed))
    noise = normals(count, *law.means.shape[1:], seed=seed + 1000)
    return law.means[label] + law.variances[label].sqrt().view(-1, *(1,) * (noise.ndim - 1)) * noise, label


def log_density(law: MixtureDenoiser, x: Tensor, label: Tensor | None = None) -> Tensor:
    square = torch.cdist(x.flatten(1), law.means.flatten(1)).square()
    each = -square / (2 * law.variances) - x[0].numel() / 2 * (2 * math.pi * law.variances).log()
    return torch.logsumexp(law.log_weights + each, 1) if label is None else each.gather(1, label[:, None])[:, 0]


def mixture(size: int) -> MixtureDenoiser:
    """Six isotropic components: means of standard deviation 1.5, variances from 0.1 to 1."""
    made = torch.Generator().manual_seed(0)
    means = 1.5 * torch.randn(6, size, generator=made, dtype=torch.float64)
    variances = 0.1 + 0.9 * torch.rand(6, generator=made, dtype=torch.float64)
    return MixtureDenoiser(0.2 + torch.rand(6, generator=made, dtype=torch.float64), means, variances)


def shapes() -> MixtureDenoiser:
    """24 Shapes pictures in [-1, 1] with noise of standard deviation 0.2: 3,072 dimensions."""
    pictures = torch.from_numpy(Shapes().sample(24, seed=0).images).permute(0, 3, 1, 2).double() * 2 - 1
    return MixtureDenoiser(torch.ones(24), pictures, torch.full((24,), 0.04))


def row(name: str, error: Tensor, stderr: Tensor, size: int = 1) -> None:
    z = error / stderr
    within, beyond = ((z.abs() < 2).double().mean(), (z.abs() > 3).double().mean())
    mean = f"{float(error.mean()):+.3f} +- {float(error.std()) / len(error) ** 0.5:.3f}"
    rms = float(error.square().mean().sqrt())
    print(
        f"| {name} | {rms:.4f} | {rms / size:.5f} | {mean} | {float(z.square().mean().sqrt()):.2f} | {float(within):.1%} "
        f"| {float(beyond):.1%} |",
        flush=True,
    )


def gaussian() -> None:
    rotation, _ = torch.linalg.qr(normals(64, 64, seed=1))
    root = rotation * torch.logspace(-1, 0.5, 64, dtype=torch.float64)
    covariance = root @ root.T
    denoiser = GaussianDenoiser(torch.block_diag(covariance, torch.ones(1, 1, dtype=torch.float64)), 64)
    x, others = normals(100, 64, seed=2) @ root.T, normals(5000, 64, seed=3) @ root.T
    zero = torch.zeros(64, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(zero, covariance).log_prob(x)
    own = Density(GaussianReference.of(zero, covariance), StratifiedUniform(2))(denoiser, x, logsnr_range=RANGE)
    print(f"own covariance, 2 levels: at most {float((own.nats - exact).abs().max()):.1e} nats off")
    for name, reference in (("sigma", GaussianReference(float(x.std()))), ("fitted", GaussianReference.fit(others))):
        found = Density(reference)(denoiser, x, logsnr_range=(-12.0, 14.0))
        row(f"Gaussian, d = 64, {name}", found.nats - exact, found.stderr, 64)


def mixtures() -> None:
    for size in (2, 16, 64):
        law = mixture(size)
        others, _ = draws_of(law, 5000, 99)
        fitted = Density(GaussianReference.fit(others), StratifiedUniform(256))
        plain = Density(GaussianReference(float(others.square().mean().sqrt())), StratifiedUniform(256))
        cases = {"sigma": plain, "fitted": fitted, "piloted": fitted.piloted(law, others[:64], logsnr_range=RANGE)}
        for name, run in cases.items():
            parts = [(run(law, x := draws_of(law, 200, k)[0], seed=k, logsnr_range=RANGE), x) for k in range(4)]
            error = torch.cat([found.nats - log_density(law, x) for found, x in parts])
            row(f"mixture, d = {size}, {name}", error, torch.cat([found.stderr for found, _ in parts]), size)


def templates() -> None:
    law = shapes()
    x, _ = draws_of(law, 50, 1)
    others, _ = draws_of(law, 1200, 2)
    fitted = Density(GaussianReference.fit(others, rank=32))
    cases = {
        "sigma": Density(GaussianReference(float(others.square().mean().sqrt()))),
        "low rank": fitted,
        "piloted": fitted.piloted(law, others[:16], logsnr_range=RANGE),
    }
    for name, run in cases.items():
        found = run(law, x, logsnr_range=RANGE)
        row(f"templates, d = 3072, {name}", found.nats - log_density(law, x), found.stderr, 3072)


def narrow() -> None:
    """Standard errors as they were, from a pair's own draws, and as they are."""
    modes = torch.tensor([[-2.0], [2.0]], dtype=torch.float64)
    law = MixtureDenoiser(torch.ones(2), modes, torch.full((2,), 0.01))
    x, _ = draws_of(law, 300, 0)
    for levels in (8, 16, 32, 64):
        found = Density(GaussianReference(2.0), StratifiedUniform(levels))(law, x, logsnr_range=(-8.0, 14.0))
        error, curve = found.nats - log_density(law, x), found.curve
        row(f"two modes, {levels} levels, own", error, own_stderr(found.values, curve.weight, False))
        row(f"two modes, {levels} levels", error, found.stderr)
    law = shapes()
    x, label = draws_of(law, 100, 1)
    exact = log_density(law, x, label) - log_density(law, x)
    for rule in (StratifiedUniform(64), Trapezoid(64)):
        found = MMG("gap", rule)(law, x, {"label": label}, logsnr_range=RANGE)
        own = own_stderr(found.curve.gap, found.curve.weight, False)
        row(f"MMG of templates, {rule}, own", found.nats - exact, own)
        row(f"MMG of templates, {rule}", found.nats - exact, found.stderr)


def coverage() -> None:
    for size in (2, 16):
        law = mixture(size)
        x, _ = draws_of(law, 1000, 5)
        found = Density(GaussianReference.fit(draws_of(law, 1000, 6)[0]))(law, x, logsnr_range=RANGE)
        row(f"defaults, d = {size}, 1,000 x", found.nats - log_density(law, x), found.stderr, size)


CASES = {case.__name__: case for case in (gaussian, mixtures, templates, narrow, coverage)}

if __name__ == "__main__":
    torch.set_num_threads(1)
    print("| case | rms, nats | nats / dim | mean error | rms z | within 2 | beyond 3 |\n|---|--:|--:|--:|--:|--:|--:|")
    for name in sys.argv[1:] or CASES:
        CASES[name]()
