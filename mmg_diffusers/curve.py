"""The only loop that calls a network: pairs x draws x levels, every branch at the same noisy z."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mmg_diffusers.denoiser import Condition, Denoiser, condition_rows, same_rows
from mmg_diffusers.draws import PairDraws, brownian_path
from mmg_diffusers.noise import add_noise
from mmg_diffusers.quadrature import Quadrature
from mmg_diffusers.result import MOMENTS, Curve, integrate

Progress = Callable[[int], object]
"""Called with the number of noisy variables that were just evaluated."""

# Numbers in one batch of network inputs that fit comfortably beside the activations of a U-Net, by device type.
_COMFORT = {"cpu": 2**16, "cuda": 2**18}


def auto_batch_size(event: torch.Size, device: torch.device) -> int:
    """Rows per forward pass for events of this shape: between 2 and 8192."""
    return max(2, min(8192, _COMFORT.get(device.type, 2**17) // max(1, event.numel())))


@dataclass(frozen=True)
class Pairs:
    """The variables that are denoised, with ids that name their noise.

    Args:
        x: `(N, *event)`.
        ids: `(N,)` int64; by default 0, 1, 2, ...

    Raises:
        ValueError: for no pair, values that are not finite, or ids that repeat.
    """

    x: Tensor
    ids: Tensor

    @classmethod
    def of(cls, x: Tensor, ids: Tensor | None = None) -> Pairs:
        if x.ndim < 2 or len(x) == 0:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected (N, *event) with N >= 1")
        finite = torch.isfinite(x).flatten(1).all(1)
        if not bool(finite.all()):
            bad = (~finite).nonzero().flatten().tolist()
            raise ValueError(f"x has NaN or infinite values in rows {bad[:10]}; remove or repair these pairs")
        if not torch.is_floating_point(x):
            raise ValueError(f"x is {x.dtype}; expected floating point")
        ids = torch.arange(len(x)) if ids is None else torch.as_tensor(ids, dtype=torch.int64)
        if ids.shape != (len(x),) or len(ids.unique()) < len(ids):
            raise ValueError(f"expected {len(x)} different pair ids, got {tuple(ids.shape)}")
        return cls(x if x.dtype == torch.float64 else x.float(), ids)

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class _Batch:
    """Noisy variables on the device: `where` indexes (pair, draw, level) of the block."""

    where: tuple[Tensor, Tensor, Tensor]
    z: Tensor
    logsnr: Tensor
    eps: Tensor


@dataclass(frozen=True)
class _Block:
    """A few pairs, their levels and their noise; what is alive at one time."""

    pairs: Pairs
    start: int
    logsnr: Tensor
    weight: Tensor

    def batches(
        self, draws: int, antithetic: bool, seed: int, rows: int, device: torch.device
    ) -> Iterator[_Batch]:  # fmt: skip
        """Noisy variables in the order pair, draw, level, `rows` at a time."""
        levels = self.logsnr.shape[1]
        event = tuple(self.pairs.x.shape[1:])
        waiting: list[tuple[Tensor, Tensor]] = []  # (index, eps) short of a full batch
        count = 0
        for pair, pair_id in enumerate(self.pairs.ids.tolist()):
            for draw in range(draws):
                eps = PairDraws(seed, pair_id, draw).normals(levels, event, self.pairs.x.dtype)
                index = torch.tensor([(pair, draw, level) for level in range(levels)])
                if antithetic:
                    index, eps = index.repeat(2, 1), torch.cat([eps, -eps])
                waiting.append((index, eps))
                count += len(eps)
                while count >= rows:
                    index, eps = (torch.cat(parts) for parts in zip(*waiting, strict=True))
                    yield self._batch(index[:rows], eps[:rows], device)
                    waiting, count = [(index[rows:], eps[rows:])], count - rows
        if count:
            index, eps = (torch.cat(parts) for parts in zip(*waiting, strict=True))
            yield self._batch(index, eps, device)

    def _batch(self, index: Tensor, eps: Tensor, device: torch.device) -> _Batch:
        pair, draw, level = index.T
        logsnr = self.logsnr[pair, level]
        eps = eps.to(device)
        z = add_noise(self.pairs.x[pair.to(self.pairs.x.device)].to(device), logsnr, eps)
        return _Batch((pair, draw, level), z, logsnr, eps)


def _blocks(
    denoiser: Denoiser, pairs: Pairs, quadrature: Quadrature, seed: int, low: float, high: float, size: int
) -> Iterator[_Block]:
    """Blocks of `size` pairs, so that memory is bounded by the batch and not by the run."""
    for start in range(0, len(pairs), size):
        part = Pairs(pairs.x[start : start + size], pairs.ids[start : start + size])
        uniform = torch.stack([PairDraws(seed, i).uniform(quadrature.nodes) for i in part.ids.tolist()])
        logsnr, weight = quadrature.place(low, high, denoiser.snap, uniform)
        yield _Block(part, start, logsnr, weight)


def _device(denoiser: Denoiser, fallback: Tensor) -> torch.device:
    for tensor in (*denoiser.parameters(), *denoiser.buffers()):
        return tensor.device
    return fallback.device


def _range(denoiser: Denoiser, asked: tuple[float, float] | None, quadrature: Quadrature) -> tuple[float, float]:
    low, high = denoiser.logsnr_range
    if asked is not None:
        if not (low - 1e-9 <= asked[0] < asked[1] <= high + 1e-9):
            raise ValueError(
                f"logsnr_range {asked} is not a rising range within [{low:.3f}, {high:.3f}], the levels that this "
                "network was trained on"
            )
        low, high = max(low, asked[0]), min(high, asked[1])
    return quadrature.bounds(low, high)


def _rows_per_forward(asked: int | None, draws: int, pairs: Pairs, device: torch.device) -> int:
    if draws < 1:
        raise ValueError(f"draws is {draws}; expected at least 1")
    if asked is not None and asked < 1:
        raise ValueError(f"batch_size is {asked}; expected at least 1")
    return asked if asked is not None else auto_batch_size(pairs.x.shape[1:], device)


def _rows(cond: Condition | None, index: Tensor, device: torch.device) -> Condition | None:
    if cond is None:
        return None
    return {key: value.to(device) for key, value in condition_rows(cond, index).items()}


def check_condition(cond: Condition | None, count: int, name: str) -> None:
    """Raise a ValueError unless every tensor of a condition has `count` finite rows."""
    for key, value in (cond or {}).items():
        if len(value) != count:
            raise ValueError(f"{name}[{key!r}] has {len(value)} rows for {count} values of x; expected one row each")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"{name}[{key!r}] has NaN or infinite values")


def _per_pixel(square: Tensor) -> Tensor:
    """Sum over channels: `(B, C, *pixels)` to `(B, *pixels)`; a vector's coordinates are its pixels."""
    return square.sum(1) if square.ndim > 2 else square


@torch.inference_mode()
def measure_curve(
    denoiser: Denoiser,
    pairs: Pairs,
    cond: Condition,
    *,
    given: Condition | None = None,
    quadrature: Quadrature,
    draws: int = 1,
    antithetic: bool = False,
    seed: int = 0,
    logsnr_range: tuple[float, float] | None = None,
    batch_size: int | None = None,
    pixels: bool = False,
    progress: Progress | None = None,
) -> Curve:
    """Compare the denoiser given `cond` with the one given `given` (nothing: the marginal) at shared noise.

    Args:
        denoiser: the network.
        pairs: N variables to diffuse.
        cond: N rows.
        given: N rows, the context of a conditional mutual information; ``None`` for none.
        quadrature: where to look.
        draws: noise draws per level.
        antithetic: every draw is eps and -eps, averaged: twice the evaluations, without the odd part of the noise.
        seed: names the noise, together with the pair's id.
        logsnr_range: a part of the denoiser's own range.
        batch_size: rows per forward pass of the network, the one memory knob.
        pixels: keep maps.
        progress: told how many noisy variables are done.

    Raises:
        ValueError: for conditions that do not fit the pairs, or a range that the network does not know.
    """
    check_condition(cond, len(pairs), "cond")
    check_condition(given, len(pairs), "given")
    device = _device(denoiser, pairs.x)
    low, high = _range(denoiser, logsnr_range, quadrature)
    rows = _rows_per_forward(batch_size, draws, pairs, device)
    copies = 2 if antithetic else 1
    size = max(1, 4 * rows // (quadrature.nodes * draws * copies))
    together = rows >= 2  # both branches in one forward
    curves: list[Curve] = []
    for block in _blocks(denoiser, pairs, quadrature, seed, low, high, size):
        shape = (len(block.pairs), draws, block.logsnr.shape[1])
        sums = {name: torch.zeros(shape, dtype=torch.float64) for name in MOMENTS}
        maps: dict[str, Tensor] = {}
        for batch in block.batches(draws, antithetic, seed, max(1, rows // 2), device):
            owner = block.start + batch.where[0]
            y, c = _rows(cond, owner, device), _rows(given, owner, device)
            if together:
                base, conditional = denoiser.branches(batch.z, batch.logsnr, [c, y])
            else:
                base, conditional = denoiser(batch.z, batch.logsnr, c), denoiser(batch.z, batch.logsnr, y)
            # One condition in both branches means one prediction; the last bits of a batched product may differ.
            same = torch.as_tensor(same_rows(c, y), device=device)
            base = torch.where(same.view(-1, *(1,) * (base.ndim - 1)), conditional, base)
            _check_finite(base + conditional, batch.logsnr)
            # Differences of squares are formed without their cancellation: of the raw outputs, then in float64.
            difference = (conditional - base).double()
            wrong = (batch.eps - conditional).double()
            orthogonal = difference.square()
            moments = {
                "gap": orthogonal + 2 * wrong * difference,
                "orthogonal": orthogonal,
                "error": wrong.square(),
                "energy": difference * (conditional.double() + base.double()),
                "along": difference * batch.z.double(),
            }
            for name, value in moments.items():
                sums[name].index_put_(batch.where, value.flatten(1).sum(1).cpu() / copies, accumulate=True)
                if pixels and name in ("gap", "orthogonal"):
                    part = _per_pixel(value).cpu() / copies
                    if name not in maps:
                        maps[name] = torch.zeros((*shape, *part.shape[1:]), dtype=torch.float64)
                    maps[name].index_put_(batch.where, part, accumulate=True)
            if progress is not None:
                progress(len(batch.z))
        kept: dict[str, Tensor] = {}
        for name, values in maps.items():
            kept[name], kept[f"{name}_stderr"] = integrate(values, block.weight, quadrature.independent)
        curves.append(
            Curve(
                logsnr=block.logsnr.contiguous(),
                weight=block.weight.contiguous(),
                **sums,
                pair_ids=block.pairs.ids,
                logsnr_range=(low, high),
                evaluations=2 * copies * sums["gap"].numel(),
                independent=quadrature.independent,
                maps=kept,
            )
        )
    return Curve.merge(curves)


def _check_finite(predictions: Tensor, logsnr: Tensor) -> None:
    if not bool(predictions.isfinite().all()):
        raise ValueError(
            f"the network returned NaN or infinity between log-SNR {float(logsnr.min()):.2f} and "
            f"{float(logsnr.max()):.2f}; load it with a wider dtype (torch_dtype=torch.float32)"
        )


@dataclass(frozen=True)
class CandidateCurve:
    """How well each of K conditions explains each of N variables along one Brownian path of noise per draw.

    `score` `(N, D, L, K)` float64: what step l adds to log p(path | candidate), up to a term that all candidates share;
    `logsnr` `(L + 1,)`: step l leads from logsnr[l] to logsnr[l + 1].
    """

    score: Tensor
    logsnr: Tensor
    pair_ids: Tensor
    evaluations: int

    @staticmethod
    def merge(curves: list[CandidateCurve]) -> CandidateCurve:
        """Join the curves of different pairs."""
        first = curves[0]
        return CandidateCurve(
            torch.cat([curve.score for curve in curves]),
            first.logsnr,
            torch.cat([curve.pair_ids for curve in curves]),
            sum(curve.evaluations for curve in curves),
        )


@torch.inference_mode()
def measure_candidates(
    denoiser: Denoiser,
    pairs: Pairs,
    candidates: Condition,
    *,
    quadrature: Quadrature,
    prior: Tensor | None = None,
    prune: float = 0.0,
    draws: int = 1,
    seed: int = 0,
    logsnr_range: tuple[float, float] | None = None,
    batch_size: int | None = None,
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
        prior: `(K,)` probabilities of the candidates, uniform by default; only pruning looks at it.
        prune: a candidate whose posterior along the path falls below this is not followed further; its probability
            stays what it was. 0 follows all to the end.
        draws, seed, logsnr_range, batch_size: as in `measure_curve`.
        progress: called with the number of path steps done, for all candidates together.
    """
    count = len(next(iter(candidates.values())))
    check_condition(candidates, count, "candidates")
    if quadrature.random:
        raise ValueError(f"{type(quadrature).__name__} draws its levels; expected a fixed grid such as Trapezoid")
    if not 0 <= prune < 1 / count:
        raise ValueError(f"prune is {prune}; expected a probability below 1 / {count}, the number of candidates")
    device = _device(denoiser, pairs.x)
    low, high = _range(denoiser, logsnr_range, quadrature)
    rows = _rows_per_forward(batch_size, draws, pairs, device)
    log_prior = torch.zeros(count, dtype=torch.float64) if prior is None else prior.double().log()
    follow = _Follower(denoiser, candidates, rows, device)
    curves: list[CandidateCurve] = []
    for block in _blocks(denoiser, pairs, quadrature, seed, low, high, max(1, 16 * rows // (count * draws))):
        grid = block.logsnr[0]
        growth = torch.expm1(grid.diff())
        paths = [(pair, draw) for pair in range(len(block.pairs)) for draw in range(draws)]
        sources = [PairDraws(seed, int(block.pairs.ids[pair]), draw) for pair, draw in paths]
        x = block.pairs.x[[pair for pair, _ in paths]].to(device)
        total = log_prior.repeat(len(paths), 1)
        alive = torch.ones(len(paths), count, dtype=torch.bool)
        steps: list[Tensor] = []
        evaluations = 0
        for level, (eps, xi) in enumerate(brownian_path(sources, grid, tuple(x.shape[1:]), x.dtype)):
            score = follow(x, grid[level], growth[level], eps.to(device), xi.to(device), alive)
            evaluations += int(alive.sum())
            # A pruned candidate gains what the mixture of the others gains, so that its posterior stands still.
            others = total.masked_fill(~alive, -torch.inf)
            gained = torch.logsumexp(others + score, 1) - torch.logsumexp(others, 1)
            score = torch.where(alive, score, gained[:, None])
            total = total + score
            alive &= torch.log_softmax(total, 1) >= (math.log(prune) if prune > 0 else -math.inf)
            steps.append(score)
            if progress is not None:
                progress(len(paths))
        joined = torch.stack(steps, 1).unflatten(0, (len(block.pairs), draws))
        curves.append(CandidateCurve(joined, grid, block.pairs.ids, evaluations))
    return CandidateCurve.merge(curves)


@dataclass(frozen=True)
class _Follower:
    """Scores of one step of every path, for the candidates that are still followed."""

    denoiser: Denoiser
    candidates: Condition
    rows: int
    device: torch.device

    def __call__(self, x: Tensor, level: Tensor, growth: Tensor, eps: Tensor, xi: Tensor, alive: Tensor) -> Tensor:
        """`(B, K)` float64; 0 where a candidate is not alive."""
        z = add_noise(x, level.expand(len(x)), eps)
        out = torch.zeros(alive.shape, dtype=torch.float64)
        path, candidate = alive.nonzero(as_tuple=True)
        for p, k in zip(path.split(self.rows), candidate.split(self.rows), strict=True):
            here = p.to(self.device)
            logsnr = level.expand(len(p))
            predicted = self.denoiser(z[here], logsnr, _rows(self.candidates, k, self.device))
            _check_finite(predicted, logsnr)
            square = (eps[here] - predicted).double().square().flatten(1).sum(1).cpu()
            cross = (xi[here] * predicted).double().flatten(1).sum(1).cpu()
            out[p, k] = -growth * square / 2 - growth.sqrt() * cross
        return out
