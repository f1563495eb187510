"""Worlds of Shapes that differ from the one that the models were trained on, and the ways to fit marginals to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mmg_diffusers.tuning.fitting import FitPlan
from mmg_diffusers.tuning.plan import TunePlan
from mmg_diffusers.tuning.soft import SoftPlan, SoftPrompts
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes, ShapesSample

# Seed of the worlds that are reported; what was chosen was chosen on others.
WORLD = 70
# A caption that a world lacks is this improbable, since its law wants all to be possible.
ABSENT = 1e-12

Ways = Mapping[str, tuple[int, FitPlan]]
"""What a marginal is fitted to, and how: images and plan, by name."""

PLAIN = FitPlan()
COUNTS: Ways = {"2,000 images": (2000, PLAIN), "300 images": (300, PLAIN)}
# Steps and images are few, for their cost.
SOFT: Ways = {"300 images, 12 soft prompts": (300, FitPlan(SoftPlan(12, steps=100)))}
SHORT = TunePlan(settings=replace(TunePlan().settings, steps=300))
TUNED: Ways = {"600 images, both branches tuned": (600, FitPlan(branches=SHORT))}


@dataclass(frozen=True)
class World:
    """A world of Shapes that differs from the one that the models were trained on.

    Args:
        name: of the table.
        shapes: its law.
        ways: to fit its marginal.
        sizes: which sizes there are, by the image's factor; all by default.
        pairs: how many are measured.
        model: that ships.
    """

    name: str
    shapes: Shapes
    ways: Ways
    sizes: tuple[float, float] = (0.0, 1.0)
    pairs: int = 64
    model: str = "shapes-plain"

    def draw(self, count: int, seed: int) -> ShapesSample:
        """So many pairs of this world."""
        low, high = self.sizes
        more = self.shapes.sample(count if high - low >= 1 else 3 * count, seed)
        rows = np.flatnonzero((more.factors.size >= low) & (more.factors.size <= high))[:count]
        return ShapesSample(
            more.images[rows], more.caption[rows], more.factors[rows], more.mask[rows], more.distractor[rows]
        )

    def information(self, count: int = 40_000) -> float:
        """The information of image and caption, nats, over fresh pairs without pictures."""
        caption, factors = self.shapes.sample_factors(count, seed=5)
        rows = np.flatnonzero((factors.size >= self.sizes[0]) & (factors.size <= self.sizes[1]))
        return float(self.shapes.pointwise(factors[rows], caption[rows]).mean())

    def prompts(self) -> SoftPrompts:
        """The captions that it has, as often as its law says: what fitting is to find."""
        return _as_often(torch.from_numpy(self.shapes.caption_probability).double())

    def counted(self, count: int, seed: int) -> SoftPrompts:
        """The captions of so many pairs, as often as they occur: what `FitPlan()` keeps of no more than 64 different ones."""
        sample = self.shapes.sample_factors(count if self.sizes == (0.0, 1.0) else 3 * count, seed)
        rows = np.flatnonzero((sample[1].size >= self.sizes[0]) & (sample[1].size <= self.sizes[1]))[:count]
        return _as_often(torch.bincount(torch.from_numpy(sample[0][rows]), minlength=len(CAPTIONS)).double())


def _as_often(weight: Tensor) -> SoftPrompts:
    share = weight / weight.sum()
    kept = (share > 2 * ABSENT).nonzero()[:, 0]
    return SoftPrompts(share[kept] / share[kept].sum(), tuple(CAPTIONS[int(k)] for k in kept))


def _prior(kind: Literal["few", "skewed"], seed: int) -> tuple[float, ...]:
    generator = np.random.default_rng(seed)
    count = len(CAPTIONS)
    if kind == "few":
        prior = np.full(count, ABSENT)
        prior[generator.choice(count, 15, replace=False)] = 1.0
    else:
        prior = generator.dirichlet(np.full(count, 0.3)) + ABSENT
    return tuple((prior / prior.sum()).tolist())


def worlds(seed: int = WORLD) -> tuple[World, ...]:
    """The worlds; those that share a seed share their priors."""
    few, skewed = _prior("few", seed), _prior("skewed", seed)
    return (
        World("15 captions", Shapes("soft", few), {**COUNTS, **TUNED}, pairs=160),
        World("15 captions, hard words", Shapes("hard", few), COUNTS, pairs=16),
        World("skewed prior", Shapes("soft", skewed), {**COUNTS, **SOFT}, pairs=16),
        # Where a size is called large by some and small by others, mostly; the law of size given its word is the same up to that.
        World("middle sizes", Shapes("soft"), COUNTS, (0.3, 0.7), pairs=16),
        World("48 captions, hard words", Shapes("hard"), COUNTS, pairs=16),
        World("15 captions, shapes-flow", Shapes("soft", few), COUNTS, pairs=8, model="shapes-flow"),
    )
