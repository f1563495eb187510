"""The only loop that calls a network: pairs x draws x levels, every branch at the same noisy z."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmg_diffusers.denoiser import Condition, Denoiser, condition_rows, same_rows
from mmg_diffusers.draws import BrownianPath, IndependentNoise, Noise, PairDraws
from mmg_diffusers.noise import add_noise
from mmg_diffusers.quadrature import Quadrature
from mmg_diffusers.result import Curve, integrate

Progress = Callable[[int], object]
"""Called with the number of noisy variables that were just evaluated."""

# Numbers in one batch of network inputs that fit comfortably beside the activations of a U-Net, by device type.
_COMFORT = {"cpu": 2**16, "cuda": 2**18}


def auto_batch_size(event: torch.Size, device: torch.device) -> int:
    """Rows per forward pass for events of this shape: between 2 and 256."""
    return max(2, min(256, _COMFORT.get(device.type, 2**17) // max(1, event.numel())))


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
    innovation: Tensor


@dataclass(frozen=True)
class _Block:
    """A few pairs, their levels and their noise; what is alive at one time."""

    pairs: Pairs
    start: int
    logsnr: Tensor
    weight: Tensor
    draws: int
    noise: Noise
    seed: int

    def batches(self, rows: int, device: torch.device) -> Iterator[_Batch]:
        levels = self.logsnr.shape[1]
        per_draw: list[tuple[Tensor, Tensor, Tensor]] = []  # (index, eps, innovation) waiting for a full batch
        waiting = 0
        event = tuple(self.pairs.x.shape[1:])
        for pair, pair_id in enumerate(self.pairs.ids.tolist()):
            source = PairDraws(self.seed, pair_id)
            for draw in range(self.draws):
                normals = source.normals(levels + 1, event, self.pairs.x.dtype)
                eps, innovation = self.noise.along(normals, self.logsnr[pair])
                index = torch.stack(
                    [torch.full((levels,), pair), torch.full((levels,), draw), torch.arange(levels)], dim=1
                )
                per_draw.append((index, eps, innovation))
                waiting += levels
                while waiting >= rows:
                    index, eps, innovation = (torch.cat(parts) for parts in zip(*per_draw, strict=True))
                    yield self._batch(index[:rows], eps[:rows], innovation[:rows], device)
                    per_draw, waiting = [(index[rows:], eps[rows:], innovation[rows:])], waiting - rows
        if waiting:
            index, eps, innovation = (torch.cat(parts) for parts in zip(*per_draw, strict=True))
            yield self._batch(index, eps, innovation, device)

    def _batch(self, index: Tensor, eps: Tensor, innovation: Tensor, device: torch.device) -> _Batch:
        pair, draw, level = index.T
        logsnr = self.logsnr[pair, level]
        eps = eps.to(device)
        z = add_noise(self.pairs.x[pair.to(self.pairs.x.device)].to(device), logsnr, eps)
        return _Batch((pair, draw, level), z, logsnr, eps, innovation.to(device))


def _blocks(
    denoiser: Denoiser,
    pairs: Pairs,
    quadrature: Quadrature,
    draws: int,
    seed: int,
    noise: Noise,
    low: float,
    high: float,
    rows: int,
) -> Iterator[_Block]:
    """Blocks of pairs that fill a few batches each, so that memory is bounded by the batch."""
    if draws < 1:
        raise ValueError(f"draws is {draws}; expected at least 1")
    if rows < 1:
        raise ValueError(f"batch_size is {rows}; expected at least 1")
    size = max(1, 4 * rows // (quadrature.nodes * draws))
    for start in range(0, len(pairs), size):
        part = Pairs(pairs.x[start : start + size], pairs.ids[start : start + size])
        uniform = torch.stack([PairDraws(seed, i).uniform(quadrature.nodes) for i in part.ids.tolist()])
        logsnr, weight = quadrature.place(low, high, denoiser.snap, uniform)
        yield _Block(part, start, logsnr, weight, draws, noise, seed)


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
    rows = batch_size if batch_size is not None else auto_batch_size(pairs.x.shape[1:], device)
    together = rows >= 2  # both branches in one forward
    curves: list[Curve] = []
    for block in _blocks(denoiser, pairs, quadrature, draws, seed, IndependentNoise(), low, high, rows):
        shape = (len(block.pairs), draws, block.logsnr.shape[1])
        sums = {name: torch.zeros(shape, dtype=torch.float64) for name in ("gap", "orthogonal", "error")}
        maps: dict[str, Tensor] = {}
        for batch in block.batches(max(1, rows // 2), device):
            owner = block.start + batch.where[0]
            y, c = _rows(cond, owner, device), _rows(given, owner, device)
            if together:
                base, conditional = denoiser.branches(batch.z, batch.logsnr, [c, y])
            else:
                base, conditional = denoiser(batch.z, batch.logsnr, c), denoiser(batch.z, batch.logsnr, y)
            # One condition in both branches means one prediction; the last bits of a batched product may differ.
            same = torch.as_tensor(same_rows(c, y), device=device)
            base = torch.where(same.view(-1, *(1,) * (base.ndim - 1)), conditional, base)
            _check_finite(base, conditional, batch)
            difference = conditional - base
            wrong = (batch.eps - conditional).double()
            # |eps - e_u|^2 - |eps - e_c|^2 without the cancellation.
            orthogonal = difference.double().square()
            gap = orthogonal + 2 * wrong * difference.double()
            for name, value in (("gap", gap), ("orthogonal", orthogonal), ("error", wrong.square())):
                sums[name][batch.where] = value.flatten(1).sum(1).cpu()
                if pixels and name != "error":
                    part = _per_pixel(value).cpu()
                    if name not in maps:
                        maps[name] = torch.zeros((*shape, *part.shape[1:]), dtype=torch.float64)
                    maps[name][batch.where] = part
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
                evaluations=2 * sums["gap"].numel(),
                independent=quadrature.independent,
                maps=kept,
            )
        )
    return Curve.merge(curves)


def _check_finite(base: Tensor, conditional: Tensor, batch: _Batch) -> None:
    if not bool((base + conditional).isfinite().all()):
        raise ValueError(
            f"the network returned NaN or infinity between log-SNR {float(batch.logsnr.min()):.2f} and "
            f"{float(batch.logsnr.max()):.2f}; load it with a wider dtype (torch_dtype=torch.float32)"
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
        draws, seed, logsnr_range, batch_size, progress: as in `measure_curve`.
    """
    count = len(next(iter(candidates.values())))
    check_condition(candidates, count, "candidates")
    if quadrature.random:
        raise ValueError(f"{type(quadrature).__name__} draws its levels; expected a fixed grid such as Trapezoid")
    device = _device(denoiser, pairs.x)
    low, high = _range(denoiser, logsnr_range, quadrature)
    rows = batch_size if batch_size is not None else auto_batch_size(pairs.x.shape[1:], device)
    every = torch.arange(count)
    curves: list[CandidateCurve] = []
    for block in _blocks(denoiser, pairs, quadrature, draws, seed, BrownianPath(), low, high, rows):
        grid = block.logsnr[0]
        growth = torch.expm1(grid.diff())
        score = torch.zeros((len(block.pairs), draws, len(growth), count), dtype=torch.float64)
        # The last level only ends the last step.
        steps = replace(block, logsnr=block.logsnr[:, :-1])
        for batch in steps.batches(max(1, rows // count), device):
            pair, draw, level = batch.where
            for part in every.split(rows):
                conds = [_rows(candidates, k.expand(len(pair)), device) for k in part]
                for k, eps in zip(part.tolist(), denoiser.branches(batch.z, batch.logsnr, conds), strict=True):
                    _check_finite(eps, eps, batch)
                    square = (batch.eps - eps).double().square().flatten(1).sum(1).cpu()
                    cross = (batch.innovation * eps).double().flatten(1).sum(1).cpu()
                    step = growth[level]
                    score[pair, draw, level, k] = -step * square / 2 - step.sqrt() * cross
            if progress is not None:
                progress(len(batch.z) * count)
        curves.append(CandidateCurve(score, grid, block.pairs.ids, score.numel()))
    return CandidateCurve.merge(curves)
