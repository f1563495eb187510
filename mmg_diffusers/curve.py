"""The loop over pairs x draws x levels: both branches of a denoiser at the same noisy z."""

from __future__ import annotations

import torch
from torch import Tensor

from mmg_diffusers.batches import (
    Pairs,
    Progress,
    blocks,
    check_condition,
    check_predictions,
    device_of,
    range_within,
    rows_of,
    rows_per_forward,
)
from mmg_diffusers.checks import callback
from mmg_diffusers.denoiser import Condition, Denoiser, check_denoiser_type, same_rows
from mmg_diffusers.quadrature import Quadrature
from mmg_diffusers.result import MOMENTS, Curve, Keep, kept_maps


def per_pixel(square: Tensor) -> Tensor:
    """Sum over channels: `(B, C, *pixels)` to `(B, *pixels)`; a vector's coordinates are its pixels."""
    return square.sum(1) if square.ndim > 2 else square


def moments(eps: Tensor, z: Tensor, base: Tensor, conditional: Tensor) -> dict[str, Tensor]:
    """What every integrand is made of, before the sum over the event: float64, each of the shape of z.

    Differences of squares are formed without their cancellation: of the raw outputs, then in float64.
    """
    difference = (conditional - base).double()
    wrong = (eps - conditional).double()
    orthogonal = difference.square()
    return {
        "gap": orthogonal + 2 * wrong * difference,
        "orthogonal": orthogonal,
        "error": wrong.square(),
        "energy": difference * (conditional.double() + base.double()),
        "along": difference * z.double(),
    }


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
        antithetic: every draw is eps and -eps, averaged: twice the evaluations, without the odd part of the noise.
        seed: names the noise, together with the pair's id.
        logsnr_range: a part of the denoiser's own range.
        batch_size: rows per forward pass of the network, the one memory knob.
        keep: ``"pixel"`` keeps maps, ``"level"`` at every level.
        progress: told how many noisy variables are done.

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
    device = device_of(denoiser, pairs.x)
    low, high = range_within(denoiser, logsnr_range, quadrature)
    rows = rows_per_forward(batch_size, draws, pairs, device)
    copies = 2 if antithetic else 1
    size = max(1, 4 * rows // (quadrature.nodes * draws * copies))
    together = rows >= 2  # both branches in one forward
    curves: list[Curve] = []
    for block in blocks(denoiser, pairs, quadrature, seed, low, high, size):
        shape = (len(block.pairs), draws, block.logsnr.shape[1])
        sums = {name: torch.zeros(shape, dtype=torch.float64) for name in MOMENTS}
        maps: dict[str, Tensor] = {}
        for batch in block.batches(draws, antithetic, seed, max(1, rows // 2), device):
            owner = block.start + batch.where[0]
            y, c = rows_of(cond, owner, device), rows_of(given, owner, device)
            if together:
                base, conditional = denoiser.branches(batch.z, batch.logsnr, [c, y])
            else:
                base, conditional = denoiser(batch.z, batch.logsnr, c), denoiser(batch.z, batch.logsnr, y)
            # One condition in both branches means one prediction; the last bits of a batched product may differ.
            same = torch.as_tensor(same_rows(c, y), device=device)
            base = torch.where(same.view(-1, *(1,) * (base.ndim - 1)), conditional, base)
            for predictions in (base, conditional):
                check_predictions(predictions, batch.z, batch.logsnr)
            for name, value in moments(batch.eps, batch.z, base, conditional).items():
                sums[name].index_put_(batch.where, value.flatten(1).sum(1).cpu() / copies, accumulate=True)
                if keep != "pair" and name in ("gap", "orthogonal"):
                    part = per_pixel(value).cpu() / copies
                    if name not in maps:
                        maps[name] = torch.zeros((*shape, *part.shape[1:]), dtype=torch.float64)
                    maps[name].index_put_(batch.where, part, accumulate=True)
            if progress is not None:
                progress(len(batch.z))
        kept: dict[str, Tensor] = {}
        for name, values in maps.items():
            kept |= kept_maps(name, values, block.weight, quadrature.independent, keep)
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
