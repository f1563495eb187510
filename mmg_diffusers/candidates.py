"""The loop over candidate conditions, along one Brownian path of noise per pair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmg_diffusers.batches import (
    Pairs,
    Progress,
    blocks,
    check_condition,
    check_finite,
    device_of,
    range_within,
    rows_of,
    rows_per_forward,
)
from mmg_diffusers.curve import moments, per_pixel
from mmg_diffusers.denoiser import Condition, Denoiser
from mmg_diffusers.draws import PairDraws, brownian_path
from mmg_diffusers.noise import add_noise
from mmg_diffusers.quadrature import Quadrature, trapezoid
from mmg_diffusers.result import MOMENTS, Curve, integrate


@dataclass(frozen=True)
class CandidateCurve:
    """How well each of K conditions explains each of N variables along one Brownian path of noise per draw.

    `score` `(N, D, L, K)` float64: what step l adds to log p(path | candidate), up to a term that all candidates share;
    `logsnr` `(L + 1,)`: step l leads from logsnr[l] to logsnr[l + 1]. `mixture`, where the true candidates were told,
    compares each with the mixture of all, at the first L levels, weighted by the posterior along the path so far: a
    marginal that needs no unconditional branch, and that the posterior leads to the true candidate at the clean end.
    """

    score: Tensor
    logsnr: Tensor
    pair_ids: Tensor
    evaluations: int
    mixture: Curve | None = None

    @staticmethod
    def merge(curves: Sequence[CandidateCurve]) -> CandidateCurve:
        """Join the curves of different pairs."""
        first = curves[0]
        mixtures = [curve.mixture for curve in curves if curve.mixture is not None]
        return CandidateCurve(
            torch.cat([curve.score for curve in curves]),
            first.logsnr,
            torch.cat([curve.pair_ids for curve in curves]),
            sum(curve.evaluations for curve in curves),
            Curve.merge(mixtures) if mixtures else None,
        )


@torch.inference_mode()
def measure_candidates(
    denoiser: Denoiser,
    pairs: Pairs,
    candidates: Condition,
    *,
    quadrature: Quadrature,
    truth: Tensor | None = None,
    allowed: Tensor | None = None,
    prior: Tensor | None = None,
    prune: float = 0.0,
    draws: int = 1,
    seed: int = 0,
    logsnr_range: tuple[float, float] | None = None,
    batch_size: int | None = None,
    pixels: bool = False,
    progress: Progress | None = None,
) -> CandidateCurve:
    """Score every candidate condition on every variable, with the same noise for all candidates.

    Along a Brownian path Y_s = s x + W_s a candidate with prediction x_y gains (Girsanov), per step of s,

        <x_y, dY> - |x_y|^2 ds / 2  =  - (e^h - 1) |eps - e_y|^2 / 2 - sqrt(e^h - 1) <xi, e_y> + (the same for all y)

    where h is the step in log-SNR and xi the standardised next increment of W: the squared error that an integral over
    levels would sum, and a term of mean zero that cancels most of its noise.

    Args:
        denoiser: the network; no marginal branch is needed.
        pairs: N variables.
        candidates: K rows.
        quadrature: a deterministic rule; its distinct levels are the path's grid.
        truth: `(N,)` the true candidate of every variable, to compare with the mixture; it is never pruned.
        allowed: `(N, K)` which candidates a variable's own mixture is made of, all by default; those that share a part
            with the true one make the information conditional on that part. What is not allowed scores -infinity.
        prior: `(K,)` probabilities of the candidates, uniform by default.
        prune: a candidate whose posterior along the path falls below this is not followed further; its probability
            stays what it was. 0 follows all to the end.
        draws, seed, logsnr_range, batch_size: as in `measure_curve`.
        pixels: keep maps of the comparison with the mixture.
        progress: called with the number of path steps done, for all candidates together.
    """
    count = len(next(iter(candidates.values())))
    check_condition(candidates, count, "candidates")
    if quadrature.random:
        raise ValueError(f"{type(quadrature).__name__} draws its levels; expected a fixed grid such as Trapezoid")
    if not 0 <= prune < 1 / count:
        raise ValueError(f"prune is {prune}; expected a probability below 1 / {count}, the number of candidates")
    if truth is not None and (truth.shape != (len(pairs),) or int(truth.min()) < 0 or int(truth.max()) >= count):
        raise ValueError(f"truth must hold one index below {count} for each of {len(pairs)} variables")
    if allowed is None:
        allowed = torch.ones(len(pairs), count, dtype=torch.bool)
    if allowed.shape != (len(pairs), count) or not bool(allowed.any(1).all()):
        raise ValueError(
            f"allowed must be {len(pairs)} x {count} with a candidate in every row, got {tuple(allowed.shape)}"
        )
    if truth is not None and not bool(allowed[torch.arange(len(pairs)), truth.cpu()].all()):
        raise ValueError("a true candidate is not among those allowed for its variable")
    device = device_of(denoiser, pairs.x)
    low, high = range_within(denoiser, logsnr_range, quadrature)
    rows = rows_per_forward(batch_size, draws, pairs, device)
    log_prior = torch.full((count,), -math.log(count)).double() if prior is None else prior.double().log()
    floor = math.log(prune) if prune > 0 else -math.inf
    follow = _Follower(denoiser, candidates, rows, device)
    curves: list[CandidateCurve] = []
    for block in blocks(denoiser, pairs, quadrature, seed, low, high, max(1, 16 * rows // (count * draws))):
        grid = block.logsnr[0]
        growth = torch.expm1(grid.diff())
        paths = [(pair, draw) for pair in range(len(block.pairs)) for draw in range(draws)]
        owner = torch.tensor([pair for pair, _ in paths])
        sources = [PairDraws(seed, int(block.pairs.ids[pair]), draw) for pair, draw in paths]
        x = block.pairs.x[owner.to(block.pairs.x.device)].to(device)
        true = None if truth is None else truth.cpu()[block.start + owner]
        alive = allowed[block.start + owner].clone()
        shut = ~alive
        total = log_prior.repeat(len(paths), 1).masked_fill(shut, -torch.inf)
        compared = _Comparison(len(block.pairs), draws, pixels)
        steps: list[Tensor] = []
        evaluations = 0
        for level, (eps, xi) in enumerate(brownian_path(sources, grid, tuple(x.shape[1:]), x.dtype)):
            noise = eps.to(device)
            z = add_noise(x, grid[level].expand(len(x)), noise)
            log_share = torch.log_softmax(total.masked_fill(~alive, -torch.inf), 1)
            step = follow(z, grid[level], growth[level], noise, xi.to(device), alive, log_share, true)
            evaluations += int(alive.sum())
            if step.mixture is not None and step.true is not None:
                compared.add(moments(noise, z, step.mixture, step.true))
            # A pruned candidate gains what the mixture of the others gains, so that its posterior stands still.
            gained = torch.logsumexp(log_share + step.score, 1)
            score = torch.where(alive, step.score, gained[:, None]).masked_fill(shut, -torch.inf)
            total = total + score
            alive &= torch.log_softmax(total, 1) >= floor
            if true is not None:
                alive[torch.arange(len(true)), true] = True
            steps.append(score)
            if progress is not None:
                progress(len(paths))
        joined = torch.stack(steps, 1).unflatten(0, (len(block.pairs), draws))
        mixture = None if true is None else compared.curve(grid[:-1], block.pairs.ids, evaluations)
        curves.append(CandidateCurve(joined, grid, block.pairs.ids, evaluations, mixture))
    return CandidateCurve.merge(curves)


@dataclass(frozen=True)
class _Step:
    """One step of every path: scores `(B, K)` float64, and where the truth is known both predictions of the noise."""

    score: Tensor
    mixture: Tensor | None
    true: Tensor | None


@dataclass(frozen=True)
class _Follower:
    """Runs one step of every path for the candidates that are still followed."""

    denoiser: Denoiser
    candidates: Condition
    rows: int
    device: torch.device

    def __call__(
        self,
        z: Tensor,
        level: Tensor,
        growth: Tensor,
        eps: Tensor,
        xi: Tensor,
        alive: Tensor,
        log_share: Tensor,
        truth: Tensor | None,
    ) -> _Step:
        """Scores are 0 where a candidate is not alive; `log_share` are the log weights of the mixture."""
        out = torch.zeros(alive.shape, dtype=torch.float64)
        mixture = true = None
        if truth is not None:
            mixture, true = torch.zeros_like(z, dtype=torch.float64), torch.zeros_like(z)
        path, candidate = alive.nonzero(as_tuple=True)
        for p, k in zip(path.split(self.rows), candidate.split(self.rows), strict=True):
            here = p.to(self.device)
            logsnr = level.expand(len(p))
            predicted = self.denoiser(z[here], logsnr, rows_of(self.candidates, k, self.device))
            check_finite(predicted, logsnr)
            square = (eps[here] - predicted).double().square().flatten(1).sum(1).cpu()
            cross = (xi[here] * predicted).double().flatten(1).sum(1).cpu()
            out[p, k] = -growth * square / 2 - growth.sqrt() * cross
            if truth is not None and mixture is not None and true is not None:
                share = log_share[p, k].exp().to(self.device)
                mixture.index_add_(0, here, predicted.double() * share.view(-1, *(1,) * (predicted.ndim - 1)))
                is_true = (k == truth[p]).to(self.device)
                true[here[is_true]] = predicted[is_true].to(true.dtype)
        return _Step(out, mixture, true)


class _Comparison:
    """Collects the moments of the true candidate against the mixture, level by level."""

    def __init__(self, pairs: int, draws: int, pixels: bool) -> None:
        self.pairs, self.draws, self.pixels = pairs, draws, pixels
        self.sums: dict[str, list[Tensor]] = {name: [] for name in MOMENTS}
        self.maps: dict[str, list[Tensor]] = {"gap": [], "orthogonal": []}

    def add(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self.sums[name].append(value.flatten(1).sum(1).cpu())
            if self.pixels and name in self.maps:
                self.maps[name].append(per_pixel(value).cpu())

    def _shaped(self, parts: list[Tensor]) -> Tensor:
        return torch.stack(parts, 1).unflatten(0, (self.pairs, self.draws))

    def curve(self, levels: Tensor, ids: Tensor, evaluations: int) -> Curve:
        weight = trapezoid(levels).repeat(self.pairs, 1)
        maps: dict[str, Tensor] = {}
        for name, parts in self.maps.items():
            if parts:
                maps[name], maps[f"{name}_stderr"] = integrate(self._shaped(parts), weight, False)
        return Curve(
            logsnr=levels.repeat(self.pairs, 1),
            weight=weight,
            **{name: self._shaped(parts) for name, parts in self.sums.items()},
            pair_ids=ids,
            logsnr_range=(float(levels[0]), float(levels[-1])),
            evaluations=evaluations,
            independent=False,
            maps=maps,
        )
