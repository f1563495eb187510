"""The model, its fresh pairs, and what the stages share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.analysis.maps import to_pixels
from mmg_diffusers.analysis.words import all_but
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.moments import Curve, Keep
from mmg_diffusers.measure.quadrature import AtLevels
from mmg_diffusers.measure.value import Value
from mmg_diffusers.pairs.marginals import Candidates
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from mmg_diffusers.runs.stages import Stages
from mmg_diffusers.worlds.shapes import CAPTIONS, SIZE, ShapesSample, caption_parts

# Fixed before anything was measured: a pixel is inside when at least half of it is covered; one latent cell is 4 pixels.
COVERED, CELL = 0.5, SIZE // 8
# Of log-SNR.
BAND = (-1.5, math.inf)
CLEAN = (3.0, math.inf)
PARTS = caption_parts()
Result = Mapping[str, Any]
Row = tuple[str, str, str, bool | None]
"""What is measured, its value, the bar, and whether that is met, if there is one."""


@dataclass(frozen=True)
class Settings:
    """How much is measured; see the options of ``scripts/measure_analyses.py``."""

    pairs: int = 256
    few: int = 32
    steps: int = 30
    high: float = 6.0
    draws: int = 8
    map_draws: int = 4
    prune: float = 1e-4
    null_levels: int = 32
    switched: int = 32
    sampling_steps: int = 50
    seed: int = 3003


@dataclass(frozen=True)
class Setup:
    """The model, its fresh pairs, and how they are measured."""

    pipe: MMGPipeline
    stages: Stages
    sample: ShapesSample
    settings: Settings

    def levels(self, high: float | None = None, steps: int | None = None) -> tuple[float, ...]:
        """Levels of the candidates' path."""
        low, top = self.pipe.denoiser.logsnr_range
        return AtLevels.widening(low, min(top, high or self.settings.high), (steps or self.settings.steps) + 1).levels

    def filter(
        self,
        name: str,
        word: str | None = None,
        *,
        count: int | None = None,
        levels: tuple[float, ...] | None = None,
        draws: int = 1,
        prune: float | None = None,
        keep: Keep = "pair",
        seed: int = 5,
    ) -> Filtered:
        """The posterior filter over all captions, or over those that differ in a word, kept in parts."""
        among = Candidates(CAPTIONS, groups=None if word is None else all_but(PARTS, word))

        def measure(ids: range) -> Filtered:
            return self.pipe.filter(
                [self.sample.images[i] for i in ids],
                [self.sample.prompts[i] for i in ids],
                among,
                keep=keep,
                levels=levels or self.levels(),
                draws=draws,
                prune=self.settings.prune if prune is None else prune,
                seed=seed,
                pair_ids=ids,
            )

        return Filtered.merge(self.stages.parts(name, count or len(self.sample), measure, Filtered.load))

    def null(self) -> Estimate:
        """The null prompt, with maps at every level, kept in parts."""

        def measure(ids: range) -> Estimate:
            return self.pipe(
                [self.sample.images[i] for i in ids],
                [self.sample.prompts[i] for i in ids],
                levels=self.settings.null_levels,
                keep="level",
                seed=5,
                pair_ids=ids,
            )

        return Estimate.merge(self.stages.parts("null", len(self.sample), measure, Estimate.load))


def end_of(curve: Curve) -> dict[str, float]:
    """The mean curves at the cleanest level, as shares of their peaks."""
    result = {"logsnr": float(curve.logsnr[0, 0, -1])}
    for form in ("gap", "orthogonal"):
        mean = getattr(curve, form).mean((0, 1))
        spread = float(getattr(curve, form).mean(1)[:, -1].std()) / len(curve) ** 0.5
        result[form] = float(mean[-1] / mean.abs().max())
        result[f"{form}_stderr"] = spread / float(mean.abs().max())
    return result


def sums(result: Estimate) -> float:
    """How far a map's sum, over image pixels, is from the pair's orthogonal value, at most."""
    maps = to_pixels(result.pixel_map("orthogonal")[0], (SIZE, SIZE))
    return float((maps.sum((1, 2)) - result.using("orthogonal").nats).abs().max())


def share(result: Estimate) -> Value:
    """The share of the orthogonal maps that the clean end makes, in the mean over pairs."""
    clean = result.pixel_map("orthogonal", CLEAN)[0].flatten(1).sum(1)
    whole = result.using("orthogonal").nats
    ratio = float(clean.sum() / whole.sum())
    rest = (clean - ratio * whole) / whole.mean()
    return Value(ratio, float(rest.std() / len(rest) ** 0.5) if len(rest) > 1 else float("nan"))


def arrival(result: Result) -> Iterator[Row]:
    """Of information over time: whether all of it is the number of the run, and where half of it has arrived."""
    whole, half = result["whole_is_the_estimate"], result["half"]
    yield "- influence at tau = T is the MI of the run", str(whole), "exactly", whole
    yield "- half has arrived at tau; log-SNR", f"{plus_minus(half['tau'])}; {plus_minus(half['logsnr'], 2)}", "", None
