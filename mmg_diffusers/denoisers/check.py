"""Oracles that speak foreign conventions, and a check for denoisers of your own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmg_diffusers.denoisers.base import Adapted, Condition, Denoiser
from mmg_diffusers.denoisers.conventions import Convention, DiscreteVP, Interpolant, Karras, RectifiedFlow
from mmg_diffusers.denoisers.levels import add_noise

# The foreign side is written from the papers' own formulas, not from the library's conversion, so that a
# mistake in one is not repeated in the other. Each returns (z, logsnr) from a network's input and time.
_Reader = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _column(value: Tensor, like: Tensor) -> Tensor:
    return value.to(like.dtype).reshape(-1, *(1,) * (like.ndim - 1))


class ForeignNetwork(nn.Module):
    """An exact denoiser dressed as a network of another convention.

    Call it as such networks are called: ``network(noisy, time, **condition, present=...)``; rows with
    ``present == 0`` are unconditional.

    Args:
        oracle: the exact denoiser.
        convention: which dress; its tables are only read for discrete timesteps.
    """

    def __init__(self, oracle: Denoiser, convention: Convention) -> None:
        super().__init__()
        self.oracle, self.convention = oracle, convention

    def _read(self, noisy: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        convention = self.convention
        if isinstance(convention, DiscreteVP):
            row = (convention.timesteps[None] == time[:, None]).int().argmax(1)
            alpha = torch.sigmoid(convention.levels)[row]
            return noisy, torch.log(alpha / (1 - alpha))
        if isinstance(convention, Karras):
            sigma = torch.exp(4 * time.double())
            known = convention.sigma_data
            y = noisy if known is None else noisy * _column((sigma**2 + known**2).sqrt(), noisy)
            return y / _column((1 + sigma**2).sqrt(), noisy), -2 * sigma.log()
        if isinstance(convention, Interpolant):
            signal, noise = convention.signal(time.double()), convention.noise(time.double())
            return noisy / _column((signal**2 + noise**2).sqrt(), noisy), 2 * (signal / noise).log()
        assert isinstance(convention, RectifiedFlow)
        t = time.double() / convention.time_scale
        match convention.told:
            case "signal":  # Lumina (arXiv 2405.05945): t of t x + (1 - t) eps
                t = 1 - t
            case "unshifted":  # Esser et al. 2024 (arXiv 2403.03206), eq. 23: t_m of t_n, and the latent at t_m
                t = convention.shift * t / (1 + (convention.shift - 1) * t)
        return noisy / _column(((1 - t) ** 2 + t**2).sqrt(), noisy), 2 * torch.log((1 - t) / t)

    def forward(self, noisy: Tensor, time: Tensor, *, present: Tensor, **condition: Tensor) -> Tensor:
        z, logsnr = self._read(noisy, time)
        eps = torch.where(_column(present, z) > 0, self.oracle(z, logsnr, condition), self.oracle(z, logsnr, None))
        snr = logsnr.exp()
        a, s = _column((snr / (1 + snr)).sqrt(), z), _column((1 / (1 + snr)).sqrt(), z)
        x = (z - s * eps) / a
        match self.convention.prediction:
            case "epsilon":
                return eps
            case "sample":
                return x
            case "v_prediction":
                return a * eps - s * x
            case "flow_prediction":
                return eps - x
            case "reversed_flow_prediction":
                return x - eps
        data = getattr(self.convention, "sigma_data", 0.5)
        sigma = s / a
        y = x + sigma * eps
        skip = data**2 / (sigma**2 + data**2)
        raw = (x - skip * y) / (sigma * data / (sigma**2 + data**2).sqrt())
        return -raw if self.convention.prediction == "reversed_edm" else raw


def foreign(oracle: Denoiser, convention: Convention, empty: Condition) -> Adapted:
    """An oracle that is reached through a foreign convention, as pretrained networks are.

    Args:
        oracle: the exact denoiser.
        convention: the convention to speak.
        empty: one row of each condition tensor, of any value: a placeholder where no condition is present.
    """
    network = ForeignNetwork(oracle, convention)
    null = {**empty, "present": torch.zeros(1)}
    return Adapted(network, convention, null=null, dtype=torch.float64)


def present(cond: Condition) -> dict[str, Tensor]:
    """A condition for a `ForeignNetwork`: the same, marked as given."""
    return {**cond, "present": torch.ones(len(next(iter(cond.values()))))}


@dataclass(frozen=True)
class DenoiserCheck:
    """Errors of a denoiser along its range, per dimension: E|eps - e(z)|^2 / d at `logsnr`, `(L,)` each."""

    logsnr: Tensor
    error: Tensor


@torch.inference_mode()
def check_denoiser(denoiser: Denoiser, x: Tensor, cond: Condition, *, seed: int = 0, levels: int = 9) -> DenoiserCheck:
    """Check that a denoiser means by its numbers what this library means.

    Args:
        denoiser: the one to check.
        x: `(N, *event)` variables from the data it was trained on; 16 or more.
        cond: N rows of its condition.

    Raises:
        AssertionError: with what is wrong and what usually causes it: shapes, types, levels that are not fixed by
            `snap`, answers that depend on the batch, a marginal that follows the condition, predictions that are not
            the noise (wrong sign, wrong scale, wrong time).
    """
    low, high = denoiser.logsnr_range
    asked = torch.linspace(max(low, -20.0), min(high, 20.0), levels, dtype=torch.float64)
    grid = denoiser.snap(asked)
    assert grid.dtype == torch.float64, f"snap() must return float64 levels, got {grid.dtype}"
    assert torch.equal(denoiser.snap(grid), grid), "snap() must map its levels to themselves"
    generator = torch.Generator().manual_seed(seed)
    errors = []
    for level in grid:
        logsnr = level.expand(len(x))
        eps = torch.randn(x.shape, generator=generator).to(x)
        z = add_noise(x, logsnr, eps)
        for condition in (cond, None):
            out = denoiser(z, logsnr, condition)
            assert out.shape == x.shape, f"forward returned {tuple(out.shape)} for z of shape {tuple(x.shape)}"
            assert out.dtype == torch.promote_types(z.dtype, torch.float32), f"forward returned {out.dtype}"
            assert bool(out.isfinite().all()), f"forward returned NaN or infinity at log-SNR {float(level):.2f}"
            alone = denoiser(z[:1], logsnr[:1], None if condition is None else {k: v[:1] for k, v in condition.items()})
            assert torch.allclose(alone, out[:1], atol=1e-3), "a row's answer depends on the rest of its batch"
        errors.append(float((denoiser(z, logsnr, None) - eps).square().mean()))
    error = torch.tensor(errors)
    assert error[0] < 0.5, (
        f"at the noisy end (log-SNR {float(grid[0]):.2f}) the unconditional error is {float(error[0]):.2f} per dimension; "
        "near 0 was expected, since z is nearly the noise itself. Is the prediction's sign or type wrong, or time reversed?"
    )
    assert float(error.max()) < 1.5, (
        f"the unconditional error reaches {float(error.max()):.2f} per dimension; predicting 0 gives 1. Is the level told in "
        "the network's own unit, and the input scaled as in training?"
    )
    return DenoiserCheck(grid, error)
