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


def short_path(bench: Bench, plan: Plan, funnel: Funnel) -> Plan:
    """The plan of the path that all captions are followed along.

    Raises:
        ValueError: for a short path that ends outside of the whole one.
    """
    low, high = range_within(bench.convention, plan.logsnr_range, plan.path().quadrature)
    if not low < funnel.until <= high:
        raise ValueError(
            f"the funnel's short path ends at log-SNR {funnel.until:g}; expected above {low:.2f} and up to {high:.2f}"
        )
    rule = AtLevels.widening(low, funnel.until, funnel.first + 1)
    # None is left behind within it, and it is one path: its evidence only says who stays.
    return replace(plan, rule=rule, levels=None, logsnr_range=(low, funnel.until), prune=0.0, draws=1)


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
    log_prior = among.probability.log()
    short, _, remarks = bench.against_each_other(images, ids, among, short_path(bench, plan, funnel), ())
    first = torch.log_softmax(log_prior + funnel.trust * short.score.sum(2).mean(1), 1)
    stay = funnel.in_play(first)
    width = int(stay.sum(1).max())
    # Those that stay, in the order of the captions, and then some slots that are empty.
    slots = torch.sort((~stay).double(), dim=1, stable=True).indices[:, :width]
    prior = torch.where(stay.gather(1, slots), among.probability[slots], 0.0)
    whole = bench.follow(images, ids, names, prior / prior.sum(1, keepdim=True), plan, slots)
    each = torch.log_softmax(prior.log()[:, None] + whole.score.sum(2), 2)
    later = torch.log_softmax(prior.log() + whole.score.sum(2).mean(1), 1)
    best = later.argmax(1)
    spread = each[torch.arange(len(best)), :, best]
    draws = spread.shape[1]
    error = spread.std(1) / draws**0.5 if draws > 1 else torch.full_like(spread[:, 0], torch.nan)
    steps = whole.score.shape[2]
    return Ranked(
        tuple(map(str, names)),
        left_behind(first, later, slots, count),
        among.probability,
        stay,
        error,
        ids,
        short.evaluations + whole.evaluations,
        len(ids) * count * steps * draws,
        bench.path_settings(plan, whole.logsnr) | {"funnel": repr(funnel)},
        notes=remarks,
    )
