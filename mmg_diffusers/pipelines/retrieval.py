"""Rank captions by a funnel: a short path of noise for all, the whole one for those still in play."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mmg_diffusers.analysis.ranking import Funnel, Ranked, left_behind
from mmg_diffusers.measure.batches import range_within
from mmg_diffusers.measure.quadrature import AtLevels
from mmg_diffusers.pairs.marginals import Candidates
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pairs.videos import VideoLike
from mmg_diffusers.pipelines.bench import Bench


def short_paths(bench: Bench, plan: Plan, funnel: Funnel) -> list[Plan]:
    """The plans of the short paths of a funnel, one for each of its sieves.

    Raises:
        ValueError: for a short path that ends outside of the whole one.
    """
    low, high = range_within(bench.convention, plan.logsnr_range, plan.path().quadrature)
    plans: list[Plan] = []
    for sieve in funnel.sieves:
        if not low < sieve.until <= high:
            raise ValueError(
                f"the funnel's short path ends at log-SNR {sieve.until:g}; expected above {low:.2f} and up to {high:.2f}"
            )
        rule = AtLevels.widening(low, sieve.until, sieve.steps + 1)
        # None is left behind within it, and it is one path: its evidence only says who stays.
        plans.append(replace(plan, rule=rule, levels=None, logsnr_range=(low, sieve.until), prune=0.0, draws=1))
    return plans


def rank(
    bench: Bench, images: Sequence[VideoLike], ids: Tensor, among: Candidates, plan: Plan, funnel: Funnel
) -> Ranked:
    """Rank the captions for every image.

    Raises:
        ValueError: for a plan or a funnel that does not fit the model or the captions.
    """
    count, names = len(among.prompts), tuple(among.prompts)
    if plan.prune is None:
        plan = replace(plan, prune=min(funnel.prune, 0.1 / count))
    plan.check(bench.convention, candidates=count)
    paths = short_paths(bench, plan, funnel)
    short, _, remarks = bench.against_each_other(images, ids, among, paths[0], ())
    said = torch.log_softmax(among.probability.log() + funnel.trust * short.score.sum(2).mean(1), 1)
    stay, rows = funnel.in_play(said), short.evaluations
    for sieve, path in zip(funnel.then, paths[1:], strict=True):
        slots, prior = slots_of(stay, among.probability)
        again = bench.follow(images, ids, names, prior, path, slots)
        rows += again.evaluations
        later = torch.log_softmax(prior.log() + sieve.trust * again.score.sum(2).mean(1), 1)
        said = left_behind(said, later, slots, count)
        stay = torch.zeros_like(stay).scatter(1, slots, sieve.in_play(later))
    slots, prior = slots_of(stay, among.probability)
    whole = bench.follow(images, ids, names, prior, plan, slots)
    each = torch.log_softmax(prior.log()[:, None] + whole.score.sum(2), 2)
    later = torch.log_softmax(prior.log() + whole.score.sum(2).mean(1), 1)
    best = later.argmax(1)
    spread = each[torch.arange(len(best)), :, best]
    draws = spread.shape[1]
    error = spread.std(1) / draws**0.5 if draws > 1 else torch.full_like(spread[:, 0], torch.nan)
    steps = whole.score.shape[2]
    return Ranked(
        tuple(map(str, names)),
        left_behind(said, later, slots, count),
        among.probability,
        stay,
        error,
        ids,
        rows + whole.evaluations,
        len(ids) * count * steps * draws,
        bench.path_settings(plan, whole.logsnr) | {"funnel": repr(funnel)},
        notes=remarks,
    )


def slots_of(stay: Tensor, probability: Tensor) -> tuple[Tensor, Tensor]:
    """Slots `(N, M)` of the captions in play, in their order, and their prior among themselves: 0 in slots that are empty.

    Args:
        stay: `(N, K)` which are in play.
        probability: `(K,)` of all.
    """
    width = int(stay.sum(1).max())
    slots = torch.sort((~stay).double(), dim=1, stable=True).indices[:, :width]
    prior = torch.where(stay.gather(1, slots), probability[slots], 0.0)
    return slots, prior / prior.sum(1, keepdim=True)
