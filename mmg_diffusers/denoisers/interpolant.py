"""A noising of one's own: any signal and noise along a time, for networks whose convention has no name here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmg_diffusers.denoisers.conventions import Convention


@dataclass(frozen=True)
class Interpolant(Convention):
    """Any noising of one's own, signal(t) x + noise(t) eps at a continuous time t, which may run either way.

    A network that is trained on ``t * x + (1 - t) * eps`` and predicts x::

        Interpolant("sample", signal=lambda t: t, noise=lambda t: 1 - t, times=(1e-3, 1 - 1e-3))

    Args:
        prediction: what the network predicts.
        signal, noise: scales at times `(B,)` float64, as the network is told them; both positive within `times`.
        times: first and last time of training, in either order.

    Raises:
        ValueError: unless log-SNR is finite and runs one way between the two times.
    """

    signal: Callable[[Tensor], Tensor]
    noise: Callable[[Tensor], Tensor]
    times: tuple[float, float] = (1e-3, 1 - 1e-3)

    def __post_init__(self) -> None:
        super().__post_init__()
        grid = torch.linspace(*self.times, 1001, dtype=torch.float64)
        step = self._logsnr(grid).diff()
        if not bool(((step > 0).all() | (step < 0).all()) & step.isfinite().all()):
            raise ValueError(
                f"log-SNR is not finite and monotone between the times {self.times}; leave out times without signal or "
                "without noise, and check that the scales are positive"
            )

    def _logsnr(self, time: Tensor) -> Tensor:
        return 2 * torch.log(self.signal(time) / self.noise(time))

    def _time(self, logsnr: Tensor) -> Tensor:
        """The time of a level, by bisection to the last digits."""
        logsnr = logsnr.double()
        ends = torch.tensor(self.times, dtype=torch.float64, device=logsnr.device)
        noisy, clean = (ends[k].expand(logsnr.shape) for k in self._logsnr(ends).argsort().tolist())
        for _ in range(60):
            middle = (noisy + clean) / 2
            below = self._logsnr(middle) < logsnr
            noisy, clean = torch.where(below, middle, noisy), torch.where(below, clean, middle)
        return (noisy + clean) / 2

    @property
    def logsnr_range(self) -> tuple[float, float]:
        low, high = sorted(self._logsnr(torch.tensor(self.times, dtype=torch.float64)).tolist())
        return low, high

    def snap(self, logsnr: Tensor) -> Tensor:
        return logsnr.double().clamp(*self.logsnr_range)

    def c_in(self, logsnr: Tensor) -> Tensor:
        time = self._time(logsnr)
        return (self.signal(time) ** 2 + self.noise(time) ** 2).sqrt()

    def c_noise(self, logsnr: Tensor) -> Tensor:
        return self._time(logsnr)

    def at_timestep(self, timestep: Tensor) -> Tensor:
        return self._logsnr(timestep.double())
