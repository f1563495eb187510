"""All captions of the Shapes world against each of its images, kept in parts."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mmg_diffusers.analysis.classification import Classification
from mmg_diffusers.measure.candidates import CandidateCurve
from mmg_diffusers.measure.quadrature import AtLevels
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from mmg_diffusers.runs.stages import Stages
from mmg_diffusers.worlds.shapes import CAPTIONS, ShapesSample

# The true caption is not known to the comparison, so that its path may be lost to a coarser bound.
PRUNE = 1e-6


@dataclass(frozen=True)
class Comparison:
    """All captions against each image, kept in parts, so that a run that is stopped goes on."""

    pipe: MMGPipeline
    stages: Stages
    steps: int
    high: float
    draws: int
    prune: float

    def __call__(self, name: str, sample: ShapesSample, seed: int) -> Classification:
        levels = AtLevels.widening(self.pipe.denoiser.logsnr_range[0], self.high, self.steps + 1).levels

        def measure(ids: range) -> CandidateCurve:
            return self.pipe.classify(
                [sample.images[i] for i in ids],
                CAPTIONS,
                levels=levels,
                draws=self.draws,
                prune=self.prune,
                seed=seed,
                pair_ids=ids,
            ).curve

        parts = self.stages.parts(name, len(sample), measure, CandidateCurve.load)
        prior = torch.full((len(CAPTIONS),), 1 / len(CAPTIONS), dtype=torch.float64)
        return Classification(CandidateCurve.merge(parts), CAPTIONS, prior)
