"""Marginals fitted to worlds that a model was not trained on, held against the exact information: ``--stage fitted``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.commands.texts import plus_minus
from mmg_diffusers.measure.candidates import CandidateCurve
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.value import Value, mean_over_pairs
from mmg_diffusers.pairs.mixture import Mixture
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pipelines.fitting import Fitted, follow
from mmg_diffusers.pipelines.pipeline import MMGPipeline
from mmg_diffusers.pipelines.shipped import model_place
from mmg_diffusers.runs.stages import Stages
from mmg_diffusers.tuning.fitting import FitPlan
from mmg_diffusers.tuning.soft import SoftPlan
from mmg_diffusers.worlds.shapes import CAPTIONS, Shapes, ShapesSample

Floats = NDArray[np.float64]
# Seeds of worlds and pairs that are reported; what was chosen was chosen on others.
WORLD, FIT, MEASURED = 70, 1100, 2100
# Of the path: fewer steps than by default, up to where posteriors have settled in these worlds.
STEPS, HIGH, PRUNE = 30, 6.0, 1e-6
# Pairs with the null as it stands, which is far off.
NULLS = 16
# A caption that a world lacks is this improbable, since its law wants all to be possible.
ABSENT = 1e-12
# Pairs of a group whose interval is held against the truth, and groups.
GROUP, GROUPS = 32, 50


@dataclass(frozen=True)
class World:
    """A world of Shapes that differs from the one that the models were trained on.

    Args:
        name: of the table.
        shapes: its law.
        sizes: which sizes there are, by the image's factor; all by default.
        pairs: how many are measured.
    """

    name: str
    shapes: Shapes
    sizes: tuple[float, float] = (0.0, 1.0)
    pairs: int = 64

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
    """The five worlds; those that share a seed share their priors."""
    few, skewed = _prior("few", seed), _prior("skewed", seed)
    return (
        World("15 captions", Shapes("soft", few)),
        World("15 captions, hard words", Shapes("hard", few), pairs=32),
        World("skewed prior", Shapes("soft", skewed)),
        # Where a size is called large by some and small by others, mostly; the law of size given its word is the same up to that.
        World("middle sizes", Shapes("soft"), (0.3, 0.7), pairs=32),
        World("hard words", Shapes("hard"), pairs=32),
    )


# What each world's marginal is fitted to, and how.
PLAIN = FitPlan()
WAYS: Mapping[str, Mapping[str, tuple[int, FitPlan]]] = {
    "15 captions": {"2,000 images": (2000, PLAIN), "300 images": (300, PLAIN)},
    "15 captions, hard words": {"2,000 images": (2000, PLAIN)},
    "skewed prior": {"2,000 images": (2000, PLAIN), "2,000 images, 12 soft prompts": (2000, FitPlan(SoftPlan(12)))},
    "hard words": {"2,000 images": (2000, PLAIN)},
    "middle sizes": {"2,000 images": (2000, PLAIN)},
}


def measure_null(model: str, world: World) -> dict[str, Any]:
    """What the null of a model that ships reads as it stands, on the first few pairs of a world."""
    pipe, images, prompts, exact = _fresh(model, world)
    out = pipe(images[:NULLS], prompts[:NULLS], levels=24)
    return _read(out, exact[:NULLS])


def measure_fitted(model: str, world: World, count: int, plan: FitPlan) -> dict[str, Any]:
    """What a marginal reads that is fitted to other pairs of a world, and along the same path the candidates' bound.

    Args:
        model: that ships.
        world: where it is measured.
        count: images that it is fitted to.
        plan: how.
    """
    pipe, images, prompts, exact = _fresh(model, world)
    sample = world.draw(count, FIT)
    began = time.process_time()
    fitted = pipe.fit(list(sample.images), sample.prompts, plan=plan, progress=False)
    seconds = time.process_time() - began
    estimate, bound = _followed(pipe, fitted, world, images, prompts)
    row = _read(estimate, exact) | {"seconds": seconds, "prompts": len(fitted.parts[0].soft or ())}
    return row if bound is None else row | {"bound": bound.in_mean().nats.tolist()}


def _fresh(model: str, world: World) -> tuple[MMGPipeline, list[Any], list[str], Tensor]:
    """The model, and the pairs that are measured with their exact information."""
    pipe = MMGPipeline.from_pretrained(model_place(model))
    pipe.set_progress_bar_config(disable=True)
    fresh = world.draw(world.pairs, MEASURED)
    exact = world.shapes.pointwise(fresh.factors, fresh.caption)
    return pipe, list(fresh.images), fresh.prompts, torch.from_numpy(exact)


def _read(estimate: Estimate, exact: Tensor) -> dict[str, Any]:
    forms = {form: estimate.using(form).nats for form in ("gap", "orthogonal")}
    return {
        **{form: nats.tolist() for form, nats in forms.items()},
        "exact": exact.tolist(),
        "certificate": list(estimate.certificate),
        "evaluations": estimate.evaluations / len(exact),
        "verdict": str(estimate.verdict),
    }


def _followed(
    pipe: MMGPipeline, fitted: Fitted, world: World, images: list[Any], prompts: list[str]
) -> tuple[Estimate, Filtered | None]:
    """The estimate with a fitted marginal; and along the same path, if that keeps prompts, the bound with the world's own prior."""
    plan = Plan(levels=STEPS, logsnr_range=(pipe.denoiser.logsnr_range[0], HIGH), prune=PRUNE)
    soft = fitted.parts[0].soft
    assert soft is not None
    with pipe.ready() as bench:
        pairs = bench.pairs(images, prompts, None, None, plan, fitted)
        curve = follow(bench, soft, pairs, plan)
    assert curve.mixture is not None
    estimate = Estimate(curve.mixture, "auto", notes=(fitted.note,))
    if not soft.texts or any(prompt not in soft.texts for prompt in prompts):
        return estimate, None
    prior = torch.tensor([world.shapes.caption_probability[CAPTIONS.index(text)] for text in soft.texts])
    prior = (prior.double() / prior.sum()).expand(len(prompts), -1).contiguous()
    truth = torch.tensor([soft.texts.index(prompt) for prompt in prompts])
    slots = torch.arange(len(soft.texts)).expand(len(prompts), -1).contiguous()
    evidence = CandidateCurve(curve.score[..., 1:].contiguous(), curve.logsnr, curve.pair_ids, curve.evaluations)
    return estimate, Filtered(evidence, Mixture(soft.texts, slots, prior, truth))


def coverage(row: Mapping[str, Any], exact: list[float], information: float, seed: int = 0) -> dict[str, float]:
    """How often the interval from the bound to the larger form, as in `Sandwich`, two standard errors added at either end, holds what is true.

    Groups of pairs are drawn from those that were measured, without the same one twice in a group.

    Args:
        row: of a fitted marginal, with a bound.
        exact: the pairs' own information, nats.
        information: of the world.
        seed: of the groups.

    Returns:
        shares: of groups whose interval holds their own mean (``pairs``), the world's information (``world``), and that lie too high
        or too low for the world's (``above``, ``below``); and the mean width.
    """
    generator = np.random.default_rng(seed)
    held = {"pairs": 0, "world": 0, "above": 0, "below": 0}
    width, count = 0.0, min(GROUP, len(exact) // 2)
    for _ in range(GROUPS):
        rows = torch.from_numpy(generator.choice(len(exact), count, replace=False))
        low, *forms = (mean_over_pairs(torch.tensor(row[name])[rows]) for name in ("bound", "gap", "orthogonal"))
        high = max(forms)
        least, most = low.value - 2 * low.stderr, high.value + 2 * high.stderr
        own = float(torch.tensor(exact)[rows].mean())
        held["pairs"] += least <= own <= most
        held["world"] += least <= information <= most
        held["above"] += least > information
        held["below"] += most < information
        width += (high.value - low.value) / GROUPS
    return {**{name: times / GROUPS for name, times in held.items()}, "width": width, "group": count}


def fitted_lines(world: World, found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A table of one world: what each marginal reads, and by how much it is off, pair by pair."""
    information = world.information()
    pairs = list(found.values())[-1]["exact"]
    yield (
        f"{world.name}: exact {plus_minus(mean_over_pairs(torch.tensor(pairs)))} over {len(pairs)} pairs, {information:.3f} in the world; captions hold "
        f"{world.shapes.entropy():.3f}"
    )
    yield ""
    yield "| marginal | gap | orthogonal | certificate | bound | gap off | orthogonal off | bound off | middle off | evaluations a pair | verdict |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|"
    for name, row in found.items():
        exact, gap, orthogonal = (torch.tensor(row[one]) for one in ("exact", "gap", "orthogonal"))
        cells = [plus_minus(mean_over_pairs(values)) for values in (gap, orthogonal)]
        cells.append(plus_minus(Value(*row["certificate"])))
        bound = torch.tensor(row["bound"]) if "bound" in row else None
        cells.append("" if bound is None else plus_minus(mean_over_pairs(bound)))
        cells += [_off(gap, exact), _off(orthogonal, exact)]
        cells += ["", ""] if bound is None else [_off(bound, exact), _off((gap + bound) / 2, exact)]
        yield f"| {' | '.join([name, *cells, format(row['evaluations'], '.0f'), row['verdict']])} |"
    for name, row in found.items():
        if "bound" in row:
            held = coverage(row, row["exact"], information)
            yield ""
            yield (
                f"Sandwich of {name}, {GROUPS} groups of {held['group']}: holds the world's information in {held['world']:.0%}, the pairs' own in "
                f"{held['pairs']:.0%}; too low in {held['below']:.0%}, too high in {held['above']:.0%}; {held['width']:.2f} nats wide"
            )


def _off(values: Tensor, exact: Tensor) -> str:
    difference = mean_over_pairs(values - exact)
    share, error = (100 * part / float(exact.mean()) for part in difference)
    return f"{share:+.1f} ± {error:.1f} %"


def fitted_tables(stages: Stages, model: str = "shapes-plain") -> Iterator[str]:
    """Measure what is missing, each marginal of each world by itself, and tell the lines of every world."""
    for world in worlds():
        found = {"null as it stands": stages(f"{world.name}, null", partial(measure_null, model, world))}
        for name, (count, plan) in WAYS[world.name].items():
            found[name] = stages(f"{world.name}, {name}", partial(measure_fitted, model, world, count, plan))
        yield from ("", *fitted_lines(world, found))
