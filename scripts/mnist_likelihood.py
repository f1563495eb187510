"""Train a small U-Net on MNIST's digits by the likelihood's objective, and measure bits a dimension of digits that were held out.

    python scripts/mnist_likelihood.py FOLDER_OF_MNIST runs/mnist               # half an hour of one core; the same command goes on
    python scripts/mnist_likelihood.py FOLDER_OF_MNIST runs/mnist --no-train    # measure the weights as far as they are trained

FOLDER has MNIST's own test files (``t10k-*``), 10,000 digits: 1,000 are kept to be measured, 250 decide which weights are kept, and
the others are trained on, 28 x 28 pixels in [-1, 1]. The network predicts on the grid of 256 values, by `OnGrid`. It is read twice:
log P of the digits, and log p of them with uniform noise of a step's width added, by `SpreadOnGrid`, which in the mean bounds log P from
below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from mmg_diffusers.arrays import OnGrid
from mmg_diffusers.arrays.base import Roles
from mmg_diffusers.arrays.heads import SpreadOnGrid
from mmg_diffusers.arrays.image_networks import ImageNetwork
from mmg_diffusers.arrays.trainer import Trainer, TrainSettings, rows_of
from mmg_diffusers.denoisers import GaussianReference
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


def untrained(seed: int) -> ImageNetwork:
    """The network as training finds it, without its head."""
    return ImageNetwork({"x": (1, 28, 28)}, logsnr_range=RANGE, widths=(32, 64, 64), seed=seed)


def independent(split: Split) -> tuple[float, float]:
    """Bits a dimension of the digits kept to be measured if pixels were independent, by their shares alone, with the standard error."""
    log_share = OnGrid.shares_of(split.trained, GRID).log2()
    levels = GRID.index(split.measured)[..., None]
    bits = -log_share.expand(len(levels), *log_share.shape).gather(-1, levels).flatten(1).mean(1)
    return float(bits.mean()), float(bits.std()) / len(bits) ** 0.5


def trainer_of(split: Split, folder: Path, settings: TrainSettings, seed: int) -> Trainer:
    """The training, as far as its checkpoint has it."""
    return Trainer(
        OnGrid(untrained(seed), {"x": GRID}, {"x": OnGrid.shares_of(split.trained, GRID)}),
        rows_of({"x": split.trained}),
        {"x": split.watched},
        ROLES,
        settings,
        seed=seed,
        checkpoint=folder / "grid.safetensors",
        description="grid",
    )


@dataclass(frozen=True)
class Reading:
    """What is measured by a network: digits on their grid, or with noise of a step added."""

    spread: bool
    head: OnGrid
    split: Split
    seed: int

    @property
    def name(self) -> str:
        """What tables call it."""
        return "dequantised" if self.spread else "discrete"

    def of(self, x: Tensor, part: int) -> Tensor:
        """Digits as they are measured; the noise of each part is its own."""
        return spread(x, torch.Generator().manual_seed(1000 * self.seed + part)) if self.spread else x

    def measure(self, count: int, levels: int) -> LogLikelihood:
        """Measure digits that were held out; the reference and the pilot are of others."""
        x, others = self.of(self.split.measured[:count], 2), self.of(self.split.trained, 3)
        chosen = Density(
            GaussianReference.fit(others),
            StratifiedUniform(levels),
            values=Continuum() if self.spread else GRID,
        )
        denoiser = self.head.view("x")
        return chosen.piloted(denoiser, others[:PILOT], seed=self.seed)(denoiser, x, seed=self.seed)

    def bits(self, found: LogLikelihood) -> tuple[float, float]:
        """Bits a dimension of P, with the standard error over digits; of dequantised ones the bound that they are."""
        value = found.mean()
        scale = found.dimensions * math.log(2)
        # A density of dequantised digits, times a step's width in each dimension, bounds P from below in the mean.
        constant = -math.log2(GRID.step) if self.spread else 0.0
        return constant - value.value / scale, value.stderr / scale


def main(
    folder: Annotated[Path, typer.Argument(help="Folder of MNIST's t10k files.")],
    output: Annotated[Path, typer.Argument(help="Folder for the checkpoint and the records.")],
    steps: int = 1600,
    batch: int = 32,
    lr: float = 1e-3,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 100,
    count: Annotated[int, typer.Option(max=MEASURED, help="Digits that are measured.")] = 200,
    levels: Annotated[int, typer.Option(help="Noise levels at which each is seen.")] = 32,
    seed: int = 0,
    train: Annotated[bool, typer.Option(help="Train first, or go on with it.")] = True,
) -> None:
    """Train, or go on with it; then print a table of what was measured."""
    torch.set_num_threads(1)
    split = Split.of(folder, seed)
    settings = TrainSettings(
        steps, batch, lr=lr, objective="likelihood", check_every=save_every, patience=max(1, steps // save_every)
    )
    output.mkdir(parents=True, exist_ok=True)
    trainer = trainer_of(split, output, settings, seed)
    if train:
        trainer.run()
    best = trainer.best.eval()
    assert isinstance(best, OnGrid)
    shares = {"x": OnGrid.shares_of(split.trained, GRID)}
    rows: list[str] = []
    for reading in (
        Reading(False, best, split, seed),
        Reading(True, SpreadOnGrid(best.network, {"x": GRID}, shares), split, seed),
    ):
        found = reading.measure(count, levels)
        found.save(output / f"{reading.name}.safetensors")
        print(found, flush=True)
        (bits, error), mean = reading.bits(found), found.mean()
        each = float(found.stderr.median()) / (found.dimensions * math.log(2))
        rows.append(
            f"| {reading.name} | {len(found):,} | {found.evaluations // len(found)} | {-mean.value:.1f} +- {mean.stderr:.1f} "
            f"| {bits:.4f} +- {error:.4f} | {each:.4f} |"
        )
    alone, off = independent(split)
    print(f"pixels as if they were independent, of {MEASURED:,} digits: {alone:.4f} +- {off:.4f} bits a dimension")
    size = sum(parameter.numel() for parameter in best.parameters())
    print(
        f"{size:,} parameters, {trainer.step:,} of {steps:,} steps of {batch} digits, {trainer.seconds / 60:.0f} minutes"
    )
    print("| reading | digits | evaluations of each | -log, nats | bits a dimension of P | stderr of one digit |")
    print("\n".join(["|---|--:|--:|--:|--:|--:|", *rows]))


if __name__ == "__main__":
    typer.run(main)
