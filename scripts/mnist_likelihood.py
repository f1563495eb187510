"""Train two small U-Nets on MNIST's digits by the likelihood's objective, and measure bits a dimension of digits that were held out.

    python scripts/mnist_likelihood.py FOLDER_OF_MNIST runs/mnist        # half an hour a network, of one core; the same command goes on
    python scripts/mnist_likelihood.py FOLDER_OF_MNIST runs/mnist --no-train    # measure the weights as they are

FOLDER has MNIST's own test files (``t10k-*``), 10,000 digits: 1,000 are measured, 250 decide which weights are kept, and the
others are trained on. One network sees pixels on their grid of 256 values, through `OnGrid`; the other pixels that uniform
noise of a step's width was added to. Both see 28 x 28 pixels in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from mmg_diffusers.arrays import OnGrid
from mmg_diffusers.arrays.base import MultiDenoiser, Roles
from mmg_diffusers.arrays.image_networks import ImageNetwork
from mmg_diffusers.arrays.trainer import Trainer, TrainSettings, rows_of
from mmg_diffusers.denoisers import GaussianReference
from mmg_diffusers.files.identity import Identity
from mmg_diffusers.measure import Density, Grid
from mmg_diffusers.measure.density import Continuum
from mmg_diffusers.measure.likelihood import LogLikelihood
from mmg_diffusers.measure.quadrature import StratifiedUniform
from mmg_diffusers.worlds.digits import Digits

RANGE = (-7.0, 12.0)
GRID = Grid(-1.0, 1.0, 256)
ROLES = (Roles(("x",), ()),)
MEASURED, WATCHED, PILOT = 1000, 250, 64


def spread(x: Tensor, generator: torch.Generator) -> Tensor:
    """Add uniform noise of a step's width to pixels on the grid."""
    return x + GRID.step * (torch.rand(x.shape, generator=generator) - 0.5)


@dataclass(frozen=True)
class Spread:
    """A source that draws pictures with replacement and adds new noise to each."""

    x: Tensor

    def __call__(self, size: int, generator: torch.Generator) -> Mapping[str, Tensor]:
        return {"x": spread(rows_of({"x": self.x})(size, generator)["x"], generator)}

    def identity(self) -> Identity:
        """Digest the pictures, to which noise is added."""
        return Identity.of("spread", self.x)


@dataclass(frozen=True)
class Split:
    """Digits by what they are for, `(N, 1, 28, 28)` in [-1, 1]."""

    measured: Tensor
    watched: Tensor
    trained: Tensor

    @classmethod
    def of(cls, folder: Path, seed: int) -> Split:
        """Read the test digits and divide them in an order that the seed gives."""
        digits = Digits.read(folder, "test")
        pixels = torch.from_numpy(digits.sample(len(digits), seed).images)[:, None].float() / 127.5 - 1
        return cls(pixels[:MEASURED], pixels[MEASURED : MEASURED + WATCHED], pixels[MEASURED + WATCHED :])


@dataclass(frozen=True)
class Reading:
    """One of the two networks, and what is measured by it."""

    name: str
    on_grid: bool
    split: Split
    seed: int

    def network(self) -> MultiDenoiser:
        """The network as training finds it."""
        made = ImageNetwork({"x": (1, 28, 28)}, logsnr_range=RANGE, widths=(32, 64, 64), seed=self.seed)
        return OnGrid(made, {"x": GRID}) if self.on_grid else made

    def of(self, x: Tensor, part: int) -> Tensor:
        """Digits as the network sees them; the noise of each part is its own."""
        return x if self.on_grid else spread(x, torch.Generator().manual_seed(1000 * self.seed + part))

    def trainer(self, folder: Path, settings: TrainSettings) -> Trainer:
        """The training, as far as its checkpoint has it."""
        return Trainer(
            self.network(),
            rows_of({"x": self.split.trained}) if self.on_grid else Spread(self.split.trained),
            {"x": self.of(self.split.watched, 1)},
            ROLES,
            settings,
            seed=self.seed,
            checkpoint=folder / f"{self.name}.safetensors",
            description=self.name,
        )

    def measure(self, network: MultiDenoiser, levels: int) -> LogLikelihood:
        """log P of the digits that were held out, or log p of those with noise added; the pilot is of trained ones."""
        x, others = self.of(self.split.measured, 2), self.of(self.split.trained, 3)
        chosen = Density(
            GaussianReference.fit(others),
            StratifiedUniform(levels),
            values=GRID if self.on_grid else Continuum(),
        )
        denoiser = network.view("x")
        return chosen.piloted(denoiser, others[:PILOT], seed=self.seed)(denoiser, x, seed=self.seed)

    def bits(self, found: LogLikelihood) -> tuple[float, float]:
        """Bits a dimension of P, with the standard error over digits; of dequantised ones the bound that they are."""
        value = found.mean()
        scale = found.dimensions * math.log(2)
        # A density of dequantised digits, times a step's width in each dimension, bounds P from below in the mean.
        constant = 0.0 if self.on_grid else -math.log2(GRID.step)
        return constant - value.value / scale, value.stderr / scale


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of MNIST's t10k files.")],
    output: Annotated[Path, typer.Argument(help="Folder for checkpoints and records.")],
    steps: int = 1600,
    batch: int = 32,
    lr: float = 1e-3,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    levels: Annotated[int, typer.Option(help="Evaluations of each digit.")] = 64,
    seed: int = 0,
    train: Annotated[bool, typer.Option(help="Train first, or go on with it.")] = True,
) -> None:
    """Train both networks, or go on with it; then print a table of what was measured."""
    torch.set_num_threads(1)
    split = Split.of(folder, seed)
    settings = TrainSettings(
        steps, batch, lr=lr, objective="likelihood", check_every=save_every, patience=max(1, steps // save_every)
    )
    output.mkdir(parents=True, exist_ok=True)
    rows: list[str] = []
    for name, on_grid in (("grid", True), ("dequantised", False)):
        reading = Reading(name, on_grid, split, seed)
        trainer = reading.trainer(output, settings)
        if train:
            trainer.run()
        network = trainer.best.eval()
        found = reading.measure(network, levels)
        found.save(output / f"{name}-likelihood.safetensors")
        print(found, flush=True)
        bits, error = reading.bits(found)
        rows.append(
            f"| {name} | {sum(p.numel() for p in network.parameters()):,} | {trainer.step:,} | {trainer.seconds / 60:.0f} | {len(found):,} "
            f"| {found.evaluations // len(found)} | {-found.mean().value:.1f} +- {found.mean().stderr:.1f} | {bits:.4f} +- {error:.4f} |"
        )
    head = (
        "| network | parameters | steps | minutes | digits | evaluations of each | -log, nats | bits a dimension of P |"
    )
    print("\n".join([head, "|---|--:|--:|--:|--:|--:|--:|--:|", *rows]))


if __name__ == "__main__":
    typer.run(main)
