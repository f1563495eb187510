"""What noise is left in the integral of a pair: as its own draws tell it, and as those of other pairs do."""

from __future__ import annotations

import torch
from torch import Tensor


def integrate(values: Tensor, weight: Tensor, independent: bool) -> tuple[Tensor, Tensor]:
    """Half the integral over log-SNR, with the standard error that the noise draws leave.

    Args:
        values: `(N, D, L, *S)` integrand of N pairs, D draws and L levels; not a number if a pair has fewer draws.
        weight: `(N, D, L)`.
        independent: whether levels are independent draws, so that their own spread is the error.

    Returns:
        `(N, *S)` nats and standard errors. With two draws or more the error is their spread level by level; with
        one it is the scatter of each level about the line through its neighbours, which also counts curvature, and of the
        slope what levels placed at random within even strata leave. In the mean over pairs its square is right, or too
        large; that of one pair is uncertain, and small just if the pair's draws missed a peak of its curve, so that errors
        are many times the standard error then (see `stderr_of_pairs`). Levels that all draws share have an error of their
        own that no spread shows: halve the step to see it.
    """
    widths = weight.view(*weight.shape, *(1,) * (values.ndim - 3)) / 2
    terms = values * widths
    nats = terms.nanmean(1).sum(1)
    if independent:
        # All draws of all levels are draws from one law.
        levels = values.shape[2]
        one = terms.flatten(1, 2)
        return nats, (_variance(one) * levels / (~one.isnan()).sum(1) * levels).sqrt()
    return nats, (widths.nanmean(1).square() * noise_variance(values)).sum(1).sqrt()


def noise_variance(values: Tensor) -> Tensor:
    """Variance that the noise draws leave in the mean over draws at each level, `(N, D, L, *S) -> (N, L, *S)`.

    From the spread of the draws; of a single draw, from its scatter about the line through its neighbours.
    """
    draws, levels = values.shape[1:3]
    if draws > 1:
        return _variance(values) / (~values.isnan()).sum(1)
    one = values[:, 0]
    if levels <= 2:
        return one.square()
    middle = (one[:, 1:-1] - (one[:, :-2] + one[:, 2:]) / 2).square() * (2 / 3)
    return torch.cat([middle[:, :1], middle, middle[:, -1:]], 1)


def _variance(values: Tensor) -> Tensor:
    """Variance along the first axis after the pairs, of what is a number there."""
    count = (~values.isnan()).sum(1)
    return (values - values.nanmean(1, keepdim=True)).square().nansum(1) / (count - 1)


def own_stderr(values: Tensor, weight: Tensor, independent: bool) -> Tensor:
    """Standard error of the integral of each pair, from its own draws alone; see `integrate`."""
    return integrate(values, weight, independent)[1]


def stderr_of_pairs(values: Tensor, weight: Tensor, independent: bool) -> Tensor:
    """Standard error of the integral of each pair, from its own draws and those of the other pairs, `(N,)` nats.

    What `integrate` says of a pair is a sum of a few squares. If much of a curve lies at few levels, or in rare large
    errors, a pair whose draws missed them has a wrong value and a small standard error at once. So variances are averaged
    over pairs, as far as they do not differ: with own variance v_i,

        variance_i ~ v_i^Z,        Z = var(log of the true variance) / var(log v),

    scaled so that their mean over pairs is that of v: Buhlmann's credibility, of logarithms. What pairs truly differ by
    shows at even levels as at odd ones, so that the covariance of the logarithms of the two halves of v over pairs is the
    numerator. A single pair has its own alone: it is made larger by what a sum of few squares leaves open, `_few`.

    Args:
        values, weight, independent: as in `integrate`, of `(N, D, L)`.
    """
    own = integrate(values, weight, independent)[1].square()
    # Where nothing differs at all, as with the same condition in both branches, there is no noise to estimate.
    noisy = own > 0
    if int(noisy.sum()) < 2:
        return (own * _few(values, weight, independent)).sqrt()
    power = _credibility(own[noisy], *_halves(values[noisy], weight[noisy], independent))
    mixed = own[noisy].pow(power)
    out = torch.zeros_like(own)
    out[noisy] = mixed * (own[noisy].mean() / mixed.mean())
    return out.sqrt()


def _few(values: Tensor, weight: Tensor, independent: bool) -> Tensor:
    """By what the variance of each pair by its own draws is too small to judge errors by, `(N,)`: v / (v - 2), the variance
    of Student's law, of v degrees of freedom as Welch (1947) and Satterthwaite (1946) count them in a sum of squares.
    """
    if independent:
        counted = (~values.isnan()).sum((1, 2)) - 1.0
    else:
        parts = (weight / 2).nanmean(1).square() * noise_variance(values)
        # A level's own degrees of freedom; of scatter about neighbours, which share levels, somewhat less than one.
        each = values.shape[1] - 1.0 if values.shape[1] > 1 else 2 / 3
        # The square of a variance with k degrees of freedom is (1 + 2 / k) times that of the true one in the mean.
        counted = (each + 2) * parts.sum(1).square() / parts.square().sum(1).clamp(min=1e-300)
    counted = counted.clamp(min=3.0)
    return counted / (counted - 2)


def _credibility(own: Tensor, even: Tensor, odd: Tensor) -> float:
    """How much of the spread of log variances `(N,)` is what pairs differ by, by two independent parts of them; 0 to 1."""
    if not (float(even.sum()) > 0 and float(odd.sum()) > 0):
        return 0.0
    own, even, odd = (part.clamp(min=1e-4 * float(part.mean())).log() for part in (own, even, odd))
    spread = float(own.var())
    common = float(((even - even.mean()) * (odd - odd.mean())).sum()) / (len(own) - 1)
    return min(1.0, max(0.0, common / spread)) if spread > 0 else 0.0


def _halves(values: Tensor, weight: Tensor, independent: bool) -> tuple[Tensor, Tensor]:
    """Variances of the integral as every second level tells them, and as the others do, `(N,)` each."""
    levels = values.shape[2]
    if independent:
        halves = [integrate(values[:, :, k::2], weight[:, :, k::2], True)[1].square() for k in (0, 1)]
        return halves[0], halves[1]
    if values.shape[1] > 1:
        variance = (weight / 2).nanmean(1).square() * noise_variance(values)
        return variance[:, 0::2].sum(1), variance[:, 1::2].sum(1)
    # Of one draw: the scatter in groups of three levels, of which no two share a level.
    groups = levels // 3
    one, width = (part[:, 0, : 3 * groups].unflatten(1, (groups, 3)) for part in (values, weight / 2))
    scatter = (one[..., 1] - (one[..., 0] + one[..., 2]) / 2).square() * (2 / 3) * width.square().sum(2)
    return scatter[:, 0::2].sum(1), scatter[:, 1::2].sum(1)
