"""Settings whose numbers are known to be right or wrong: those that thresholds were fixed on, and those that are reported.

The two lists differ in worlds, sizes, conventions, seeds and, but for the kinds that have to be in both, in what is wrong. Thresholds of
`mmg_diffusers.measure.verdict` and `mmg_diffusers.measure.judging` were fixed on the first list before the second was run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.commands.studies.honest.networks import TIMES, Recipe, train
from mmg_diffusers.commands.studies.honest.worlds import (
    Bits,
    Correlated,
    Erring,
    Forgetful,
    Labels,
    Masking,
    OfBits,
    Retold,
    Rounded,
    Sample,
)
from mmg_diffusers.denoisers.base import Adapted, Condition, Denoiser, Rescaled
from mmg_diffusers.denoisers.check import ForeignNetwork, foreign, present
from mmg_diffusers.denoisers.conventions import Convention, DiscreteVP, Karras, RectifiedFlow
from mmg_diffusers.denoisers.exact import GaussianReference
from mmg_diffusers.measure.batches import Pairs
from mmg_diffusers.measure.candidates import NoisePath, measure_candidates
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.estimators import MMG
from mmg_diffusers.measure.moments import Integrand
from mmg_diffusers.measure.quadrature import Trapezoid
from mmg_diffusers.measure.value import Value, mean_over_pairs
from mmg_diffusers.measure.verdict import Finding
from mmg_diffusers.pairs.mixture import Mixture
from mmg_diffusers.pipelines.bench import MASKED

PAIRS = 64
# An answer is false if it is off by more than three standard errors, a tenth of the truth, and this, in nats.
OFF = 0.05

Measurement = tuple[Estimate | Filtered, Tensor]
"""A record, and the information of each of its pairs in closed form, `(N,)` nats."""


@dataclass(frozen=True)
class Setting:
    """Something that is measured, and whether the number is to be believed."""

    name: str
    good: bool
    measure: Callable[[], Measurement]


def error_of(measured: Measurement) -> Value:
    """How far the mean is from the truth of the very pairs, with the standard error that noise leaves in it."""
    record, truth = measured
    return mean_over_pairs(record.in_mean().nats - truth)


def is_right(measured: Measurement) -> bool:
    """Whether the number is right: within three standard errors of the truth, a tenth of it, or `OFF`."""
    off, error = error_of(measured)
    return abs(off) <= max(3 * error, 0.1 * abs(float(measured[1].mean())), OFF)


def _measured(denoiser: Denoiser, sample: Sample, form: Integrand = "auto", **options: Any) -> Measurement:
    low, high = denoiser.logsnr_range
    ends = (max(low, -8.0), min(high, 8.0))
    made = MMG(form, Trapezoid(32), antithetic=True)(denoiser, sample.x, sample.cond, logsnr_range=ends, **options)
    return made, sample.truth


def _dressed(
    exact: Denoiser, speaks: Convention, sample: Sample, read: Convention | None = None
) -> tuple[Adapted, Sample]:
    """An exact denoiser that speaks one convention, read as if it spoke another."""
    empty = {name: value[:1] * 0 for name, value in sample.cond.items()}
    told = Sample(sample.x, present(sample.cond), sample.truth)
    if read is None:
        return foreign(exact, speaks, empty), told
    null: Condition = {**empty, "present": torch.zeros(1)}
    return Adapted(ForeignNetwork(exact, speaks), read, null=null, dtype=torch.float64), told


def _flow(prediction: str = "flow_prediction", **options: Any) -> RectifiedFlow:
    return RectifiedFlow(prediction, TIMES, time_scale=1.0, **options)


def _vp(prediction: str) -> DiscreteVP:
    return DiscreteVP.from_alphas(torch.sigmoid(torch.linspace(8, -8, 200, dtype=torch.float64)), prediction)


@cache
def _trained(world: Labels, recipe: Recipe) -> Adapted:
    return train(world, recipe)


def _in_training(world: Labels, recipe: Recipe) -> Adapted:
    made = train(world, recipe)
    assert isinstance(made.network, nn.Module)
    made.network.train()
    return made


def filtered(denoiser: Denoiser, sample: Sample, count: int, steps: int = 64, null: bool = False) -> Filtered:
    """Follow all of `count` equally likely labels."""
    low, high = denoiser.logsnr_range
    path = NoisePath(Trapezoid(steps + 1), logsnr_range=(max(low, -8.0), min(high, 8.0)), null=null)
    label = sample.cond["label"]
    every: dict[str, Tensor] = {"label": torch.arange(count)}
    if "present" in sample.cond:
        every["present"] = torch.ones(count)
    curve = measure_candidates(denoiser, Pairs.of(sample.x), every, path, truth=label)
    slots = torch.arange(count).expand(len(label), -1)
    prior = torch.full(slots.shape, 1 / count, dtype=torch.float64)
    return Filtered(curve, Mixture(tuple(map(str, range(count))), slots, prior, label))


# ---- those that thresholds were fixed on ----


def development() -> list[Setting]:
    """Twelve right and twelve wrong settings that thresholds were fixed on."""
    ten, many = Labels(10, 32, 0.5, seed=3), Labels(48, 64, 0.6, seed=4)
    forty, few = Labels(40, 32, 0.5, seed=3), Labels(6, 4, 0.8, seed=1)
    normal = Correlated(6, 0.8)
    labels, captions, pairs = ten.sample(PAIRS, 5), many.sample(PAIRS, 6), normal.sample(PAIRS, 7)
    entropy = math.log(10)

    def read(prediction: str, other: str, kind: Callable[[str], Convention]) -> Callable[[], Measurement]:
        return lambda: _measured(*_dressed(ten.exact(), kind(prediction), labels, kind(other)))

    def normals(size: int, correlation: float) -> Callable[[], Measurement]:
        world = Correlated(size, correlation)
        return lambda: _measured(world.exact(), world.sample(PAIRS, 1))

    erring = partial(Erring, null=0.006, conditional=0.001, above=1.0)
    known: dict[str, Any] = {"entropy": math.log(6)}
    good = {
        "labels": lambda: _measured(ten.exact(), labels, entropy=entropy),
        "captions": lambda: _measured(many.exact(), captions),
        "normal y": lambda: _measured(normal.exact(), pairs),
        "flow": lambda: _measured(*_dressed(ten.exact(), _flow(), labels)),
        "DDPM, epsilon": lambda: _measured(*_dressed(many.exact(), _vp("epsilon"), captions)),
        "rounded to float16": lambda: _measured(Rounded(ten.exact(), torch.float16), labels),
        "little information": normals(4, 0.15),
        "no information": normals(4, 0.0),
        "much information": normals(10, 0.9),
        "16 pairs": lambda: _measured(ten.exact(), ten.sample(16, 2)),
        "trained, epsilon": lambda: _measured(
            _trained(few, Recipe("epsilon", steps=2000)), few.sample(PAIRS, 9), **known
        ),
        "batch norm, evaluated": lambda: _measured(
            _trained(few, Recipe(normalise=True, steps=1000)), few.sample(PAIRS, 9), **known
        ),
    }
    wrong = {
        "null errs at the clean end, labels": lambda: _measured(erring(ten.exact()), labels, entropy=entropy),
        "null errs at the clean end, captions": lambda: _measured(erring(many.exact()), captions),
        "null of 40 labels, pairs of 8": lambda: _measured(
            forty.exact(), forty.sample(PAIRS, 5, among=8), entropy=math.log(8)
        ),
        "flow read as epsilon": read("flow_prediction", "epsilon", _flow),
        "epsilon read as flow": read("epsilon", "flow_prediction", _flow),
        "epsilon read as v": read("epsilon", "v_prediction", _vp),
        "v read as epsilon": read("v_prediction", "epsilon", _vp),
        "told another level, orthogonal": lambda: _measured(Retold(many.exact(), 1.0), captions, "orthogonal"),
        "x at half its scale, orthogonal": lambda: _measured(
            many.exact(), Sample(captions.x / 2, captions.cond, captions.truth), "orthogonal"
        ),
        "null errs, 8 pairs": lambda: _measured(
            Erring(many.exact(), null=0.012, conditional=0.001, above=1.0), many.sample(8, 3)
        ),
        "null rarely trained": lambda: _measured(
            _trained(few, Recipe(dropout=0.05, steps=300)), few.sample(PAIRS, 9), **known
        ),
        "batch norm, in training mode": lambda: _measured(
            _in_training(few, Recipe(normalise=True, steps=300)), few.sample(PAIRS, 9), batch_size=8, **known
        ),
    }
    return [
        *(Setting(name, True, measure) for name, measure in good.items()),
        *(Setting(name, False, measure) for name, measure in wrong.items()),
    ]


# ---- those that are reported ----


def reported(seed: int = 0) -> list[Setting]:
    """Twelve right and twelve wrong settings of other worlds, conventions and seeds.

    Args:
        seed: of the pairs; 0 is reported one by one, others add to the counts.
    """
    at = 1000 * seed
    ten, many = Labels(10, 96, 0.45, seed=31), Labels(60, 48, 0.7, seed=32)
    captions48, little = Labels(48, 40, 0.6, seed=33), Labels(5, 3, 0.85, seed=34)
    words = Labels(12, 24, 0.6, seed=35)
    normal, bits = Correlated(5, 0.85), Bits(16, 120, seed=36)
    wide = Labels(4, 4096, 0.006, seed=37)
    labels, captions, pairs = ten.sample(PAIRS, at + 41), many.sample(PAIRS, at + 42), normal.sample(PAIRS, at + 43)
    entropy: dict[str, Any] = {"entropy": math.log(10)}

    def masked(right: bool) -> Measurement:
        denoiser = Masking(words, 3, right)
        sample, given = denoiser.sample(PAIRS, at + 44)
        made, truth = _measured(denoiser, sample, given=given)
        assert isinstance(made, Estimate)
        # As a pipeline says of words that are masked.
        return (made if right else made.noting(Finding(MASKED, "masked words"))), truth

    def in_unit_range() -> Measurement:
        sample = Sample(0.5 + 0.25 * labels.x, labels.cond, labels.truth)
        return _measured(Rescaled(ten.exact(), 0.25, 0.5), sample, **entropy)

    good = {
        "labels, flow": lambda: _measured(*_dressed(ten.exact(), _flow(), labels), **entropy),
        "captions, DDPM, v": lambda: _measured(*_dressed(many.exact(), _vp("v_prediction"), captions)),
        "normal y, EDM": lambda: _measured(*_dressed(normal.exact(), Karras("edm"), pairs)),
        "little information": lambda: _measured(Correlated(5, 0.1).exact(), Correlated(5, 0.1).sample(PAIRS, at + 45)),
        "12 nats": lambda: _measured(Correlated(14, 0.9).exact(), Correlated(14, 0.9).sample(PAIRS, at + 46)),
        "rounded to float16": lambda: _measured(Rounded(normal.exact(), torch.float16), pairs),
        "trained, flow": lambda: _measured(
            _trained(little, Recipe(steps=2000, width=64, seed=5)), little.sample(PAIRS, at + 47), entropy=math.log(5)
        ),
        "trained, batch norm, evaluated": lambda: _measured(
            _trained(little, Recipe("epsilon", normalise=True, steps=1200, width=64, seed=6)),
            little.sample(PAIRS, at + 48),
            entropy=math.log(5),
        ),
        "24 pairs": lambda: _measured(many.exact(), many.sample(24, at + 49)),
        "a word given the other": lambda: masked(True),
        "x in [0, 1], rescaled": in_unit_range,
        "candidates, flow": lambda: (
            filtered(_dressed(ten.exact(), _flow(), labels)[0], _dressed(ten.exact(), _flow(), labels)[1], 10),
            labels.truth,
        ),
    }
    wrong = {
        "null errs at the clean end, labels": lambda: _measured(
            Erring(ten.exact(), null=0.005, above=2.0, seed=5), labels, **entropy
        ),
        "both err, captions": lambda: _measured(
            Erring(captions48.exact(), null=0.012, conditional=0.004, above=0.0, seed=6),
            captions48.sample(PAIRS, at + 50),
        ),
        "null of 48 captions, pairs of 15": lambda: _measured(
            captions48.exact(), captions48.sample(PAIRS, at + 51, among=15), entropy=math.log(15)
        ),
        "null of a wider normal law": lambda: _measured(Forgetful(GaussianReference(1.7), normal.exact()), pairs),
        "sample read as epsilon": lambda: _measured(
            *_dressed(ten.exact(), _flow("sample"), labels, _flow("epsilon")), **entropy
        ),
        "time reversed": lambda: _measured(*_dressed(many.exact(), _flow(told="signal"), captions, _flow())),
        "scaling factor forgotten": lambda: _measured(normal.exact(), Sample(5.5 * pairs.x, pairs.cond, pairs.truth)),
        "trained on absolute errors": lambda: _measured(OfBits(bits, median=True), bits.sample(PAIRS, at + 52)),
        "batch norm, in training mode": lambda: _measured(
            _in_training(little, Recipe(normalise=True, steps=400, width=64, seed=7)),
            little.sample(PAIRS, at + 53),
            batch_size=8,
        ),
        "bfloat16 inside, 4096 dimensions, orthogonal": lambda: _measured(
            Rounded(wide.exact(), torch.bfloat16, 2.0), wide.sample(PAIRS, at + 54), "orthogonal"
        ),
        "a word given the other, masked for the null prompt": lambda: masked(False),
        "null errs, 10 pairs": lambda: _measured(
            Erring(many.exact(), null=0.01, above=1.0, seed=8), many.sample(10, at + 55)
        ),
    }
    return [
        *(Setting(name, True, measure) for name, measure in good.items()),
        *(Setting(name, False, measure) for name, measure in wrong.items()),
    ]
