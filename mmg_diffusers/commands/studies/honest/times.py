"""A network that was trained on logit-normal times, wrapped with the default ones, and measured over the levels that it knows."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from mmg_diffusers.arrays.labels import filter_labels
from mmg_diffusers.commands.studies.honest.networks import Network, Recipe
from mmg_diffusers.commands.studies.honest.worlds import Labels
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.denoisers.base import Adapted
from mmg_diffusers.denoisers.interpolant import Interpolant
from mmg_diffusers.measure.candidates import NoisePath
from mmg_diffusers.measure.estimators import MMG
from mmg_diffusers.measure.known import known_range
from mmg_diffusers.measure.quadrature import Trapezoid

WORLD, PAIRS, STEPS, BATCH = Labels(10, 64, 0.5, seed=61), 64, 1500, 256


def _trained() -> Adapted:
    """Predicts x of t x + (1 - t) eps, t = sigmoid(n) with a standard normal n (Esser et al., arXiv 2403.03206, eq. 19)."""
    with torch.enable_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(WORLD, Recipe(width=128))
        optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=STEPS)
        means, deviation = WORLD.means.float(), WORLD.variance**0.5
        for _ in range(STEPS):
            label = torch.randint(WORLD.count, (BATCH,))
            x = means[label] + deviation * torch.randn(BATCH, WORLD.size)
            t = torch.sigmoid(torch.randn(BATCH))
            noisy = t[:, None] * x + (1 - t)[:, None] * torch.randn_like(x)
            told = torch.where(torch.rand(BATCH) < 0.1, WORLD.count, label)
            loss = (network(noisy, t, told) - x).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    convention = Interpolant("sample", signal=lambda t: t, noise=lambda t: 1 - t)
    return Adapted(network.eval(), convention, null={"label": torch.tensor([WORLD.count])})


def times() -> dict[str, Any]:
    """The number over the default times, over the levels that are known, with and without what y can hold, and the bound."""
    denoiser, sample = _trained(), WORLD.sample(PAIRS, 62)
    known = known_range(denoiser, sample.x)
    estimator = MMG("gap", Trapezoid(48), antithetic=True)
    labels, truth = {"label": torch.arange(WORLD.count)}, sample.cond["label"]
    rows: list[dict[str, Any]] = []
    for name, ends in (("default times", denoiser.logsnr_range), ("known levels", known.logsnr_range)):
        read = {
            "null": estimator(denoiser, sample.x, sample.cond, logsnr_range=ends),
            "null, entropy stated": estimator(
                denoiser, sample.x, sample.cond, logsnr_range=ends, entropy=math.log(WORLD.count)
            ),
            "labels, log q": filter_labels(denoiser, sample.x, labels, truth, path=NoisePath(logsnr_range=ends)),
        }
        rows += [
            {"over": name, "range": ends, "what": what, "mean": made.mean(), "verdict": str(made.verdict)}
            for what, made in read.items()
        ]
    return {"rows": rows, "truth": float(sample.truth.mean()), "note": str(known.note)}


def times_lines(found: dict[str, Any]) -> Iterator[str]:
    """A row a reading."""
    yield "| over | log-SNR | read | nats | verdict |"
    yield "|---|---|---|--:|---|"
    for row in found["rows"]:
        low, high = row["range"]
        yield f"| {row['over']} | {low:.2f} to {high:.2f} | {row['what']} | {plus_minus(row['mean'])} | {row['verdict']} |"
    yield ""
    yield f"Truth of these pairs {found['truth']:.3f}. Note: {found['note']}."
