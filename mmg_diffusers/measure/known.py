"""Which levels a network knows: those at which it tells more of the noise than the best multiple of z does."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmg_diffusers.checks import Brief, of_type, shown, whole
from mmg_diffusers.denoisers.base import Condition, Denoiser, check_denoiser_type
from mmg_diffusers.denoisers.check import LEEWAY, SLACK
from mmg_diffusers.denoisers.forwards import Forwards, device_of
from mmg_diffusers.denoisers.levels import add_noise
from mmg_diffusers.denoisers.precision import onto, widened
from mmg_diffusers.measure.batches import Pairs, check_condition, check_finite
from mmg_diffusers.measure.candidates import CandidateCurve
from mmg_diffusers.measure.draws import PairDraws
from mmg_diffusers.measure.moments import Curve
from mmg_diffusers.measure.verdict import Finding

# Fewer variables than these do not show how far they spread.
FEWEST = 16
# What is cut, if it is asked for, is cut close: a level at which a network is as good as a multiple of z tells little.
CLOSE = (1.02, 0.01)


def linear_errors(x: Tensor, logsnr: Tensor) -> Tensor:
    """Mean squared error per dimension of the best multiple of z about its mean, `(L,)`, of variables `(N, *event)`.

    With v the variance of x, averaged over dimensions: a^2 v / (a^2 v + s^2).
    """
    return _linear(float(widened(x).flatten(1).var(0).mean()), logsnr)


def _linear(variance: float, logsnr: Tensor) -> Tensor:
    signal, noise = torch.sigmoid(logsnr.double()), torch.sigmoid(-logsnr.double())
    return signal * variance / (signal * variance + noise)


def unknown_levels(errors: Tensor, linear: Tensor, slack: float = SLACK, leeway: float = LEEWAY) -> Tensor:
    """Levels `(L,)` at which errors per dimension `(N, L)` are above those of the best multiple of z, by more than chance, and than
    slack times these and leeway. Errors that are not a number are of no weight.
    """  # fmt: skip
    count = errors.isfinite().sum(0)
    mean = errors.nanmean(0)
    stderr = ((errors - mean).square().nansum(0) / (count - 1) / count).sqrt()
    return (count >= FEWEST) & (mean - 3 * stderr > slack * linear + leeway)


@dataclass(frozen=True, repr=False)
class KnownLevels(Brief):
    """What `known_range` found: `logsnr_range`, errors per dimension at the levels that were tried, `(L,)` each, and a note.

    `logsnr_range` is what to measure over, ``MMG()(denoiser, x, cond, logsnr_range=known.logsnr_range)``; `note` says what was cut,
    ``None`` if nothing was.
    """

    logsnr_range: tuple[float, float]
    logsnr: Tensor
    error: Tensor
    linear: Tensor
    note: Finding | None = None


@torch.inference_mode()
def known_range(
    denoiser: Denoiser,
    x: Tensor,
    cond: Condition | None = None,
    *,
    levels: int = 33,
    seed: int = 0,
    batch_size: int | None = None,
) -> KnownLevels:
    """Find the range of levels that a network knows, for one that was trained on fewer than it can be told.

    A flow trained on logit-normal times hardly ever saw the ends of [0, 1]; where it errs there by more than z itself, scaled as fits best,
    levels are cut. What is left is the longest run of levels that are known: near an end a network often errs at some, and at the last by
    chance not.

    Args:
        denoiser: the network.
        x: `(N, *event)`, 16 variables or more that it was trained on, or like them.
        cond: their conditions; by default the branch without a condition is looked at.
        levels: how many are tried, between the ends of its range.
        seed, batch_size: as in `MMG`.

    Raises:
        TypeError: for other than a denoiser and tensors.
        ValueError: for fewer than 16 variables, a network without a null and no condition, or one that knows none of the levels.
    """
    check_denoiser_type(denoiser)
    of_type(x, Tensor, "x", "a tensor of variables, one a row")
    pairs = Pairs.of(x)
    if len(pairs) < FEWEST:
        raise ValueError(f"x has {len(pairs)} variables; expected {FEWEST} or more, which show how far they spread")
    check_condition(cond, len(pairs), "cond")
    if cond is None and not denoiser.has_marginal:
        raise ValueError(
            "the denoiser has no unconditional branch; give cond=, the conditions of x, to look at the other"
        )
    low, high = denoiser.logsnr_range
    asked = torch.linspace(max(low, -20.0), min(high, 20.0), whole(levels, "levels", 3), dtype=torch.float64)
    grid = denoiser.snap(asked).unique()
    device = device_of(denoiser, pairs.x)
    forwards = Forwards(denoiser, pairs.x.shape[1:], device, batch_size)
    rows = None if cond is None else {name: onto(value, device) for name, value in cond.items()}
    clean = onto(pairs.x, device)
    noises = [
        PairDraws(seed, pair, 0).normals(len(grid), tuple(clean.shape[1:]), pairs.x.dtype)
        for pair in pairs.ids.tolist()
    ]
    columns: list[Tensor] = []
    for place, level in enumerate(grid):
        eps = onto(torch.stack([noise[place] for noise in noises]), device)
        at = level.expand(len(clean))
        predicted = forwards(add_noise(clean, at, eps), at, rows)
        check_finite(predicted, at)
        columns.append(widened(eps - predicted).square().flatten(1).mean(1).cpu())
    errors, linear = torch.stack(columns, 1), linear_errors(pairs.x, grid)
    unknown = unknown_levels(errors, linear, *CLOSE)
    if bool(unknown.all()):
        raise ValueError(
            f"the network errs more than the best multiple of z at all levels from log-SNR {float(grid[0]):.2f} to {float(grid[-1]):.2f}; "
            f"is it {shown(type(denoiser).__name__)} of these data, in its own convention? check_denoiser says more"
        )
    first, last = _longest_run(~unknown)
    ends = (low if first == 0 else float(grid[first]), high if last == len(grid) - 1 else float(grid[last]))
    cut = [f"{'below' if end == 0 else 'above'} {ends[end]:.2f}" for end in (0, 1) if ends[end] != (low, high)[end]]
    note = None
    if cut:
        note = Finding(
            f"log-SNR {' and '.join(cut)} was cut: the network errs there by more than the best multiple of z, so it does not know these "
            "levels",
            "range",
            "trust",
        )
    return KnownLevels(ends, grid, errors.mean(0), linear, note)


def _longest_run(known: Tensor) -> tuple[int, int]:
    """First and last place of the longest run of those that are true; there is one."""
    places = known.nonzero().flatten()
    breaks = (places.diff() > 1).nonzero().flatten() + 1
    longest = max(torch.tensor_split(places, breaks.tolist()), key=len)
    return int(longest[0]), int(longest[-1])


def of_unknown_levels(curve: Curve, x: Tensor) -> tuple[Finding, ...]:
    """What a curve of variables `(N, *event)` says of levels that a branch of the network does not know; nothing of fewer than 16."""
    grid = curve.grid()
    if grid is None or len(x) < FEWEST:
        return ()
    linear = linear_errors(x, grid[0])
    branches = {
        "the branch without a condition errs": ((curve.error + curve.gap).nanmean(1), "known_range(denoiser, x)"),
        "the branch with one errs": (curve.error.nanmean(1), "known_range(denoiser, x, cond)"),
    }
    found: list[Finding] = []
    for what, (errors, remedy) in branches.items():
        unknown = unknown_levels(errors / x[0].numel(), linear)
        if bool(unknown.any()):
            found.append(Finding(_unknown(grid[0], unknown, what, remedy), "range", "don't"))
    return tuple(found)


def of_unknown_candidates(curve: CandidateCurve) -> tuple[Finding, ...]:
    """What evidence of candidates says of levels that the network does not know; nothing of fewer than 16 variables.

    They are told by what the mixture of candidates leaves of the noise: with the right posterior it leaves least. Evidence adds up over
    dimensions and levels, so that levels are held closer to the best multiple of z here than a difference of two branches is.
    """
    if curve.error is None or curve.square is None or len(curve.square) < FEWEST:
        return ()
    levels = curve.logsnr[:-1]
    linear = _linear(float(curve.square.mean()) / curve.dimensions, levels)
    unknown = unknown_levels(curve.error.nanmean(1) / curve.dimensions, linear, *CLOSE)
    if not bool(unknown.any()):
        return ()
    text = _unknown(levels, unknown, "the network, told the candidates, errs", "known_range(denoiser, x, cond)")
    return (
        Finding(
            f"{text} (logsnr_range= of a pipeline), or weigh evidence by band, as calibrate does, and the mean of a filter by itself",
            "range",
        ),
    )


def _unknown(levels: Tensor, unknown: Tensor, what: str, remedy: str) -> str:
    at = levels[unknown]
    return (
        f"at {len(at)} of {len(unknown)} levels, log-SNR {float(at[0]):.2f} to {float(at[-1]):.2f}, {what} by more than the best multiple of z: "
        f"it does not know them. Measure over {remedy}.logsnr_range"
    )
