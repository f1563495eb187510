"""The demonstration: the shipped model against the exact information of its world."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mmg_diffusers.analysis.classification import Classification
from mmg_diffusers.analysis.influence import influence
from mmg_diffusers.checks import needs
from mmg_diffusers.commands.answers import Answer
from mmg_diffusers.commands.figures import plot_influence, plot_maps, plot_mmse, save_figure
from mmg_diffusers.commands.texts import CERTIFICATE, plus_minus, title_of
from mmg_diffusers.files.whole import write_whole
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.moments import OF_PRETRAINED
from mmg_diffusers.measure.quadrature import AtLevels
from mmg_diffusers.measure.value import Value
from mmg_diffusers.measure.verdict import mapping_of
from mmg_diffusers.pipelines.pipeline import LEVELS, MMGPipeline
from mmg_diffusers.pipelines.progress import bar_of_parts
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes, ShapesSample, caption_parts

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# The candidates' posterior has settled below this level; two paths scatter less than one, more would take too long here.
SETTLED, PATHS = 5.0, 2
# Pairs at the least that the calibration is fitted to.
CALIBRATED = 8
CALIBRATION_SEED = 2**30


@dataclass(frozen=True)
class Demonstration:
    """What was measured on fresh pairs of the Shapes world, and what is true of them."""

    sample: ShapesSample
    exact: float
    exact_here: Value
    estimate: Estimate
    posterior: Classification

    @property
    def bound(self) -> Value:
        """The calibrated candidate bound."""
        return self.posterior.bound(self.sample.prompts)

    def table(self) -> Table:
        """The numbers side by side."""
        needs("rich", "cli")
        from rich.table import Table

        table = Table(title=f"What captions say about {len(self.sample)} fresh images of the Shapes world")
        table.add_column("")
        for column in ("nats", "log-SNR", "below", "above"):
            table.add_column(column, justify="right", no_wrap=True)
        bound, grid = self.bound, self.posterior.curve.logsnr
        table.add_row("exact I(image; caption)", f"{self.exact:.3f}")
        if self.estimate.ceiling is not None:
            table.add_row("ceiling, H(caption)", f"{float(self.estimate.ceiling.mean()):.3f}")
        table.add_row("exact, these pairs", plus_minus(self.exact_here))
        table.add_row(f"bound, {len(CAPTIONS)} captions", plus_minus(bound), f"{grid[0]:.2f} .. {grid[-1]:.2f}")
        for form in OF_PRETRAINED:
            read = self.estimate.using(form)
            edge, (low, high) = read.boundary, read.logsnr_range
            table.add_row(
                f"null prompt, {form}",
                plus_minus(read.mean()),
                f"{low:.2f} .. {high:.2f}",
                f"{edge.low.value:.3f}{'' if edge.low_decayed else ' !'}",
                f"{edge.high.value:.3f}{'' if edge.high_decayed else ' !'}",
            )
        table.add_row("certificate", plus_minus(self.estimate.certificate))
        table.caption = (
            "± one standard error over pairs. bound: candidate prompts, calibrated on other pairs. below, above: estimated "
            f"nats beyond the range; ! if the curve has not decayed. certificate: {CERTIFICATE}."
        )
        return table

    def summary(self) -> dict[str, Any]:
        """The numbers, by name."""
        return {
            "pairs": len(self.sample),
            "exact": self.exact,
            "exact_here": self.exact_here,
            "candidate_bound": self.bound,
            "calibration": asdict(self.posterior.calibration),
            **{form: self.estimate.using(form).mean() for form in OF_PRETRAINED},
            "certificate": self.estimate.certificate,
            **mapping_of(self.estimate.verdict),
            "warnings": self.estimate.warnings(),
            "evaluations": {"estimate": self.estimate.evaluations, "candidates": self.posterior.curve.evaluations},
            "settings": dict(self.estimate.settings),
            "versions": dict(self.estimate.versions),
        }

    def save(self, folder: Path) -> list[Path]:
        """Write the record, a summary and the figures; returns their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        made = [self.estimate.save(folder / "estimate.safetensors"), folder / "summary.json"]
        write_whole(made[1], (json.dumps(self.summary(), indent=1) + "\n").encode())
        shown = min(8, len(self.sample))
        figures = {
            "mmse": plot_mmse(self.estimate, title=title_of("mmse", "caption")),
            "influence": plot_influence(
                {form: influence(self.estimate.using(form)) for form in OF_PRETRAINED},
                ceiling=self.exact,
                title=title_of("influence", "caption"),
            ),
            "maps": plot_maps(
                list(self.sample.images[:shown]),
                self.estimate.pixel_map("orthogonal")[0][:shown],
                titles=[
                    f"{prompt.replace(' on the', chr(10) + 'on the')}, {nats:.1f} nats"
                    for prompt, nats in zip(self.sample.prompts[:shown], self.estimate.nats.tolist(), strict=False)
                ],
            ),
        }
        for name, figure in figures.items():
            made.append(save_figure(figure, folder / f"{name}.png", dpi=100))
        return made


def demonstrate(
    pipe: MMGPipeline,
    *,
    pairs: int = 40,
    levels: int = LEVELS,
    steps: int = 26,
    seed: int = 0,
    batch_size: int | None = None,
) -> Demonstration:
    """Measure a model of the Shapes world on fresh pairs.

    Args:
        pipe: a model of the Shapes world.
        pairs: how many; half as many others fit the calibration of the candidate posterior.
        levels: of the trapezoidal rule for the null branch.
        steps: of each of the candidates' two noise paths.
        seed: names the pairs and their noise.
        batch_size: rows per forward pass.
    """
    world = Shapes("soft")
    test, other = world.sample(pairs, seed), world.sample(max(CALIBRATED, pairs // 2), CALIBRATION_SEED ^ seed)
    # The same pairs' exact values: how much of a difference is these pairs and not the model.
    exact = torch.from_numpy(world.pointwise(test.factors, test.caption))
    with bar_of_parts(3, "demo", pipe.progress_bar_config):
        estimate = pipe(
            list(test.images),
            test.prompts,
            levels=levels,
            keep="pixel",
            seed=seed,
            batch_size=batch_size,
            entropy=world.entropy(),
        )  # fmt: skip
        path = AtLevels.widening(pipe.denoiser.logsnr_range[0], SETTLED, steps + 1).levels
        known, fresh = [
            pipe.classify(
                list(sample.images),
                CAPTIONS,
                levels=path,
                draws=PATHS,
                prune=1e-6,
                seed=seed ^ offset,
                batch_size=batch_size,
            )
            for sample, offset in ((other, 1), (test, 0))
        ]
    return Demonstration(
        test,
        world.mutual_information(),
        Value(float(exact.mean()), float(exact.std()) / len(exact) ** 0.5),
        estimate,
        fresh.calibrated(known.calibrate(other.prompts, parts=caption_parts())),
    )


def answer(demonstration: Demonstration, folder: Path) -> Answer:
    """The table and the warnings; writes the files."""
    made = demonstration.save(folder)
    says = [
        f"verdict on the null prompt: {demonstration.estimate.verdict}",
        demonstration.table(),
        *(f"note on the null prompt: {warning}" for warning in demonstration.estimate.warnings()),
    ]
    return Answer({"kind": "demo", **demonstration.summary()}, says, made)


def report(demonstration: Demonstration, folder: Path, console: Console | None = None) -> None:
    """Print the table and the warnings, and write the files."""
    answer(demonstration, folder).show(json=False, on=console)
