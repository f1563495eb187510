"""Follow candidates along Brownian paths of noise, step by step, and leave those behind that are ruled out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmg_diffusers.denoisers.base import Condition
from mmg_diffusers.denoisers.forwards import Forwards
from mmg_diffusers.denoisers.levels import add_noise
from mmg_diffusers.denoisers.precision import onto, sums_on, widened
from mmg_diffusers.measure.batches import Block, Progress, check_finite, rows_of
from mmg_diffusers.measure.curve import moments, per_pixel
from mmg_diffusers.measure.draws import PairDraws, brownian_path
from mmg_diffusers.measure.moments import MOMENTS, Curve, Keep, kept_maps
from mmg_diffusers.measure.weights import trapezoid

# Paths that must each rule a candidate out before later ones leave it behind.
AGREED = 2


@dataclass(frozen=True)
class CandidateSlots:
    """The candidates of the P variables of a block, or of B paths: `slots` are rows of the conditions and `log_prior`
    is -infinity in slots that are empty, `(P, K)` each; `truth` `(P,)` is the true slot, if it is known.
    """  # fmt: skip

    slots: Tensor
    log_prior: Tensor
    truth: Tensor | None

    def of(self, owner: Tensor) -> CandidateSlots:
        """The candidates of every path."""
        return CandidateSlots(
            self.slots[owner], self.log_prior[owner], None if self.truth is None else self.truth[owner]
        )


@dataclass(frozen=True)
class PathScores:
    """Scores of the draws so far, for the P variables of a block.

    `score` `(P, D, L, K)`; `error` `(P, D, L)`, see `CandidateCurve`; `behind` `(P, L, K)`, the mean over draws of a
    candidate's score less what the mixture of all gained in that step.
    """

    score: Tensor
    error: Tensor
    behind: Tensor
    evaluations: int
    compared: MixtureMoments | None = None
    null: MixtureMoments | None = None

    @staticmethod
    def none(pairs: int, steps: int, count: int) -> PathScores:
        empty = torch.zeros(pairs, 0, steps, count, dtype=torch.float64)
        return PathScores(empty, empty[..., 0], torch.zeros(pairs, steps, count, dtype=torch.float64), 0)

    def in_play(self, log_prior: Tensor, floor: float) -> Tensor:
        """`(P, K)` which candidates are possible, and not ruled out by the draws so far: by the mean over them and,
        each by itself, by two of them. Along a single path the posterior of the right candidate may dip.
        """  # fmt: skip
        possible = log_prior.isfinite()
        if self.score.shape[1] < AGREED:
            return possible
        each = torch.log_softmax(log_prior[:, None] + self.score.sum(2), 2)
        mean = torch.log_softmax(log_prior + self.score.mean(1).sum(1), 1)
        return possible & ((mean >= floor) | ((each < floor).sum(1) < AGREED))


@dataclass(frozen=True)
class PathScorer:
    """Follows the candidates along some of the paths of a block."""

    follow: StepScorer
    floor: float
    seed: int
    keep: Keep
    progress: Progress | None

    def __call__(
        self, block: Block, draws: range, before: PathScores, of_block: CandidateSlots
    ) -> PathScores:  # fmt: skip
        """Take up after the draws `before`."""
        device = self.follow.forwards.device
        grid = block.logsnr[0, 0]
        growth = torch.expm1(grid.diff())
        paths = [(pair, draw) for pair in range(len(block.pairs)) for draw in draws]
        owner = torch.tensor([pair for pair, _ in paths])
        sources = [PairDraws(self.seed, int(block.pairs.ids[pair]), draw) for pair, draw in paths]
        x = onto(block.pairs.x[owner.to(block.pairs.x.device)], device)
        alive = before.in_play(of_block.log_prior, self.floor)[owner]
        slots = of_block.of(owner)
        total = slots.log_prior
        compared = MixtureMoments(len(block.pairs), len(draws), self.keep)
        null = MixtureMoments(len(block.pairs), len(draws), self.keep)
        steps: list[Tensor] = []
        gains: list[Tensor] = []
        errors: list[Tensor] = []
        evaluations = 0
        for level, (eps, xi) in enumerate(brownian_path(sources, grid, tuple(x.shape[1:]), x.dtype)):
            noise, xi = onto(eps, device), onto(xi, device)
            z = add_noise(x, grid[level].expand(len(x)), noise)
            log_share = torch.log_softmax(total.masked_fill(~alive, -torch.inf), 1)
            # If one candidate is left, it is the mixture, and no step can move its posterior.
            followed = alive if slots.truth is not None else alive & (alive.sum(1, keepdim=True) > 1)
            step = self.follow(z, grid[level], growth[level], noise, xi, followed, log_share, slots)
            evaluations += int(followed.sum())
            off = (widened(noise) - step.mixture).square().flatten(1).sum(1).cpu()
            errors.append(torch.where(followed.any(1), off, torch.nan))
            if step.true is not None:
                home = sums_on(device)
                surprise = innovation(widened(step.true) - step.mixture, xi.to(home), growth[level])
                seen = moments(*(part.to(home) for part in (noise, z, step.mixture, step.true)))
                compared.add(seen, surprise.cpu())
                if step.null is not None:
                    evaluations += len(z)
                    null.add(moments(*(part.to(home) for part in (noise, z, step.null, step.mixture))))
            # A candidate that is not followed gains what the mixture of the others gains, so that its posterior stands
            # still, but for what it lost against that mixture at this step in earlier draws.
            gained = torch.logsumexp(log_share + step.score, 1)
            held = gained[:, None] + before.behind[owner, level]
            score = torch.where(alive, step.score, held)
            total = total + score
            alive &= torch.log_softmax(total, 1) >= self.floor
            if slots.truth is not None:
                alive[torch.arange(len(slots.truth)), slots.truth] = True
            steps.append(score)
            gains.append(gained)
            if self.progress is not None:
                self.progress(len(paths))
        score = torch.stack(steps, 1).unflatten(0, (len(block.pairs), len(draws)))
        behind = score - torch.stack(gains, 1).unflatten(0, (len(block.pairs), len(draws)))[..., None]
        known, made = before.score.shape[1], len(draws)
        return PathScores(
            torch.cat([before.score, score], 1),
            torch.cat([before.error, torch.stack(errors, 1).unflatten(0, (len(block.pairs), len(draws)))], 1),
            (before.behind * known + behind.sum(1)) / (known + made),
            before.evaluations + evaluations,
            None if of_block.truth is None else compared,
            null if self.follow.null else None,
        )


def innovation(predicted: Tensor, xi: Tensor, growth: Tensor) -> Tensor:
    """The part of a step's score whose expectation is 0, `(B,)` float64 nats; linear in `predicted`."""
    return -growth.sqrt() * widened(xi * predicted).flatten(1).sum(1)


def step_score(predicted: Tensor, eps: Tensor, xi: Tensor, growth: Tensor) -> Tensor:
    """What one step of a path adds to log p(path | condition), `(B,)` float64 nats, up to a term that all conditions
    share.

    From `predicted`, `eps` and the innovation `xi`, all `(B, *event)`, and the step's relative growth of the SNR: minus
    half of what the increment of the observation lies off its prediction, squared, in units of its noise.
    """
    square = widened(eps - predicted).square().flatten(1).sum(1)
    return -growth * square / 2 + innovation(predicted, xi, growth)


@dataclass(frozen=True)
class StepScores:
    """One step of every path: scores `(B, K)` float64, what the mixture of those that are followed predicts, and if the truth is
    known what the true one does.
    """  # fmt: skip

    score: Tensor
    mixture: Tensor
    true: Tensor | None
    null: Tensor | None


@dataclass(frozen=True)
class StepScorer:
    """Runs one step of every path for the candidates that are still followed, and if asked for the null branch."""

    forwards: Forwards
    candidates: Condition
    null: bool = False

    def __call__(
        self,
        z: Tensor,
        level: Tensor,
        growth: Tensor,
        eps: Tensor,
        xi: Tensor,
        alive: Tensor,
        log_share: Tensor,
        slots: CandidateSlots,
    ) -> StepScores:
        """Scores are 0 for candidates that are not alive; `log_share` are the log weights of the mixture."""
        out = torch.zeros(alive.shape, dtype=torch.float64)
        rows, device = self.forwards.rows, self.forwards.device
        home = sums_on(device)
        truth = slots.truth
        mixture = torch.zeros(z.shape, dtype=torch.float64, device=home)
        true = None if truth is None else torch.zeros_like(z)
        path, candidate = alive.nonzero(as_tuple=True)
        for p, k in zip(path.split(rows), candidate.split(rows), strict=True):
            if not len(p):
                continue  # every path has settled
            here = p.to(device)
            logsnr = level.expand(len(p))
            predicted = self.forwards(z[here], logsnr, rows_of(self.candidates, slots.slots[p, k], device))
            check_finite(predicted, logsnr)
            out[p, k] = step_score(predicted, eps[here], xi[here], growth).cpu()
            share = log_share[p, k].exp().to(home)
            mixture.index_add_(0, here.to(home), widened(predicted) * share.view(-1, *(1,) * (predicted.ndim - 1)))
            if truth is not None and true is not None:
                is_true = (k == truth[p]).to(device)
                true[here[is_true]] = predicted[is_true].to(true.dtype)
        null = self._null(z, level) if self.null else None
        return StepScores(out, mixture, true, null)

    def _null(self, z: Tensor, level: Tensor) -> Tensor:
        parts = [self.forwards(part, level.expand(len(part)), None) for part in z.split(self.forwards.rows)]
        predicted = torch.cat(parts)
        check_finite(predicted, level.expand(len(z)))
        return predicted


class MixtureMoments:
    """Collects the moments of one prediction against another, level by level: of the true candidate against the mixture."""

    def __init__(self, pairs: int, draws: int, keep: Keep) -> None:
        self.pairs, self.draws = pairs, draws
        self.keep: Keep = keep
        self.sums: dict[str, list[Tensor]] = {name: [] for name in MOMENTS}
        self.maps: dict[str, list[Tensor]] = {"gap": [], "orthogonal": []}
        self.innovations: list[Tensor] = []

    def add(self, values: Mapping[str, Tensor], innovation: Tensor | None = None) -> None:
        """The moments of one step, and what its innovation says for the true candidate and against the mixture, `(B,)`."""
        if innovation is not None:
            self.innovations.append(innovation)
        for name, value in values.items():
            self.sums[name].append(value.flatten(1).sum(1).cpu())
            if self.keep != "pair" and name in self.maps:
                self.maps[name].append(per_pixel(value).cpu())

    def _shaped(self, parts: list[Tensor]) -> Tensor:
        return torch.stack(parts, 1).unflatten(0, (self.pairs, self.draws))

    @property
    def innovation(self) -> Tensor:
        """`(P, D, L)` nats, 0 in expectation."""
        return self._shaped(self.innovations)

    def curve(self, levels: Tensor, ids: Tensor, evaluations: int) -> Curve:
        weight = trapezoid(levels).repeat(self.pairs, self.draws, 1)
        maps: dict[str, Tensor] = {}
        for name, parts in self.maps.items():
            if parts:
                maps |= kept_maps(name, self._shaped(parts), weight, False, self.keep)
        return Curve(
            logsnr=levels.repeat(self.pairs, self.draws, 1),
            weight=weight,
            **{name: self._shaped(parts) for name, parts in self.sums.items()},
            pair_ids=ids,
            logsnr_range=(float(levels[0]), float(levels[-1])),
            evaluations=evaluations,
            independent=False,
            maps=maps,
        )
