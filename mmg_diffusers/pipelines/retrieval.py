"""Rank captions by a funnel: a short path of noise for all, the whole one for those still in play."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mmg_diffusers.analysis.ranking import Funnel, Ranked, left_behind
from mmg_diffusers.measure.batches import range_within
from mmg_diffusers.measure.candidates import CandidateCurve
from mmg_diffusers.measure.known import of_unknown_candidates
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
    curve, _, remarks = bench.against_each_other(images, ids, among, paths[0], ())
    remarks = (*remarks, *of_unknown_candidates(curve))
    log_q, rows = log_posterior(among.probability, curve, funnel.trust), curve.evaluations
    stay = funnel.in_play(log_q)
    for sieve, path in zip(funnel.then, paths[1:], strict=True):
        slots, prior = slots_of(stay, among.probability)
        curve = bench.follow(images, ids, names, prior, path, slots)
        later, rows = log_posterior(prior, curve, sieve.trust), rows + curve.evaluations
        log_q = left_behind(log_q, later, slots, count)
        stay = torch.zeros_like(stay).scatter(1, slots, sieve.in_play(later))
    slots, prior = slots_of(stay, among.probability)
    curve = bench.follow(images, ids, names, prior, plan, slots)
    later = log_posterior(prior, curve)
    _, draws, steps, _ = curve.score.shape
    return Ranked(
        tuple(map(str, names)),
        left_behind(log_q, later, slots, count),
        among.probability,
        stay,
        error_of_best(prior, curve),
        ids,
        rows + curve.evaluations,
        len(ids) * count * steps * draws,
        bench.path_settings(plan, curve.logsnr) | {"funnel": repr(funnel)},
        notes=remarks,
    )


def log_posterior(prior: Tensor, curve: CandidateCurve, trust: float = 1.0) -> Tensor:
    """`(N, M)` log q after a path, by the mean evidence of its draws; -infinity in slots whose prior is 0.

    Args:
        prior: `(M,)` or `(N, M)`.
        curve: of the captions.
        trust: what the evidence is multiplied by.
    """
    return torch.log_softmax(prior.log() + trust * curve.score.sum(2).mean(1), 1)


def error_of_best(prior: Tensor, curve: CandidateCurve) -> Tensor:
    """`(N,)` standard error over draws of log q of the best caption; not a number for one draw."""
    each = torch.log_softmax(prior.log()[:, None] + curve.score.sum(2), 2)
    best = log_posterior(prior, curve).argmax(1)
    of_best = each[torch.arange(len(best)), :, best]
    draws = of_best.shape[1]
    return of_best.std(1) / draws**0.5 if draws > 1 else torch.full_like(of_best[:, 0], torch.nan)


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
