"""Where to look on the log-SNR axis, learnt from a few pairs: proposals for `mmg_diffusers.measure.quadrature`."""

from __future__ import annotations

import math

import torch

from mmg_diffusers.checks import whole
from mmg_diffusers.denoisers.base import Condition, Denoiser, condition_rows
from mmg_diffusers.measure.batches import Pairs
from mmg_diffusers.measure.curve import measure_curve
from mmg_diffusers.measure.moments import Curve
from mmg_diffusers.measure.quadrature import Logistic, StratifiedProfile, StratifiedUniform

# The share of nodes that is spread evenly, in case the pilot saw too little.
EVEN = 0.3


def _pilot(
    denoiser: Denoiser,
    x: torch.Tensor,
    cond: Condition,
    given: Condition | None,
    nodes: int,
    pairs: int,
    seed: int,
    logsnr_range: tuple[float, float] | None,
    batch_size: int | None = None,
) -> Curve:
    few = torch.arange(min(pairs, len(x)))
    return measure_curve(
        denoiser,
        Pairs.of(x[few]),
        condition_rows(cond, few),
        given=None if given is None else condition_rows(given, few),
        quadrature=StratifiedUniform(nodes),
        # Not the noise of the measurement that follows; the largest seeds go round.
        seed=(whole(seed, "seed", 0) + 2**31) % 2**63,
        logsnr_range=logsnr_range,
        batch_size=batch_size,
    )


def gap_fitted(
    denoiser: Denoiser,
    x: torch.Tensor,
    cond: Condition,
    given: Condition | None = None,
    *,
    nodes: int = 16,
    pilot_nodes: int = 40,
    pairs: int = 256,
    seed: int = 0,
    logsnr_range: tuple[float, float] | None = None,
    batch_size: int | None = None,
) -> StratifiedProfile:
    """Nodes in proportion to the root of the orthogonal curve, which a pilot run on a few pairs measures.

    The noise of both forms grows with that root, so equal masses carry about equal shares of the error; and unlike a
    rule that follows the conditional error, it finds the information where few of many coordinates carry it.

    Args:
        denoiser, x, cond, given: as they will be measured; `given` is the context.
        nodes: of the rule that is returned.
        pilot_nodes, pairs: levels and pairs of the pilot.
        seed: of the measurement; the pilot draws its own noise.
        logsnr_range, batch_size: as it will be measured.
    """
    curve = _pilot(denoiser, x, cond, given, pilot_nodes, pairs, seed, logsnr_range, batch_size)
    low, high = curve.logsnr_range
    root = curve.orthogonal.mean((0, 1)).sqrt()
    # A level's own scatter should not decide: neighbours are averaged.
    padded = torch.cat([root[:1], root, root[-1:]])
    smooth = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    if float(smooth.sum()) <= 0:
        smooth = torch.ones_like(smooth)
    mass = EVEN / len(smooth) + (1 - EVEN) * smooth / smooth.sum()
    edges = torch.linspace(low, high, len(smooth) + 1, dtype=torch.float64)
    return StratifiedProfile(nodes, tuple(edges.tolist()), tuple(mass.tolist()))


def published_adaptive(
    denoiser: Denoiser,
    x: torch.Tensor,
    cond: Condition,
    *,
    nodes: int = 16,
    pairs: int = 256,
    seed: int = 0,
    logsnr_range: tuple[float, float] | None = None,
) -> Logistic:
    """The logistic proposal of MMG as published: centred where the conditional error crosses d / 2, with the scale that
    puts d / 4 where it is crossed (arXiv 2509.20609). For comparison: where few of many coordinates carry the
    information, it looks in the wrong place.

    Raises:
        ValueError: if the error does not cross both within the range.
    """  # fmt: skip
    curve = _pilot(denoiser, x, cond, None, 64, pairs, seed, logsnr_range)
    level = curve.logsnr.mean((0, 1))
    error = curve.error.mean((0, 1)) / x[0].numel()

    def crossing(share: float) -> float:
        above = (error >= share).nonzero().flatten()
        if not len(above) or int(above[0]) == 0:
            raise ValueError(
                f"the conditional error per coordinate runs from {float(error[0]):.3f} to {float(error[-1]):.3f} and does not "
                f"cross {share}; widen the range, or use gap_fitted"
            )
        k = int(above[0])
        step = (share - error[k - 1]) / (error[k] - error[k - 1])
        return float(level[k - 1] + step * (level[k] - level[k - 1]))

    loc = crossing(0.5)
    return Logistic(nodes, loc=loc, scale=max(0.1, (loc - crossing(0.25)) / math.log(3)))
