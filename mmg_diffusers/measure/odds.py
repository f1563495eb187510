"""The loop over two conditions at shared noise: how much better one explains a variable than the other, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmg_diffusers.checks import Brief, callback
from mmg_diffusers.denoisers.base import Condition, Denoiser, check_denoiser_type
from mmg_diffusers.denoisers.forwards import Forwards, device_of
from mmg_diffusers.denoisers.levels import add_noise
from mmg_diffusers.denoisers.precision import onto, sums_on, widened
from mmg_diffusers.measure.batches import (
    Block,
    Pairs,
    Progress,
    blocks,
    check_condition,
    check_finite,
    range_within,
    rows_of,
)
from mmg_diffusers.measure.candidates import NoisePath, with_ends
from mmg_diffusers.measure.curve import per_pixel
from mmg_diffusers.measure.draws import PairDraws, brownian_path


@dataclass(frozen=True, repr=False)
class Odds(Brief):
    """What every step of a noise path adds to log p(path | one) - log p(path | other).

    `score` `(N, D, L)` float64 nats; `logsnr` `(L + 1,)`: step l leads from logsnr[l] to logsnr[l + 1]; `maps`
    `(N, D, *pixels)` their sum over the steps before it is summed over pixels, empty if they were not kept.
    """

    score: Tensor
    logsnr: Tensor
    maps: Tensor
    evaluations: int


@torch.inference_mode()
def measure_odds(
    denoiser: Denoiser,
    pairs: Pairs,
    one: Condition,
    other: Condition,
    path: NoisePath,
    *,
    seed: int = 0,
    batch_size: int | None = None,
    pixels: bool = False,
    progress: Progress | None = None,
) -> Odds:
    """Follow two conditions of every variable along the same Brownian paths of noise, as `measure_candidates` does.

    Per step of a path the log-likelihood ratio gains, by Girsanov's formula (see there),

        - (e^h - 1) (|eps - e_1|^2 - |eps - e_2|^2) / 2 - sqrt(e^h - 1) <xi, e_1 - e_2>,

    which is a sum over pixels, so that it has a map.

    Args:
        denoiser: the network; no marginal branch is needed.
        pairs: N variables.
        one, other: conditions, N rows each.
        path: how they are followed; its `prune` and `null` are not looked at.
        seed, batch_size: as in `measure_curve`.
        pixels: whether maps are kept.
        progress: called with the number of path steps done.

    Raises:
        ValueError: for conditions that do not fit the pairs, or a range that the network does not know.
    """
    callback(progress)
    check_denoiser_type(denoiser)
    check_condition(one, len(pairs), "one")
    check_condition(other, len(pairs), "other")
    ends = range_within(denoiser, path.logsnr_range, path.quadrature)
    forwards = Forwards(denoiser, pairs.x.shape[1:], device_of(denoiser, pairs.x), batch_size)
    scores: list[Tensor] = []
    maps: list[Tensor] = []
    grid = torch.empty(0)
    for block in blocks(denoiser, pairs, path.quadrature, 1, seed, *ends, max(1, 4 * forwards.rows // path.draws)):
        grid = with_ends(block.logsnr[0, 0], denoiser.snap(torch.tensor(ends, dtype=torch.float64)))
        score, kept = _follow(forwards, block, grid, one, other, path.draws, seed, pixels, progress)
        scores.append(score)
        maps.append(kept)
    count = 2 * len(pairs) * path.draws * (len(grid) - 1)
    return Odds(torch.cat(scores), grid, torch.cat(maps), count)


def _follow(
    forwards: Forwards,
    block: Block,
    grid: Tensor,
    one: Condition,
    other: Condition,
    draws: int,
    seed: int,
    pixels: bool,
    progress: Progress | None,
) -> tuple[Tensor, Tensor]:
    """Scores `(P, D, L)` of one block, and maps `(P, D, *pixels)`."""
    device, count = forwards.device, len(block.pairs)
    owner = torch.arange(count).repeat_interleave(draws)
    sources = [PairDraws(seed, pair, draw) for pair in block.pairs.ids.tolist() for draw in range(draws)]
    x = onto(block.pairs.x[owner.to(block.pairs.x.device)], device)
    conds = [rows_of(cond, block.start + owner, device) for cond in (one, other)]
    home, growth = sums_on(device), torch.expm1(grid.diff())
    steps: list[Tensor] = []
    total = torch.zeros(0)
    for level, (eps, xi) in enumerate(brownian_path(sources, grid, tuple(x.shape[1:]), x.dtype)):
        noise, xi = onto(eps, device), onto(xi, device)
        logsnr = grid[level].expand(len(x))
        first, second = forwards.branches(add_noise(x, logsnr, noise), logsnr, conds)
        # |eps - e_1|^2 - |eps - e_2|^2 without its cancellation.
        difference = widened((first - second).to(home))
        middle = widened((first - noise).to(home)) + widened((second - noise).to(home))
        gained = -growth[level] / 2 * difference * middle - growth[level].sqrt() * widened(xi.to(home)) * difference
        steps.append(gained.flatten(1).sum(1).cpu())
        check_finite(steps[-1], logsnr)
        if pixels:
            here = per_pixel(gained).cpu()
            total = here if level == 0 else total + here
        if progress is not None:
            progress(len(x))
    score = torch.stack(steps, 1).unflatten(0, (count, draws))
    return score, total.unflatten(0, (count, draws)) if pixels else torch.zeros(count, 0, dtype=torch.float64)
