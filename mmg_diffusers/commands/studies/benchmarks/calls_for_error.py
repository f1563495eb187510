"""How many network calls a pair's mutual information needs for a given error: this library's default against the papers' way.

The papers' code draws levels independently from a logistic density, and separate noise for the two branches (here at the same
levels, which favours it). An evaluation is one row through the network, for either. The error is the spread of a pair over
repeats with other seeds, in the mean square over pairs; the bias is the mean difference from a fine reference, with the
standard errors of both. "Fewer calls" is what the papers' way needs for the same error over what is needed here, by the
1/sqrt law that its column shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import typer
from torch import Tensor
from tqdm import tqdm

from mmg_diffusers import MMG, Denoiser, MMGPipeline, shapes_model
from mmg_diffusers.denoisers.base import Condition
from mmg_diffusers.denoisers.exact import GaussianDenoiser
from mmg_diffusers.denoisers.levels import add_noise
from mmg_diffusers.measure.draws import PairDraws
from mmg_diffusers.measure.moments import OF_PRETRAINED, integrate
from mmg_diffusers.measure.proposals import gap_fitted
from mmg_diffusers.measure.quadrature import Logistic, Quadrature, Simpson, StratifiedUniform, Trapezoid
from mmg_diffusers.worlds.shapes import Shapes


@dataclass(frozen=True)
class Subject:
    """A denoiser with pairs to measure, over one range of log-SNR."""

    denoiser: Denoiser
    x: Tensor
    cond: Condition
    logsnr_range: tuple[float, float]


def shapes(pairs: int) -> Subject:
    """The model that ships with the package, on fresh pairs."""
    pipe = MMGPipeline.from_pretrained(shapes_model())
    sample = Shapes("soft").sample(pairs, seed=77)
    x = torch.cat([part for _, part in pipe.encoder.images(list(sample.images), False)])
    return Subject(pipe.denoiser, x, pipe.encoder.condition(sample.prompts), pipe.denoiser.logsnr_range)


def oracle(pairs: int) -> Subject:
    """A closed form: 16 coordinates, each with one of y that it is correlated with, strongly to weakly."""
    rho = torch.linspace(0.9, 0.1, 16, dtype=torch.float64).diag()
    one = torch.eye(16, dtype=torch.float64)
    covariance = torch.cat([torch.cat([one, rho], 1), torch.cat([rho, one], 1)])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(pairs, 32, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(covariance).T
    return Subject(GaussianDenoiser(covariance, 16), drawn[:, :16], {"y": drawn[:, 16:]}, (-8.0, 8.0))


@torch.inference_mode()
def separate(subject: Subject, draws: int, seed: int) -> Tensor:
    """The papers' way: `(N, draws)` of which any mean is an estimate of a pair, in nats; two evaluations each."""
    low, high = subject.logsnr_range
    rule = Logistic(draws, loc=1.0, scale=2.0)
    rows: list[Tensor] = []
    for pair, x in enumerate(subject.x):
        uniform = PairDraws(seed, pair).uniform(draws)[None]
        (logsnr,), (weight,) = rule.place(low, high, subject.denoiser.snap, uniform)
        errors: list[Tensor] = []
        for branch in (0, 1):
            eps = PairDraws(seed, pair, branch).normals(draws, tuple(x.shape), x.dtype)
            z = add_noise(x.expand_as(eps), logsnr, eps)
            cond = {key: value[[pair] * draws] for key, value in subject.cond.items()} if branch else None
            errors.append((eps - subject.denoiser(z, logsnr, cond)).double().square().flatten(1).sum(1))
        rows.append((errors[0] - errors[1]) * weight * draws / 2)
    return torch.stack(rows)


def together(subject: Subject, rule: Quadrature, antithetic: bool, seed: int) -> dict[str, Tensor]:
    """What is measured here: `(N,)` nats of every form."""
    estimate = MMG("auto", rule, antithetic=antithetic)(
        subject.denoiser, subject.x, subject.cond, seed=seed, logsnr_range=subject.logsnr_range
    )
    return {form: estimate.using(form).nats for form in OF_PRETRAINED}


@dataclass(frozen=True)
class Repeats:
    """`(S, N)` estimates of N pairs from S seeds, and a reference `(N,)` with its standard errors."""

    nats: Tensor
    reference: Tensor
    reference_stderr: Tensor

    @property
    def spread(self) -> float:
        return float(self.nats.var(0).mean().sqrt())

    @property
    def bias(self) -> str:
        seeds, pairs = self.nats.shape
        error = (self.spread**2 / (seeds * pairs) + float(self.reference_stderr.square().sum()) / pairs**2) ** 0.5
        return f"{float((self.nats.mean(0) - self.reference).mean()):+.2f} ± {error:.2f}"


Rule = Callable[[int], tuple[Quadrature, bool]]
"""Makes a rule, and says whether noise is antithetic, for a number of noisy variables of a pair."""


def rules(subject: Subject, every: bool) -> dict[str, Rule]:
    """The default of ``pipe(...)``, and what else it might be."""
    ways: dict[str, Rule] = {"default: trapezoid, antithetic": lambda rows: (Trapezoid(rows // 2), True)}
    if every:
        # Fitted once, as a run would.
        fitted = gap_fitted(subject.denoiser, subject.x, subject.cond, logsnr_range=subject.logsnr_range)

        def profile(rows: int) -> tuple[Quadrature, bool]:
            return type(fitted)(rows // 2, fitted.edges, fitted.mass), True

        ways |= {
            "trapezoid": lambda rows: (Trapezoid(rows), False),
            "Simpson, antithetic": lambda rows: (Simpson(rows // 2), True),
            "stratified": lambda rows: (StratifiedUniform(rows), False),
            "stratified, antithetic": lambda rows: (StratifiedUniform(rows // 2), True),
            "pilot, antithetic": profile,
        }
    return ways


def measure(subject: Subject, evaluations: Sequence[int], seeds: int, fine: int, every: bool, name: str) -> list[str]:
    """Rows of the table."""
    ways = rules(subject, every)
    with tqdm(total=(1 + seeds + seeds * len(ways) * len(evaluations)), desc=name, leave=False) as bar:
        # Other seeds: nothing of the reference is in what is compared with it.
        draws = 1 if name == "Shapes" else 16
        reference = MMG("gap", Trapezoid(fine), draws, antithetic=True)(
            subject.denoiser, subject.x, subject.cond, seed=10_000, logsnr_range=subject.logsnr_range
        )
        references = {
            form: integrate(reference.using(form).values, reference.curve.weight, reference.curve.independent)
            for form in OF_PRETRAINED
        }
        bar.update()
        most = max(evaluations) // 2
        papers: list[Tensor] = []
        for seed in range(seeds):
            papers.append(separate(subject, most, seed))
            bar.update()
        drawn = torch.stack(papers)
        runs: Mapping[tuple[str, int], list[dict[str, Tensor]]] = {
            (way, count): [] for way in ways for count in evaluations
        }
        for (way, count), repeats in runs.items():
            for seed in range(seeds):
                repeats.append(together(subject, *ways[way](count // 2), seed=seed))
                bar.update()
    rows: list[str] = []
    for count in evaluations:
        old = Repeats(drawn[..., : count // 2].mean(2), *references["gap"])
        rows.append(
            f"| {name} | {count} | papers: independent logistic, separate noise | gap | {old.spread:.3f} | {old.bias} | |"
        )
        for way in ways:
            for form in OF_PRETRAINED:
                here = Repeats(torch.stack([repeat[form] for repeat in runs[way, count]]), *references[form])
                rows.append(
                    f"| {name} | {count} | {way} | {form} | {here.spread:.3f} | {here.bias} | {(old.spread / here.spread) ** 2:.1f} |"
                )
    return rows


def main(
    pairs: int = 6,
    seeds: Annotated[int, typer.Option(min=2, help="Repeats of every measurement.")] = 12,
    evaluations: Annotated[list[int], typer.Option(help="Network evaluations of a pair.")] = [32, 64, 128],  # noqa: B006
    fine: Annotated[int, typer.Option(help="Levels of the reference.")] = 256,
    every: Annotated[bool, typer.Option("--every", help="Other rules as well.")] = False,
) -> None:
    """Measure, then print the table."""
    torch.set_num_threads(1)
    print("| model | evaluations a pair | levels and noise | form | standard error, nats | bias, nats | fewer calls |")
    print("|---|--:|---|---|--:|--:|--:|")
    for name, make in (("oracle", oracle), ("Shapes", shapes)):
        repeats = seeds if name == "Shapes" else 4 * seeds
        for row in measure(make(pairs), evaluations, repeats, fine, every, name):
            print(row, flush=True)
