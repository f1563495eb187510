"""How likely the shipped models find pictures of their world, and others; ratios against the exact information of captions.

    python scripts/measure_likelihood.py shapes-plain FOLDER_OF_MNIST runs/likelihood-plain     # minutes of one core
    python scripts/measure_likelihood.py shapes-flow FOLDER_OF_MNIST runs/likelihood-flow

256 fresh pictures are measured, told their captions and told nothing, and others told nothing: uniform noise, single colours, the
mean latent, the fresh pictures with their colours flipped, and MNIST's digits in grey on black. 128 evaluations of each, against a
Gaussian of other pictures of the world, at levels that a pilot of 16 more found; ``--pilot 0`` does without. Every set is written to the
folder as it is done; one that is there is read back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import torch
import typer
from torch import Tensor

from mmg_diffusers import MMGPipeline, shapes_model
from mmg_diffusers.analysis.typicality import over_reference, typicality
from mmg_diffusers.denoisers import GaussianReference
from mmg_diffusers.files.identity import Identity
from mmg_diffusers.files.whole import claim
from mmg_diffusers.measure import Density, LogLikelihood, mean_over_pairs
from mmg_diffusers.pipelines.folding import folded_zeros
from mmg_diffusers.worlds.digits import Digits
from mmg_diffusers.worlds.shapes import Shapes

# Seeds of pictures that no training saw.
OTHER_SEED, TEST_SEED = 1001, 2002
MEAN = "the mean latent"


def pictures(digits: Path, fresh: int, few: int) -> dict[str, list[np.ndarray]]:
    """Sets of pictures `(32, 32, 3)` in [0, 1], by name."""
    made = np.random.default_rng(0)
    world = Shapes("soft").sample(fresh, TEST_SEED).images
    written = np.pad(Digits.read(digits, "test").sample(few, 0).images / 255, ((0, 0), (2, 2), (2, 2)))
    colours = made.uniform(0, 1, (few, 1, 1, 3))
    return {
        "fresh pictures": list(world),
        "uniform noise": list(made.uniform(0, 1, (few, 32, 32, 3)).astype(np.float32)),
        "single colours": list(np.broadcast_to(colours, (few, 32, 32, 3)).astype(np.float32)),
        "colours flipped": list((1 - world[:few]).astype(np.float32)),
        "MNIST digits": list(np.repeat(written[..., None], 3, 3).astype(np.float32)),
    }


def reference_of(pipe: MMGPipeline, folder: Path, count: int, pilot: int) -> GaussianReference:
    """The Gaussian of pictures of the world, with levels that a pilot of others found, or without: read back, or fitted and kept."""
    path = folder / "reference.safetensors"
    if not path.exists():
        images = list(Shapes("soft").sample(count + pilot, OTHER_SEED).images)
        pipe.fit_reference(images, choose=True, pilot=pilot).save(path)
    return GaussianReference.load(path)


class Measured:
    """Records by name, in a folder for one model and its settings."""

    def __init__(self, pipe: MMGPipeline, reference: GaussianReference, folder: Path, levels: int, draws: int) -> None:
        self.pipe, self.reference, self.folder = pipe, reference, folder
        self.levels, self.draws = levels, draws

    def __call__(self, name: str, measure: Callable[[], LogLikelihood]) -> LogLikelihood:
        """The record of a set: read back, or measured and kept."""
        path = self.folder / f"{name.replace(' ', '-')}.safetensors"
        if not path.exists():
            measure().save(path)
            print(f"{name}: done", flush=True)
        return LogLikelihood.load(path)

    def of(self, name: str, images: list[np.ndarray], prompts: list[str] | None = None) -> LogLikelihood:
        """Pictures, told their prompts or nothing."""
        return self(
            name,
            lambda: self.pipe.log_likelihood(
                images, prompts, reference=self.reference, levels=self.levels, draws=self.draws
            ),
        )

    def of_mean(self) -> LogLikelihood:
        """The mean latent of the pictures that the reference is of, as often as it is worth."""
        x = cast(Tensor, self.reference.mean).float()[None]
        density = replace(Density.of(self.reference, self.levels), draws=self.draws)
        with self.pipe.ready() as bench:
            return self(MEAN, lambda: density(bench.denoiser, x.repeat(8, 1, 1, 1)))


def rows(sets: dict[str, LogLikelihood]) -> list[str]:
    """Markdown of the sets, against the first."""
    usual = sets["fresh pictures"]
    least = float(usual.nats.min())
    written = [
        "| pictures | number | log p, nats | stderr of one | bits a dimension | least, greatest | less likely than every fresh one "
        "| over the Gaussian, nats | typicality |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, found in sets.items():
        mean, over = found.mean(), mean_over_pairs(over_reference(found))
        bits = -mean.value / (found.dimensions * np.log(2))
        share = "-" if found is usual else f"{float((found.nats < least).double().mean()):.0%}"
        usualness = "-" if found is usual or name == MEAN else f"{float(typicality(found, usual).median()):+.1f}"
        written.append(
            f"| {name} | {len(found)} | {mean.value:.1f} +- {mean.stderr:.1f} | {float(found.stderr.median()):.2f} | {bits:.3f} "
            f"| {float(found.nats.min()):.0f}, {float(found.nats.max()):.0f} | {share} | {over.value:+.1f} +- {over.stderr:.1f} "
            f"| {usualness} |"
        )
    return written


def main(
    model: Annotated[str, typer.Argument(help="shapes-plain or shapes-flow.")],
    digits: Annotated[Path, typer.Argument(help="Folder of MNIST's t10k files.")],
    output: Annotated[Path, typer.Argument(help="Folder for the records.")],
    fresh: int = 256,
    few: Annotated[int, typer.Option(help="Pictures of each other set.")] = 64,
    others: Annotated[int, typer.Option(help="Pictures that the reference is fitted on.")] = 2000,
    levels: int = 64,
    draws: int = 2,
    pilot: Annotated[int, typer.Option(help="More of them, that say at which levels noise is.")] = 16,
) -> None:
    """Measure what is missing in OUTPUT, then print the tables."""
    torch.set_num_threads(1)
    pipe = MMGPipeline.from_pretrained(shapes_model(model))
    pipe.set_progress_bar_config(mininterval=10)
    sets = pictures(digits, fresh, few)
    asked = {"weights": pipe.fingerprint(), "others": others, "levels": levels, "draws": draws, "pilot": pilot}
    claim(output, {**asked, "data": Identity.of(sets).digest})
    sample = Shapes("soft").sample(fresh, TEST_SEED)
    with folded_zeros(pipe.pipe):
        reference = reference_of(pipe, output, others, pilot)
        print(reference)
        measured = Measured(pipe, reference, output, levels, draws)
        found = {name: measured.of(name, images) for name, images in sets.items()}
        found[MEAN] = measured.of_mean()
        told = measured.of("told captions", sets["fresh pictures"], sample.prompts)
    print("\n".join(rows(found)))
    usual = found["fresh pictures"]
    print(f"\n{usual}\n\n{usual.evaluations // len(usual)} evaluations of each picture")
    ratio = told.versus(usual)
    exact = torch.from_numpy(Shapes("soft").pointwise(sample.factors, sample.caption))
    less = ratio.nats - exact
    print(
        f"\nlog p(x | caption) - log p(x): {ratio.mean()}, exact i(x; y) {mean_over_pairs(exact)}; difference {mean_over_pairs(less)}, "
        f"rms {float(less.square().mean().sqrt()):.2f}, median stderr {float(ratio.stderr.median()):.2f}, correlation "
        f"{float(torch.corrcoef(torch.stack([ratio.nats, exact]))[0, 1]):.2f}"
    )


if __name__ == "__main__":
    typer.run(main)
