"""The loop over pairs x draws x levels: both branches of a denoiser at the same noisy z."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmg_diffusers.checks import callback, whole
from mmg_diffusers.denoisers.base import Condition, Denoiser, check_denoiser_type, same_rows
from mmg_diffusers.denoisers.forwards import Forwards, device_of
from mmg_diffusers.denoisers.precision import widened
from mmg_diffusers.measure.batches import (
    Batch,
    Block,
    Pairs,
    Progress,
    blocks,
    check_condition,
    check_finite,
    range_within,
    rows_of,
)
from mmg_diffusers.measure.moments import MOMENTS, Curve, Integrand, Keep, kept_maps, noise_error
from mmg_diffusers.measure.quadrature import Quadrature
from mmg_diffusers.measure.tolerance import Tolerance

# The moments that maps are made of.
MAPPED = ("gap", "orthogonal")


def per_pixel(square: Tensor) -> Tensor:
    """Sum over channels: `(B, C, *pixels)` to `(B, *pixels)`; a vector's coordinates are its pixels."""
    return square.sum(1) if square.ndim > 2 else square


def moments(eps: Tensor, z: Tensor, base: Tensor, conditional: Tensor) -> dict[str, Tensor]:
    """What every integrand is made of, before the sum over the event: float64, each of the shape of z.

    Differences of squares are formed without their cancellation: of the raw outputs on their device, then in float64,
    which is on the CPU if the device has none.
    """
    difference = widened(conditional - base)
    wrong = widened(eps - conditional)
    orthogonal = difference.square()
    return {
        "gap": orthogonal + 2 * wrong * difference,
        "orthogonal": orthogonal,
        "error": wrong.square(),
        "energy": difference * (widened(conditional) + widened(base)),
        "along": difference * widened(z),
    }


@dataclass(frozen=True)
class _Comparer:
    """Compares the two branches of a denoiser on batches of one block."""

    forwards: Forwards
    cond: Condition
    given: Condition | None
    pixels: bool

    def __call__(self, block: Block, batch: Batch) -> _Seen:
        """What one batch adds, left on the device, so that this does not wait for it."""
        device = self.forwards.device
        owner = block.start + batch.where[0]
        y, c = rows_of(self.cond, owner, device), rows_of(self.given, owner, device)
        base, conditional = self.forwards.branches(batch.z, batch.logsnr, [c, y])
        # One condition in both branches means one prediction; the last bits of a batched product may differ.
        equal = same_rows(c, y)
        same = equal.to(device) if isinstance(equal, Tensor) else torch.full((1,), equal, device=device)
        base = torch.where(same.view(-1, *(1,) * (base.ndim - 1)), conditional, base)
        seen = moments(batch.eps, batch.z, base, conditional)
        sums = torch.stack([seen[name].flatten(1).sum(1) for name in MOMENTS])
        maps = {name: per_pixel(seen[name]) for name in MAPPED} if self.pixels else {}
        return _Seen(batch.where, batch.logsnr, sums, maps)


@dataclass(frozen=True)
class _Seen:
    """What a batch of B rows adds: the moments `(5, B)`, and maps `(B, *pixels)` by name."""

    where: tuple[Tensor, Tensor, Tensor]
    logsnr: Tensor
    sums: Tensor
    maps: dict[str, Tensor]


class _Tally:
    """Adds up what the batches of one block say, draw by draw."""

    def __init__(
        self, block: Block, quadrature: Quadrature, copies: int, branches: int, progress: Progress | None
    ) -> None:
        self.block, self.independent, self.copies, self.progress = block, quadrature.independent, copies, progress
        self.branches = branches
        self.sums = torch.zeros((len(MOMENTS), *block.logsnr.shape), dtype=torch.float64)
        self.maps: dict[str, Tensor] = {}
        self.drawn = torch.zeros(len(block.pairs), dtype=torch.int64)

    def add(self, seen: _Seen | None) -> None:
        """Wait for the device, and add what a batch says, if there is one."""
        if seen is None:
            return
        sums = seen.sums.cpu()
        check_finite(sums, seen.logsnr)
        for total, values in zip(self.sums, sums, strict=True):
            total.index_put_(seen.where, values / self.copies, accumulate=True)
        for name, values in seen.maps.items():
            part = values.cpu() / self.copies
            if name not in self.maps:
                self.maps[name] = torch.zeros((*self.block.logsnr.shape, *part.shape[1:]), dtype=torch.float64)
            self.maps[name].index_put_(seen.where, part, accumulate=True)
        if self.progress is not None:
            self.progress(len(seen.logsnr))

    def curve(self, logsnr_range: tuple[float, float]) -> Curve:
        """The block's curve, without maps; draws that were not made are not a number."""
        most = int(self.drawn.max())
        missing = (torch.arange(most) >= self.drawn[:, None])[..., None]
        made = (self.block.logsnr, self.block.weight, *self.sums)
        logsnr, weight, *sums = (values[:, :most].masked_fill(missing, torch.nan) for values in made)
        return Curve(
            logsnr=logsnr,
            weight=weight,
            **dict(zip(MOMENTS, sums, strict=True)),
            pair_ids=self.block.pairs.ids,
            logsnr_range=logsnr_range,
            evaluations=self.branches * self.copies * int(self.drawn.sum()) * self.block.logsnr.shape[2],
            independent=self.independent,
        )

    def kept(self, curve: Curve, keep: Keep) -> dict[str, Tensor]:
        """Maps of what was drawn."""
        most, missing = curve.gap.shape[1], curve.gap.isnan()
        kept: dict[str, Tensor] = {}
        for name, values in self.maps.items():
            drawn = values[:, :most].masked_fill(missing.view(*missing.shape, *(1,) * (values.ndim - 3)), torch.nan)
            kept |= kept_maps(name, drawn, curve.weight, self.independent, keep)
        return kept


@torch.inference_mode()
def measure_curve(
    denoiser: Denoiser,
    pairs: Pairs,
    cond: Condition,
    *,
    given: Condition | None = None,
    quadrature: Quadrature,
    draws: int = 1,
    tolerance: Tolerance | None = None,
    integrand: Integrand = "auto",
    antithetic: bool = False,
    seed: int = 0,
    logsnr_range: tuple[float, float] | None = None,
    batch_size: int | None = None,
    keep: Keep = "pair",
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
        tolerance: in place of `draws`, how small the error of each pair is to become.
        integrand: the one whose error that is.
        antithetic: every draw is eps and -eps, averaged: twice the evaluations, without the odd part of the noise.
        seed: names the noise, together with the pair's id.
        logsnr_range: a part of the denoiser's own range.
        batch_size: rows per forward pass of the network, the one memory knob; see `Forwards`.
        keep: ``"pixel"`` keeps maps, ``"level"`` at every level.
        progress: called with the number of noisy variables that are done.

    Raises:
        ValueError: for conditions that do not fit the pairs, or a range that the network does not know.
    """
    callback(progress)
    check_denoiser_type(denoiser)
    if cond is None:
        raise TypeError(
            "cond is None, so that both branches would be the marginal; expected a condition such as {'y': y}"
        )
    check_condition(cond, len(pairs), "cond")
    check_condition(given, len(pairs), "given")
    whole(draws, "draws", 1)
    first, most = (draws, draws) if tolerance is None else (tolerance.least, tolerance.most)
    ends = range_within(denoiser, logsnr_range, quadrature)
    forwards = Forwards(denoiser, pairs.x.shape[1:], device_of(denoiser, pairs.x), batch_size)
    compare = _Comparer(forwards, cond, given, keep != "pair")
    copies = 2 if antithetic else 1
    size = max(1, 4 * forwards.rows // (quadrature.nodes * first * copies))
    curves: list[Curve] = []
    for block in blocks(denoiser, pairs, quadrature, most, seed, *ends, size):
        tally = _Tally(block, quadrature, copies, sum(denoiser.counted), progress)
        more = torch.full((len(block.pairs),), first)
        while bool(more.any()):
            todo = [
                range(drawn, drawn + added) for drawn, added in zip(tally.drawn.tolist(), more.tolist(), strict=True)
            ]
            waiting: _Seen | None = None
            for batch in block.batches(todo, antithetic, seed, max(1, forwards.rows // 2), forwards.device):
                # The noise of this batch was made while the device worked on the one before.
                tally.add(waiting)
                waiting = compare(block, batch)
            tally.add(waiting)
            tally.drawn += more
            curve = tally.curve(ends)
            more = torch.zeros_like(more)
            if tolerance is not None:
                more = tolerance.more(noise_error(curve, integrand), tally.drawn)
        curves.append(replace(curve, maps=tally.kept(curve, keep)))
    return Curve.merge(curves)
