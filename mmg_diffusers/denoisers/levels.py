"""The one coordinate of the library: log-SNR, and the variance-preserving noisy variable z.

z = a x + s eps,        a^2 = sigmoid(logsnr),  s^2 = sigmoid(-logsnr).
"""

from __future__ import annotations

import torch
from torch import Tensor


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
