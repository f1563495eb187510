"""What tuning with the likelihood's objective gains on an exact mixture, beside the same number of steps of the old loss.

A small network is trained as DDPM's were, with the levels of that linear schedule, all equally likely. Then copies of it are trained for half
as many steps again: with the same loss, which is the control, and with levels even in log-SNR. One is trained so from scratch, for
as many steps in all. Each is measured on the same fresh x at the same noise; the excess is the mean of exact log p less the network's.
The ensemble of the last three is chosen on 300 other x. Of tasks on a grid, networks predict on its hull (`OnGrid`) and log P is
measured. Differences are paired, x by x, and their mean over training seeds is given with its standard error over x, and each seed's own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import typer
from torch import Tensor

from mmg_diffusers.arrays.base import MultiDenoiser, Roles
from mmg_diffusers.arrays.heads import OnGrid
from mmg_diffusers.arrays.losses import Levels
from mmg_diffusers.arrays.networks import VectorNetwork
from mmg_diffusers.arrays.trainer import Objective, Trainer, TrainSettings, rows_of
from mmg_diffusers.denoisers.exact import GaussianReference
from mmg_diffusers.denoisers.known import ExactDenoiser
from mmg_diffusers.files.identity import row_marks
from mmg_diffusers.measure import Continuum, Density, Ensemble, Grid, StratifiedUniform, mean_over_pairs
from mmg_diffusers.worlds.densities import KnownLaw
from mmg_diffusers.worlds.densities.base import Array, Ints
from mmg_diffusers.worlds.tasks import get_density_task

ALONE = (Roles(("x",), ()),)
WAYS = ("DDPM", "+ the same loss", "+ likelihood", "likelihood from scratch", "ensemble of the last three")
# Of DDPM's linear schedule.
_ALPHAS = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
SCHEDULE = torch.logit(_ALPHAS)


@dataclass
class OfSchedule(Levels):
    """The levels of DDPM's linear schedule, all equally likely."""

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        return SCHEDULE[torch.randint(len(SCHEDULE), (count,), generator=generator)]


@dataclass(frozen=True)
class Trained:
    """How networks of one seed are trained on one task."""

    task: str
    steps: int
    batch: int
    seed: int

    def network(self) -> MultiDenoiser:
        """One that was not trained."""
        x = self.data(5000, 1)
        ends = (float(SCHEDULE.min()), float(SCHEDULE.max()))
        levels = get_density_task(self.task).law.levels
        # A head on a grid starts from independent coordinates.
        covariance = torch.cov(x.double().T) if levels is None else torch.eye(x.shape[1])
        network = VectorNetwork({"x": x.shape[1]}, covariance, logsnr_range=ends, seed=self.seed)
        return network if levels is None else OnGrid(network, {"x": Grid(*levels)})

    def data(self, count: int, part: int) -> Tensor:
        """Draws of the task, other ones for each seed and part."""
        return torch.from_numpy(get_density_task(self.task).sample(count, 1000 * self.seed + part)).float().flatten(1)

    def train(self, network: MultiDenoiser, objective: Objective, steps: int) -> MultiDenoiser:
        """A copy of a network, trained."""
        settings = TrainSettings(
            steps=steps, batch=self.batch, lr=2e-3, objective=objective, check_every=max(1, steps // 5), average=0.99
        )
        held_out = {"x": self.data(1000, 2)}
        trainer = Trainer(
            copy.deepcopy(network), rows_of({"x": self.data(50_000, 3)}), held_out, ALONE, settings, seed=steps
        )
        if objective == "epsilon":
            trainer.levels = OfSchedule(*network.logsnr_range, 1.0)
        trainer.run(progress=False)
        return trainer.network

    def all(self) -> list[MultiDenoiser]:
        """The networks of `WAYS`, without the ensemble."""
        more = self.steps // 2
        start = self.network()
        ddpm = self.train(start, "epsilon", self.steps)
        return [
            ddpm,
            self.train(ddpm, "epsilon", more),
            self.train(ddpm, "likelihood", more),
            self.train(start, "likelihood", self.steps + more),
        ]


@dataclass(frozen=True)
class Flat:
    """A law of values of any shape, as one of vectors."""

    law: KnownLaw

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one value."""
        return (math.prod(self.law.shape),)

    def posterior_mean(self, observed: Array, sd: Array, label: Ints | None = None) -> Array:
        """That of the law."""
        return self.law.posterior_mean(observed.reshape(-1, *self.law.shape), sd, label).reshape(observed.shape)


def excess(networks: Sequence[MultiDenoiser], task: str, count: int, draws: int) -> tuple[Tensor, str]:
    """`(ways + 1, count)` nats by which exact log p is above each of `WAYS`, and last above the exact denoiser's; and what
    the ensemble says of its gain.
    """  # fmt: skip
    law = get_density_task(task).law
    drawn, other = (torch.from_numpy(get_density_task(task).sample(n, 999_990 + n)) for n in (count, 5000))
    reference = GaussianReference.fit(other.flatten(1))
    values = Continuum() if law.levels is None else Grid(*law.levels)
    estimator = Density(reference, StratifiedUniform(64), draws, values=values)
    ends = values.range_of(networks[0].logsnr_range) or networks[0].logsnr_range
    views = [network.view("x") for network in networks]
    # Data that have few values, such as spins, repeat themselves: what is measured chooses nothing.
    unseen = other[~torch.isin(row_marks(other.flatten(1)), row_marks(drawn.flatten(1)))]
    ensemble = Ensemble.choose(views[-3:], unseen[:300].flatten(1).float())
    known = torch.from_numpy(law.log_prob(drawn.numpy()))
    made = (*views, ensemble, ExactDenoiser(Flat(law)))
    found = [known - estimator(one, drawn.flatten(1), logsnr_range=ends).nats for one in made]
    return torch.stack(found), ensemble.notes[0]


def main(
    task: Annotated[str, typer.Option(help="A density task, by key.")] = "mixture-8",
    steps: Annotated[int, typer.Option(min=2, help="Steps of the first training.")] = 2500,
    batch: int = 128,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each.")] = 3,
    count: Annotated[int, typer.Option(min=2, help="x that are measured.")] = 1000,
    draws: int = 4,
) -> None:
    """Train, measure, then print the tables."""
    torch.set_num_threads(1)
    results = [excess(Trained(task, steps, batch, seed).all(), task, count, draws) for seed in range(seeds)]
    found = torch.stack([nats for nats, _ in results])
    print("| network | excess, nats | by training seed |")
    print("|---|--:|---|")
    for number, way in enumerate((*WAYS, "exact denoiser")):
        each = ", ".join(f"{float(value):.3f}" for value in found[:, number].mean(1))
        print(f"| {way} | {mean_over_pairs(found[:, number].mean(0))} | {each} |")
    print("\n| paired difference of the excess | nats | by training seed |")
    print("|---|--:|---|")
    for one, other in ((0, 1), (1, 2), (0, 2), (1, 3), (3, 4)):
        difference = found[:, one] - found[:, other]
        each = ", ".join(str(mean_over_pairs(values)) for values in difference)
        print(f"| {WAYS[one]}, less {WAYS[other]} | {mean_over_pairs(difference.mean(0))} | {each} |")
    print()
    for seed, (_, said) in enumerate(results):
        print(f"- seed {seed}: {said}")
