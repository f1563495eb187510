"""Numbers about orders: correlations of ranks, and the best of some of n by a score, over all choices of them."""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import torch
from torch import Tensor

from mmg_diffusers.measure.value import Value


def ranks(values: Tensor) -> Tensor:
    """Ranks along the last axis, ties sharing the mean of theirs."""
    flat = values.double().reshape(-1, values.shape[-1])
    below = (flat[:, None, :] < flat[:, :, None]).double().sum(2)
    same = (flat[:, None, :] == flat[:, :, None]).double().sum(2)
    return (below + (same - 1) / 2).reshape(values.shape)


def spearman(one: Tensor, other: Tensor) -> Tensor:
    """Spearman's correlation along the last axis: `(..., N)` twice to `(...)`; 0 where one of them does not vary."""
    a, b = (own - own.mean(-1, keepdim=True) for own in (ranks(one), ranks(other)))
    return (a * b).sum(-1) / (a.square().sum(-1) * b.square().sum(-1)).sqrt().clamp(min=1e-12)


def area(score: Tensor, positive: Tensor) -> float:
    """The chance that a positive has the higher score, ties half."""
    place = ranks(score)
    ups, downs = int(positive.sum()), int((~positive).sum())
    return float((place[positive].sum() - ups * (ups - 1) / 2) / (ups * downs))


def best_of(score: Tensor, outcome: Tensor, count: int) -> Tensor:
    """The outcome of the best of `count` by score, in the mean over all choices of so many of n: `(G, n)` twice to `(G,)`."""
    n = score.shape[1]
    order = score.argsort(dim=1, descending=True, stable=True)
    # The image of rank r is the best of a choice if the others of it are among the n - 1 - r below it.
    weight = torch.tensor([comb(n - 1 - r, count - 1) / comb(n, count) for r in range(n)], dtype=torch.float64)
    return outcome.double().gather(1, order) @ weight


def resampled(count: int, statistic: Callable[[Tensor], float], times: int = 200, seed: int = 0) -> list[float]:
    """A statistic of rows that are drawn with replacement, sorted: a bootstrap.

    Args:
        count: rows.
        statistic: of the indices of rows `(count,)`.
        times: how often.
        seed: of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    return sorted(statistic(torch.randint(count, (count,), generator=generator)) for _ in range(times))


def with_interval(count: int, statistic: Callable[[Tensor], float]) -> tuple[float, float, float]:
    """A statistic of all rows, and the 95 % interval of its bootstrap."""
    drawn = resampled(count, statistic)
    cut = len(drawn) // 40
    return statistic(torch.arange(count)), drawn[cut], drawn[-1 - cut]


def with_error(count: int, statistic: Callable[[Tensor], float]) -> Value:
    """A statistic of all rows, and its standard error by the bootstrap."""
    drawn = torch.tensor(resampled(count, statistic), dtype=torch.float64)
    return Value(statistic(torch.arange(count)), float(drawn.std()), "share")
