"""The exact denoiser of any law that knows its own posterior mean in noise."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from mmg_diffusers.checks import shown
from mmg_diffusers.denoisers.base import Condition, Denoiser
from mmg_diffusers.denoisers.levels import per_event, signal_and_noise


class KnowsPosteriorMean(Protocol):
    """A law such as those of `mmg_diffusers.worlds.densities`, in numpy."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    def posterior_mean(
        self, observed: NDArray[Any], sd: NDArray[Any], label: NDArray[Any] | None = None, /
    ) -> NDArray[Any]:
        """E[x | observed], `(B, *shape)`, for observed = x + sd n with standard normal n; sd and label are `(B,)`."""
        ...


class ExactDenoiser(Denoiser):
    """The exact denoiser of a law that knows its posterior mean; the condition, if the law has labels, is
    ``{"label": (B,) int64}``.

    It computes in float64 on the CPU, wherever its input is. A law of one's own needs a `shape` and a `posterior_mean`.

    Raises:
        TypeError: for a law without these.
        ValueError: by `forward` for a condition without a label, or as the law does.
    """  # fmt: skip

    logsnr_range = (-math.inf, math.inf)

    def __init__(self, law: KnowsPosteriorMean) -> None:
        super().__init__()
        if isinstance(law, type) or not callable(getattr(law, "posterior_mean", None)) or not hasattr(law, "shape"):
            raise TypeError(
                f"the law is {shown(law)}; expected one with a shape and a posterior_mean, such as an Ising"
            )
        self.law = law

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        label = None
        if cond is not None:
            if cond.keys() != {"label"}:
                raise ValueError(f"the condition holds {shown(sorted(cond))}; expected 'label' alone")
            label = cond["label"].cpu().numpy()
        wide = z.detach().cpu().double()
        level = logsnr.detach().cpu().double()
        a, s = (per_event(scale, wide) for scale in signal_and_noise(level))
        mean = self.law.posterior_mean((wide / a).numpy(), torch.exp(-level / 2).numpy(), label)
        eps = (wide - a * torch.as_tensor(mean)) / s
        return eps.to(torch.promote_types(z.dtype, torch.float32)).to(z.device)
