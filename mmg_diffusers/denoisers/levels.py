"""The one coordinate of the library: log-SNR, and the variance-preserving noisy variable z.

z = a x + s eps,        a^2 = sigmoid(logsnr),  s^2 = sigmoid(-logsnr).
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmg_diffusers.checks import two_ends


def signal_and_noise(logsnr: Tensor) -> tuple[Tensor, Tensor]:
    """Scales (a, s) of signal and noise in the variance-preserving z; same shape as `logsnr`."""
    return torch.sigmoid(logsnr).sqrt(), torch.sigmoid(-logsnr).sqrt()


def per_event(level: Tensor, like: Tensor) -> Tensor:
    """Shape a `(B,)` level quantity so that it multiplies a `(B, *event)` batch, in its dtype and device.

    There may be several batch axes.
    """
    return level.to(like.dtype).to(like.device).reshape(*level.shape, *(1,) * (like.ndim - level.ndim))


def reference_gain(logsnr: Tensor, sigma: float) -> Tensor:
    """What z is multiplied by to predict its noise if x is N(0, sigma^2); same shape as `logsnr`."""
    a, s = signal_and_noise(logsnr)
    return s / (a**2 * sigma**2 + s**2)


def add_noise(x: Tensor, logsnr: Tensor, eps: Tensor) -> Tensor:
    """The noisy variable z at levels `(B,)` for a batch `(B, *event)`."""
    a, s = signal_and_noise(logsnr)
    return per_event(a, x) * x + per_event(s, x) * eps


def part_of_range(known: tuple[float, float], asked: tuple[float, float] | None) -> tuple[float, float]:
    """The ends of what is measured: of all that a network knows, or of a part of it that is asked for.

    Raises:
        TypeError, ValueError: for a part that does not rise, or is not within what is known.
    """
    if asked is None:
        return known
    (low, high), asked = known, two_ends(asked, "logsnr_range")
    if not (low - 1e-9 <= asked[0] < asked[1] <= high + 1e-9):
        raise ValueError(
            f"logsnr_range {asked} is not a rising range within [{low:.3f}, {high:.3f}], the levels that this network was trained on"
        )
    return max(low, asked[0]), min(high, asked[1])
