"""How foreign noise conventions and predictions speak of log-SNR, the one coordinate of `mmg_diffusers.denoisers.levels`.

A network was trained with its own scaling of the noisy input, its own name for the level, and its own target. All
targets in use are linear in (x, eps), hence a network output F gives

    eps_hat = c_skip z + c_out F(c_in z; c_noise)

with four numbers per level. They are computed here, in float64, from a scheduler's configuration.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmg_diffusers.checks import finite, shown, whole
from mmg_diffusers.denoisers.levels import signal_and_noise
from mmg_diffusers.denoisers.predictions import OF_DATA, PREDICTIONS


class Coefficients(NamedTuple):
    """``eps_hat = c_skip z + c_out F(c_in z; c_noise)``, one number per level, `(B,)` float64 each."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


@dataclass(frozen=True)
class Convention(ABC):
    """How one family of networks is told about noise, and what it predicts.

    Args:
        prediction: a name in `PREDICTIONS`.

    Raises:
        ValueError: for an unknown prediction.
    """

    prediction: str
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    """Remarks that belong into every result, such as a level that had to be dropped."""

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"unknown prediction {shown(self.prediction)}; expected one of {sorted(PREDICTIONS)}")

    @property
    def told_as(self) -> str:
        """What the network is told of its level, in words."""
        return "the time of its noising"

    @property
    @abstractmethod
    def logsnr_range(self) -> tuple[float, float]:
        """Lowest and highest level that the network was trained on."""

    @abstractmethod
    def snap(self, logsnr: Tensor) -> Tensor:
        """The trained level nearest in log-SNR, any shape, float64."""

    @abstractmethod
    def c_in(self, logsnr: Tensor) -> Tensor:
        """Scale from z to the network's own noisy input."""

    @abstractmethod
    def c_noise(self, logsnr: Tensor) -> Tensor:
        """The level as the network is told it."""

    def timestep(self, logsnr: Tensor) -> Tensor:
        """`c_noise`, continuous between the levels that the network knows: any shape, float64."""
        return self.c_noise(logsnr.double()).double()

    @abstractmethod
    def at_timestep(self, timestep: Tensor) -> Tensor:
        """The log-SNR at a timestep; the inverse of `timestep`."""

    def _ends(self) -> Tensor:
        """Timesteps of the noisy end and of the clean one."""
        return self.timestep(torch.tensor(self.logsnr_range, dtype=torch.float64))

    def tau(self, logsnr: Tensor) -> Tensor:
        """Diffusion time as a share of the whole, 0 at the clean end and 1 at the noisy one; even in the timestep."""
        noisy, clean = self._ends()
        return (self.timestep(logsnr) - clean) / (noisy - clean)

    def at_tau(self, tau: Tensor) -> Tensor:
        """The log-SNR at a diffusion time; the inverse of `tau`.

        Raises:
            ValueError: for a time outside [0, 1].
        """
        tau = torch.as_tensor(tau, dtype=torch.float64)
        outside = tau[~((tau >= 0) & (tau <= 1))]
        if outside.numel():
            raise ValueError(
                f"tau is {float(outside.flatten()[0]):g}; expected a share of the diffusion time between 0, the clean end, "
                "and 1, the noisy one"
            )
        noisy, clean = self._ends()
        return self.at_timestep(clean + tau * (noisy - clean))

    def target(self, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Factors (p, q) of the network's target p x + q eps, at scales (a, s)."""
        return PREDICTIONS[self.prediction](a, s)

    def coefficients(self, logsnr: Tensor) -> Coefficients:
        """The four numbers per level, `(B,)` float64, for levels `(B,)` that are already snapped."""
        logsnr = logsnr.double()
        a, s = signal_and_noise(logsnr)
        p, q = self.target(a, s)
        # F = p x + q eps and z = a x + s eps, solved for eps.
        scale = a * q - s * p
        return Coefficients(-p / scale, a / scale, self.c_in(logsnr), self.c_noise(logsnr))


def _nearest(levels: Tensor, logsnr: Tensor) -> Tensor:
    """Indices into a decreasing table of levels, nearest in log-SNR."""
    levels = levels.to(logsnr.device)
    rising = levels.flip(0)
    right = torch.searchsorted(rising, logsnr.contiguous()).clamp(1, len(rising) - 1)
    left = right - 1
    nearest = torch.where((logsnr - rising[left]).abs() <= (rising[right] - logsnr).abs(), left, right)
    return len(rising) - 1 - nearest


def _interpolate(at: Tensor, rising: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear through (rising, values), constant beyond the ends; any shape, float64."""
    values_there = np.interp(at.cpu().double().numpy(), rising.cpu().double().numpy(), values.cpu().double().numpy())
    return torch.as_tensor(values_there, dtype=torch.float64)


@dataclass(frozen=True)
class DiscreteVP(Convention):
    """DDPM and Stable Diffusion: z itself goes in, the level is the index of a training timestep.

    Args:
        prediction: what the network predicts.
        levels: `(T,)` float64 log-SNR of the timesteps, decreasing and finite.
        timesteps: `(T,)` the indices that the network is told.
    """

    levels: Tensor
    timesteps: Tensor

    @classmethod
    def from_alphas(cls, alphas_cumprod: Tensor, prediction: str) -> DiscreteVP:
        """From a float64 table of ``alphas_cumprod``, `(T,)`. A level without signal is dropped, with a note.

        Raises:
            ValueError: when the table is not decreasing within [0, 1) or comes in less than float64.
        """
        if alphas_cumprod.dtype != torch.float64:
            raise ValueError(
                f"alphas_cumprod is {alphas_cumprod.dtype}; expected float64, since half precision moves log-SNR by "
                "up to 0.4. Compute it from the scheduler's config with `alphas_cumprod_from_config`."
            )
        bad = not bool(((alphas_cumprod >= 0) & (alphas_cumprod < 1)).all()) or bool((alphas_cumprod.diff() >= 0).any())
        if alphas_cumprod.ndim != 1 or len(alphas_cumprod) < 2 or bad:
            raise ValueError("alphas_cumprod must be a decreasing table of at least two values in [0, 1)")
        kept = alphas_cumprod > 1e-12
        notes = tuple(f"timestep {int(t)} has no signal (log-SNR -inf) and was dropped" for t in (~kept).nonzero())
        timesteps = torch.arange(len(alphas_cumprod), device=alphas_cumprod.device)[kept]
        return cls(prediction, torch.logit(alphas_cumprod[kept]), timesteps, notes=notes)

    @property
    def told_as(self) -> str:
        return "the index of a training timestep"

    @property
    def logsnr_range(self) -> tuple[float, float]:
        return float(self.levels[-1]), float(self.levels[0])

    def snap(self, logsnr: Tensor) -> Tensor:
        return self.levels.to(logsnr.device)[_nearest(self.levels, logsnr.double())]

    def c_in(self, logsnr: Tensor) -> Tensor:
        return torch.ones_like(logsnr)

    def c_noise(self, logsnr: Tensor) -> Tensor:
        return self.timesteps.to(logsnr.device)[_nearest(self.levels, logsnr)]

    def timestep(self, logsnr: Tensor) -> Tensor:
        return _interpolate(logsnr, self.levels.flip(0), self.timesteps.flip(0))

    def at_timestep(self, timestep: Tensor) -> Tensor:
        return _interpolate(timestep, self.timesteps, self.levels)


@dataclass(frozen=True)
class Karras(Convention):
    """Karras et al. 2022 (arXiv 2206.00364): y = x + sigma eps goes in, scaled; the level is ln(sigma) / 4.

    Args:
        prediction: ``"edm"`` for the raw network F of the paper's table 1, ``"reversed_edm"`` for -F; ``"sample"`` for a
            denoiser D.
        sigma_min, sigma_max: the range of sigma in training.
        sigma_data: standard deviation of the data that scales the input; ``None`` feeds y unscaled.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    sigma_data: float | None = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < finite(self.sigma_min, "sigma_min") < finite(self.sigma_max, "sigma_max"):
            raise ValueError(f"expected 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}")
        if self.sigma_data is not None and finite(self.sigma_data, "sigma_data") <= 0:
            raise ValueError(f"sigma_data is {self.sigma_data}; expected the standard deviation of the data, above 0")

    @property
    def told_as(self) -> str:
        return "ln(sigma) / 4"

    @property
    def logsnr_range(self) -> tuple[float, float]:
        return -2 * math.log(self.sigma_max), -2 * math.log(self.sigma_min)

    def snap(self, logsnr: Tensor) -> Tensor:
        return logsnr.double().clamp(*self.logsnr_range)

    def c_in(self, logsnr: Tensor) -> Tensor:
        variance = torch.exp(-logsnr)
        to_y = (1 + variance).sqrt()
        return to_y if self.sigma_data is None else to_y / (variance + self.sigma_data**2).sqrt()

    def c_noise(self, logsnr: Tensor) -> Tensor:
        return -logsnr / 8

    def at_timestep(self, timestep: Tensor) -> Tensor:
        return -8 * timestep.double()

    def target(self, a: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        if self.prediction in OF_DATA and self.sigma_data is not None:
            return OF_DATA[self.prediction](a, s, self.sigma_data)
        return super().target(a, s)


Told = Literal["noise", "signal", "unshifted"]
"""Which number of a flow's level a network is told: its share of noise, its share of signal, or the time before the shift."""


@dataclass(frozen=True)
class RectifiedFlow(Convention):
    """Flow matching on (1 - t) x + t eps; the level is t, told as the network expects it.

    Args:
        prediction: usually ``"flow_prediction"``, the velocity eps - x.
        times: `(T,)` float64 training values of t in (0, 1), increasing.
        time_scale: what the told number is multiplied with: 1000 for Stable Diffusion 3, 1 for Flux.
        shift: k of t = k u / (1 + (k - 1) u), which made `times` of an even grid of u.
        told: ``"noise"`` tells t; ``"signal"`` 1 - t (Lumina, Z-Image, Mochi); ``"unshifted"`` u (CogView4).

    Raises:
        ValueError: for another `told`, or a shift that is not positive.
    """

    times: Tensor
    time_scale: float = 1000.0
    shift: float = 1.0
    told: Told = "noise"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.told not in ("noise", "signal", "unshifted"):
            raise ValueError(f"told is {shown(self.told)}; expected 'noise', 'signal' or 'unshifted'")
        if not (finite(self.shift, "shift") > 0 and finite(self.time_scale, "time_scale") > 0):
            raise ValueError(f"expected shift > 0 and time_scale > 0, got {self.shift} and {self.time_scale}")

    @classmethod
    def shifted(
        cls,
        prediction: str = "flow_prediction",
        *,
        shift: float = 1.0,
        steps: int = 1000,
        time_scale: float = 1000.0,
        told: Told = "noise",
    ) -> RectifiedFlow:
        """The table of diffusers' flow-matching schedulers: t = shift u / (1 + (shift - 1) u), u = 1/T, 2/T, ... 1.

        The last level, t = 1, has no signal; it is dropped, with a note.
        """
        whole(steps, "steps", 1)
        if not (finite(shift, "shift") > 0 and finite(time_scale, "time_scale") > 0 and steps > 2):
            raise ValueError(
                f"expected shift > 0, time_scale > 0 and more than 2 steps, got {shift}, {time_scale} and {steps}"
            )
        u = torch.arange(1, steps + 1, dtype=torch.float64) / steps
        times = shift * u / (1 + (shift - 1) * u)
        notes = ("flow time 1 has no signal (log-SNR -inf) and was dropped",)
        return cls(prediction, times[:-1], time_scale, shift, told, notes=notes)

    @property
    def told_as(self) -> str:
        said = {
            "noise": "the share of noise",
            "signal": "the share of signal",
            "unshifted": "the time before its shift",
        }
        return said[self.told] + ("" if self.time_scale == 1 else f", times {self.time_scale:g}")

    @property
    def levels(self) -> Tensor:
        """`(T,)` log-SNR of the training times, decreasing."""
        return 2 * torch.log((1 - self.times) / self.times)

    @property
    def logsnr_range(self) -> tuple[float, float]:
        levels = self.levels
        return float(levels[-1]), float(levels[0])

    def snap(self, logsnr: Tensor) -> Tensor:
        levels = self.levels
        return levels.to(logsnr.device)[_nearest(levels, logsnr.double())]

    def c_in(self, logsnr: Tensor) -> Tensor:
        t = torch.sigmoid(-logsnr / 2)
        return ((1 - t) ** 2 + t**2).sqrt()

    def c_noise(self, logsnr: Tensor) -> Tensor:
        t = torch.sigmoid(-logsnr / 2)
        if self.told == "signal":
            t = torch.sigmoid(logsnr / 2)
        elif self.told == "unshifted":
            t = t / (self.shift - (self.shift - 1) * t)
        return t * self.time_scale

    def at_timestep(self, timestep: Tensor) -> Tensor:
        t = timestep.double() / self.time_scale
        if self.told == "unshifted":
            t = self.shift * t / (1 + (self.shift - 1) * t)
        return (2 if self.told == "signal" else -2) * torch.logit(t)
