"""Fitting a control: how much of the reference's error to take off a network's, seen on other data."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mmg_diffusers.checks import of_type, whole
from mmg_diffusers.denoisers.base import Condition, Denoiser, TwoDenoisers, check_denoiser_type
from mmg_diffusers.denoisers.references import GaussianReference
from mmg_diffusers.measure.batches import Pairs
from mmg_diffusers.measure.control import Control
from mmg_diffusers.measure.curve import measure_curve
from mmg_diffusers.measure.quadrature import StratifiedUniform

# Streams of noise that no measurement with a seed below it has.
_APART = 2**40


def fit_control(
    denoiser: Denoiser,
    x: Tensor,
    cond: Condition | None = None,
    *,
    reference: GaussianReference,
    bands: int = 16,
    levels: int = 8,
    seed: int = 0,
    logsnr_range: tuple[float, float] | None = None,
    batch_size: int | None = None,
) -> Control:
    """Fit the coefficient of the reference's error, band by band, that leaves the least noise in the network's.

    The error of a reference has a known mean given x; what is seen of it beyond that is noise, which the network's error
    shares in part: the regression of one on the other. The value of a density does not change by it, in the mean over noise.

    Args:
        denoiser: the network.
        x: `(N, *event)`: other data than those that will be measured, 32 or more; noise is drawn apart from theirs.
        cond: N rows; ``None``: the marginal.
        reference: the one of the density.
        bands: equal parts of the range, each with a coefficient at its middle.
        levels: in each band, where each x is seen.
        seed, logsnr_range, batch_size: as in `Density`; the range is the one that will be measured.

    Raises:
        TypeError, ValueError: as `Density` does.
    """
    check_denoiser_type(denoiser)
    of_type(reference, GaussianReference, "reference", "one such as GaussianReference.fit(other_x)")
    pairs = Pairs.of(x)
    reference.check_event(tuple(x.shape[1:]))
    whole(bands, "bands", 1)
    whole(levels, "levels", 1)
    curve = measure_curve(
        TwoDenoisers(reference, denoiser),
        pairs,
        {} if cond is None else cond,
        quadrature=StratifiedUniform(max(2, bands * levels)),
        integrand="gap",
        seed=whole(seed, "seed", 0) + _APART,
        logsnr_range=logsnr_range,
        batch_size=batch_size,
    )
    of_network, logsnr = curve.error[:, 0], curve.logsnr[:, 0]
    of_reference = curve.gap[:, 0] + of_network
    known = torch.cat([reference.error(pairs.x[k : k + 1], logsnr[k]) for k in range(len(pairs))])
    noise = of_reference - known
    low, high = curve.logsnr_range
    edges = np.linspace(low, high, bands + 1)
    band = torch.from_numpy(np.searchsorted(edges[1:-1], logsnr.numpy()))
    shares = [_slope(*(values[band == k] for values in (noise, known, of_network))) for k in range(bands)]
    return Control(tuple(((edges[1:] + edges[:-1]) / 2).tolist()), tuple(shares))


def _slope(noise: Tensor, known: Tensor, error: Tensor) -> float:
    """The coefficient of the noise in the regression of an error on it, on what is known, and on a constant.

    What is known stands for how the mean of the error goes with x and the level.
    """
    if len(noise) < 4:
        return 1.0
    columns = torch.stack([noise, known, torch.ones_like(noise)], 1)
    return float(torch.linalg.lstsq(columns, error[:, None], driver="gelsd").solution[0])
