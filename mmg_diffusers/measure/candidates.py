"""The loop over candidate conditions, along one Brownian path of noise per pair."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mmg_diffusers.checks import Brief, callback, finite, of_type, whole
from mmg_diffusers.denoisers.base import Condition, Denoiser, check_denoiser_type
from mmg_diffusers.denoisers.forwards import Forwards, device_of
from mmg_diffusers.denoisers.precision import widened
from mmg_diffusers.files.records import within
from mmg_diffusers.measure.batches import Pairs, Progress, blocks, check_condition, range_within
from mmg_diffusers.measure.measured import Record, prefixed, to_merge
from mmg_diffusers.measure.moments import Curve, Keep, shown_levels
from mmg_diffusers.measure.paths import CandidateSlots, PathScorer, PathScores, StepScorer
from mmg_diffusers.measure.quadrature import Quadrature, Trapezoid

# The curves of a comparison, by their names.
COMPARED = ("mixture", "null")


@dataclass(frozen=True, repr=False)
class CandidateCurve(Record, Brief):
    """How well each of K conditions explains each of N variables along one Brownian path of noise per draw.

    `score` `(N, D, L, K)` float64: what step l adds to log p(path | candidate), up to a term that all candidates share;
    `logsnr` `(L + 1,)`: step l leads from logsnr[l] to logsnr[l + 1]. `mixture`, if the true candidates were given,
    compares each with the mixture of all, at the first L levels, weighted by the posterior along the path so far: a
    marginal that needs no unconditional branch, and that the posterior leads to the true candidate at the clean end.
    `innovation` `(N, D, L)` comes with it: the part of each step's likelihood ratio whose expectation is 0.
    `error` `(N, D, L)` is what the mixture leaves of the noise, |eps - e|^2, summed over the event, at those L levels; not a number
    where a single candidate was left and not followed, and missing in older records. `null`, if it was asked for, compares the mixture with the unconditional branch at the same noise.
    `square` `(N,)` float64 is how far each variable lies from 0, or from their mean where all are at hand, squared and summed over its
    `dimensions`; what `error` is held against, and missing in older records.
    """

    FORMAT = "mmg_diffusers.CandidateCurve/1"
    KIND = "comparison"

    score: Tensor
    logsnr: Tensor
    pair_ids: Tensor
    evaluations: int
    mixture: Curve | None = None
    innovation: Tensor | None = None
    null: Curve | None = None
    error: Tensor | None = None
    square: Tensor | None = None
    dimensions: int = 0

    def __post_init__(self) -> None:
        count, steps = len(self.score), len(self.logsnr) - 1
        if self.score.ndim != 4 or 0 in self.score.shape or self.score.shape[2] != steps:
            raise ValueError(
                f"the scores are {tuple(self.score.shape)}; expected (variables, draws, {steps}, candidates)"
            )
        named = {"scores": self.score, "levels": self.logsnr, "innovations": self.innovation, "squares": self.square}
        for name, values in named.items():
            if values is None:
                continue
            if values.dtype != torch.float64 or not bool(values.isfinite().all()):
                raise ValueError(f"the {name} of a comparison are {values.dtype}; expected finite float64")
        if not bool((self.logsnr.diff() > 0).all()):
            raise ValueError("the levels of a comparison do not rise")
        if self.pair_ids.shape != (count,) or len(self.pair_ids.unique()) < count:
            raise ValueError(
                f"the pair_ids of a comparison are {tuple(self.pair_ids.shape)}; expected {count} different ones"
            )
        whole(self.evaluations, "the evaluations of a comparison", 0)
        whole(self.dimensions, "the dimensions of a comparison", 0)
        if self.square is not None and (self.square.shape != (count,) or self.dimensions == 0):
            raise ValueError(
                f"the squares of a comparison are {tuple(self.square.shape)}, of {self.dimensions} dimensions; expected ({count},), of 1 or more"
            )
        for name, values in {"innovations": self.innovation, "errors": self.error}.items():
            if values is not None and values.shape != self.score.shape[:3]:
                raise ValueError(
                    f"the {name} of a comparison are {tuple(values.shape)}; expected {tuple(self.score.shape[:3])}"
                )

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors, by name, and what else there is; for files."""
        tensors = {name: getattr(self, name) for name in ("score", "logsnr", "pair_ids")}
        tensors |= {
            name: held for name in ("innovation", "error", "square") if (held := getattr(self, name)) is not None
        }
        record: dict[str, Any] = {"evaluations": self.evaluations, "dimensions": self.dimensions}
        for name in COMPARED:
            held = getattr(self, name)
            if held is not None:
                curve, record[name] = held.packed()
                tensors |= prefixed(name, curve)
        return tensors, record

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> CandidateCurve:
        """From what `packed` gave."""
        rest = {name: value for name, value in tensors.items() if "/" not in name}
        curves: dict[str, Any] = {
            name: Curve.unpacked(within(tensors, name), record[name]) for name in COMPARED if name in record
        }
        return cls(**rest, evaluations=record["evaluations"], dimensions=record.get("dimensions", 0), **curves)

    def padded(self, slots: int) -> CandidateCurve:
        """The same with more slots, in which there is nobody: their scores are 0, and count only beside a prior above 0."""
        more = slots - self.score.shape[-1]
        return self if more == 0 else replace(self, score=torch.nn.functional.pad(self.score, (0, more)))

    @staticmethod
    def merge(curves: Sequence[CandidateCurve]) -> CandidateCurve:
        """Join the curves of different pairs.

        Raises:
            ValueError: for none, for different levels or numbers of draws or candidates, or if a pair appears twice.
        """
        first = to_merge(curves, CandidateCurve)
        for other in curves[1:]:
            if other.logsnr.shape != first.logsnr.shape or not torch.allclose(other.logsnr, first.logsnr):
                raise ValueError(
                    f"comparisons were measured along different levels: {shown_levels(first.logsnr)} and "
                    f"{shown_levels(other.logsnr)}; measure all shards with the same settings"
                )
            if other.score.shape[1:] != first.score.shape[1:]:
                raise ValueError(
                    f"comparisons have (draws, steps, candidates) {tuple(first.score.shape[1:])} and "
                    f"{tuple(other.score.shape[1:])}; measure all shards with the same settings"
                )
        mixtures = [curve.mixture for curve in curves if curve.mixture is not None]
        innovations = [curve.innovation for curve in curves if curve.innovation is not None]
        nulls = [curve.null for curve in curves if curve.null is not None]
        errors = [curve.error for curve in curves if curve.error is not None]
        squares = [curve.square for curve in curves if curve.square is not None]
        if any(len(some) not in (0, len(curves)) for some in (mixtures, innovations, nulls)):
            raise ValueError(
                "some comparisons have the mixture of candidates, or the null branch, beside them and some do not; measure all "
                "shards alike"
            )
        return CandidateCurve(
            torch.cat([curve.score for curve in curves]),
            first.logsnr,
            torch.cat([curve.pair_ids for curve in curves]),
            sum(curve.evaluations for curve in curves),
            Curve.merge(mixtures) if mixtures else None,
            torch.cat(innovations) if innovations else None,
            Curve.merge(nulls) if nulls else None,
            # Shards of another version may have none: what is known of some levels alone is left out.
            torch.cat(errors) if len(errors) == len(curves) else None,
            torch.cat(squares) if len(squares) == len(curves) else None,
            first.dimensions,
        )


@dataclass(frozen=True)
class NoisePath:
    """How candidates are followed from noisy to clean.

    Args:
        quadrature: a deterministic rule; its distinct levels are the path's grid, between the levels nearest to the
            ends of the range. An observation has the noise of a level that the network knows, so that a path, other
            than an integral, begins and ends at such levels; `CandidateCurve.logsnr` states them, and paths over
            adjoining ranges adjoin.
        draws: paths per variable, each with noise of its own; evidence is averaged over them.
        prune: a candidate whose posterior along the path falls below this is not followed further; its probability
            stays what it was. 0 follows all to the end.
        logsnr_range: a part of the denoiser's own range.
        null: whether the unconditional branch is run as well, at the same noise, and held against the mixture.

    Raises:
        ValueError: for a rule that draws its levels, fewer than one draw, or a threshold that is not a probability.
    """

    quadrature: Quadrature = field(default_factory=lambda: Trapezoid(65))
    draws: int = 1
    prune: float = 0.0
    logsnr_range: tuple[float, float] | None = None
    null: bool = False

    def __post_init__(self) -> None:
        of_type(self.quadrature, Quadrature, "quadrature", "a rule such as Trapezoid(65)")
        if self.quadrature.random:
            raise ValueError(
                f"{type(self.quadrature).__name__} draws its levels; expected a fixed grid such as Trapezoid"
            )
        whole(self.draws, "draws", 1)
        if not 0 <= finite(self.prune, "prune") < 1:
            raise ValueError(f"prune is {self.prune}; expected a probability")

    def check(self, count: int) -> None:
        """Raise a ValueError if the threshold would prune even the prior of `count` candidates."""
        if self.prune >= 1 / count:
            raise ValueError(
                f"prune is {self.prune}; expected a probability below 1 / {count}, the number of candidates"
            )

    @property
    def floor(self) -> float:
        """Logarithm of the threshold."""
        return math.log(self.prune) if self.prune > 0 else -math.inf


@torch.inference_mode()
def measure_candidates(
    denoiser: Denoiser,
    pairs: Pairs,
    candidates: Condition,
    path: NoisePath,
    *,
    slots: Tensor | None = None,
    truth: Tensor | None = None,
    prior: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    keep: Keep = "pair",
    progress: Progress | None = None,
) -> CandidateCurve:
    """Score every candidate condition on every variable, with the same noise for all candidates.

    Along a Brownian path Y_s = s x + W_s a candidate with prediction x_y gains (Girsanov), per step of s,

        <x_y, dY> - |x_y|^2 ds / 2  =  - (e^h - 1) |eps - e_y|^2 / 2 - sqrt(e^h - 1) <xi, e_y> + (the same for all y)

    where h is the step in log-SNR and xi the standardised next increment of W: the squared error that an integral over
    levels would sum, and a term of mean zero that cancels most of its noise.

    Without `truth`, later draws follow only the candidates that earlier ones left in play: those that two draws and the
    mean over all have not ruled out. With it, every draw follows them from the start, since at its noisy end the
    mixture is made of all.

    Args:
        denoiser: the network; no marginal branch is needed.
        pairs: N variables.
        candidates: conditions, one a row.
        path: how they are followed.
        slots: `(N, K)` which rows are a variable's candidates; all of them, in order, by default.
        truth: `(N,)` the slot of the true candidate of every variable, to compare with the mixture; it is never pruned.
        prior: `(K,)` probabilities of the slots, uniform by default; or `(N, K)`, each variable's own, 0 in slots
            without a candidate. If a variable's candidates share a part, all is conditional on that part.
        seed, batch_size: as in `measure_curve`.
        keep: ``"pixel"`` keeps maps of the comparison with the mixture, ``"level"`` at every level.
        progress: called with the number of path steps done, for all candidates together.
    """
    callback(progress)
    check_denoiser_type(denoiser)
    of_type(candidates, Mapping, "candidates", "a condition: tensors by name, one row a candidate")
    if not candidates:
        raise ValueError("the candidates hold no tensor; expected one row a candidate")
    rows = len(next(iter(candidates.values())))
    check_condition(candidates, rows, "candidates")
    if slots is None:
        slots = torch.arange(rows).expand(len(pairs), -1)
    if slots.ndim != 2 or len(slots) != len(pairs) or int(slots.min()) < 0 or int(slots.max()) >= rows:
        raise ValueError(f"slots must be {len(pairs)} rows of indices below {rows}, got shape {tuple(slots.shape)}")
    count = slots.shape[1]
    path.check(count)
    if truth is not None and (truth.shape != (len(pairs),) or int(truth.min()) < 0 or int(truth.max()) >= count):
        raise ValueError(f"truth must hold one index below {count} for each of {len(pairs)} variables")
    if path.null and truth is None:
        raise ValueError("the null branch is held against the mixture, which needs the true candidates: give truth=")
    log_prior = _log_prior(prior, len(pairs), count)
    if truth is not None and not bool(log_prior[torch.arange(len(pairs)), truth.cpu()].isfinite().all()):
        raise ValueError("a true candidate has probability 0 under its variable's prior")
    device = device_of(denoiser, pairs.x)
    low, high = range_within(denoiser, path.logsnr_range, path.quadrature)
    forwards = Forwards(denoiser, pairs.x.shape[1:], device, batch_size)
    scorer = PathScorer(StepScorer(forwards, candidates, path.null), path.floor, seed, keep, progress)
    # Draws that are made together: all if the mixture is asked for, else one after the other.
    rounds = [range(path.draws)] if truth is not None else [range(d, d + 1) for d in range(path.draws)]
    together = len(rounds[0])
    curves: list[CandidateCurve] = []
    size = max(1, 16 * forwards.rows // (count * together))
    for block in blocks(denoiser, pairs, path.quadrature, 1, seed, low, high, size):
        rows_of_block = slice(block.start, block.start + len(block.pairs))
        grid = with_ends(block.logsnr[0, 0], denoiser.snap(torch.tensor([low, high], dtype=torch.float64)))
        block = replace(block, logsnr=grid.expand(*block.logsnr.shape[:2], -1))
        scores = PathScores.none(len(block.pairs), len(grid) - 1, count)
        true = None if truth is None else truth.cpu()[rows_of_block]
        for draws in rounds:
            scores = scorer(block, draws, scores, CandidateSlots(slots[rows_of_block], log_prior[rows_of_block], true))
        mixture = innovation = beside = None
        if scores.compared is not None:
            mixture = scores.compared.curve(grid[:-1], block.pairs.ids, scores.evaluations)
            innovation = scores.compared.innovation
        if scores.null is not None:
            beside = scores.null.curve(grid[:-1], block.pairs.ids, scores.evaluations)
        ids, rows_run = block.pairs.ids, scores.evaluations
        square = widened(block.pairs.x).square().flatten(1).sum(1).cpu()
        made = CandidateCurve(scores.score, grid, ids, rows_run, mixture, innovation, beside, scores.error)
        curves.append(replace(made, square=square, dimensions=block.pairs.x[0].numel()))
    return CandidateCurve.merge(curves)


def with_ends(levels: Tensor, ends: Tensor) -> Tensor:
    """Rising levels, and the levels nearest to the ends of the range, if a rule (such as Gauss') places none there."""
    low, high = (end for end in ends.split(1))
    below = [low] if float(levels[0] - low) > 1e-9 else []
    above = [high] if float(high - levels[-1]) > 1e-9 else []
    return torch.cat([*below, levels, *above])


def _log_prior(prior: Tensor | None, pairs: int, count: int) -> Tensor:
    """`(pairs, count)` float64, checked."""
    if prior is None:
        return torch.full((pairs, count), -math.log(count), dtype=torch.float64)
    rows = prior.cpu().double()
    if rows.shape not in ((count,), (pairs, count)):
        raise ValueError(f"prior is {tuple(rows.shape)}; expected ({count},) or ({pairs}, {count})")
    if not bool((rows >= 0).all()) or float((rows.sum(-1) - 1).abs().max()) > 1e-6:
        raise ValueError("a prior has probabilities that are negative or do not sum to 1; divide by their sum")
    return rows.log().expand(pairs, count)
