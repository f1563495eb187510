"""How many network calls log p(x) needs for a given error: `Density` against the probability-flow ODE with a Hutchinson probe.

    python scripts/benchmarks/density_calls.py                 # a Markdown table; minutes on one core

Of a mixture of isotropic Gaussians with its exact denoiser, so that all error is of the method. The ODE is that of Song et al. 2021
(arXiv 2011.13456, eq. 39) in y = x + sigma eps, by Heun's steps with one Rademacher probe for each x, as published code has it; its steps
are even in log sigma or as Karras et al. 2022 space them (rho = 7), whichever errs less, and its prior is the Gaussian of the data in
noise. A call is one row through the network; each of the ODE's takes a backward pass besides, which is not counted. The pilot of
`Density`, 80 calls for each of 64 other x, is made once for any number of x and not counted either. "Fewer calls" is what `Density`
needs for the ODE's error, by the 1/sqrt law; its error at a fifth of
the calls stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated

import torch
import typer
from torch import Tensor

from mmg_diffusers.denoisers import GaussianReference, MixtureDenoiser
from mmg_diffusers.denoisers.levels import signal_and_noise
from mmg_diffusers.measure import Density, StratifiedUniform
from mmg_diffusers.worlds.densities import GaussianMixture
from mmg_diffusers.worlds.tasks import get_density_task

RANGE = (-10.0, 14.0)
RHO = 7.0


def even(count: int) -> Tensor:
    """`count` values of sigma from the least to the greatest, even in their logarithm."""
    low, high = RANGE
    return torch.linspace(-high / 2, -low / 2, count, dtype=torch.float64).exp()


def karras(count: int) -> Tensor:
    """`count` values of sigma, even in its seventh root."""
    low, high = RANGE
    least, most = math.exp(-high / 2 / RHO), math.exp(-low / 2 / RHO)
    return torch.linspace(least, most, count, dtype=torch.float64) ** RHO


def by_ode(denoiser: MixtureDenoiser, x: Tensor, others: Tensor, sigmas: Tensor, seed: int) -> Tensor:
    """log p(x) at the least sigma, `(N,)` nats: the change of volume along the flow to the greatest, and there the Gaussian of other
    data in noise.
    """
    probe = torch.randint(0, 2, x.shape, generator=torch.Generator().manual_seed(seed)).to(x) * 2 - 1

    def slope(y: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """dy / dsigma = eps, and the probe's estimate of its divergence."""
        level = (-2 * sigma.log()).expand(len(y))
        with torch.enable_grad():
            at = y.detach().requires_grad_()
            eps = denoiser(at * signal_and_noise(level)[0][:, None], level)
            (change,) = torch.autograd.grad((eps * probe).sum(), at)
        return eps.detach(), (change * probe).sum(1)

    y, volume = x, torch.zeros(len(x), dtype=torch.float64)
    for sigma, after in pairwise(sigmas):
        first, spread = slope(y, sigma)
        second, spread_after = slope(y + (after - sigma) * first, after)
        y = y + (after - sigma) * (first + second) / 2
        volume = volume + (after - sigma) * (spread + spread_after) / 2
    noisy = others.T.cov() + sigmas[-1] ** 2 * torch.eye(x.shape[1], dtype=torch.float64)
    return torch.distributions.MultivariateNormal(others.mean(0), noisy).log_prob(y) + volume


def row(size: int, calls: int, seeds: Sequence[int], count: int) -> str:
    """A line of the table."""
    task = get_density_task(f"mixture-{size}")
    law = task.law
    assert isinstance(law, GaussianMixture)
    weights, means, sds = (torch.from_numpy(part) for part in (law.weights, law.means, law.sds))
    denoiser = MixtureDenoiser(weights, means, sds**2)
    others = torch.from_numpy(task.sample(5000, 999))
    fitted = GaussianReference.fit(others)
    many, few = (
        Density(fitted, StratifiedUniform(levels)).piloted(denoiser, others[:64], logsnr_range=RANGE)
        for levels in (calls, calls // 5)
    )
    ways: dict[str, Callable[[Tensor, int], Tensor]] = {
        "here": lambda x, seed: many(denoiser, x, seed=seed, logsnr_range=RANGE).nats,
        "fifth": lambda x, seed: few(denoiser, x, seed=seed, logsnr_range=RANGE).nats,
        "even": lambda x, seed: by_ode(denoiser, x, others, even(calls // 2 + 1), seed),
        "Karras": lambda x, seed: by_ode(denoiser, x, others, karras(calls // 2 + 1), seed),
    }
    errors: dict[str, list[Tensor]] = {name: [] for name in ways}
    for seed in seeds:
        drawn = task.sample(count, seed)
        x, exact = torch.from_numpy(drawn), torch.from_numpy(law.log_prob(drawn))
        for name, way in ways.items():
            errors[name].append(way(x, seed) - exact)
    found = {name: torch.cat(parts) for name, parts in errors.items()}
    rms = {name: float(error.square().mean().sqrt()) for name, error in found.items()}
    ode = min(("even", "Karras"), key=rms.__getitem__)
    bias = {
        name: f"{float(error.mean()):+.3f} +- {float(error.std()) / len(error) ** 0.5:.3f}"
        for name, error in found.items()
    }
    return f"| {size} | {calls} | {rms['here']:.4f} | {bias['here']} | {rms['fifth']:.4f} | {rms[ode]:.4f} ({ode}) | {bias[ode]} | {(rms[ode] / rms['here']) ** 2:.1f} |"


def main(
    sizes: Annotated[str, typer.Option(help="Dimensions.")] = "2,16,64",
    calls: Annotated[str, typer.Option(help="Calls of the network for each x.")] = "64,256",
    seeds: int = 4,
    count: Annotated[int, typer.Option(help="x of each seed.")] = 200,
) -> None:
    """Measure both, then print the table."""
    torch.set_num_threads(1)
    print("| d | calls | rms, nats | mean error | rms at a fifth | ODE: rms | mean error | fewer calls for its rms |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|")
    for size in sizes.split(","):
        for number in calls.split(","):
            print(row(int(size), int(number), range(seeds), count), flush=True)


if __name__ == "__main__":
    typer.run(main)
