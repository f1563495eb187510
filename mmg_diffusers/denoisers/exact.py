"""Denoisers that are exact: closed forms that every estimate can be held against."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmg_diffusers.checks import of_type, whole
from mmg_diffusers.denoisers.base import Condition, Denoiser
from mmg_diffusers.denoisers.levels import per_event, signal_and_noise
from mmg_diffusers.denoisers.references import GaussianReference

__all__ = ["GaussianDenoiser", "GaussianReference", "MixtureDenoiser"]


class GaussianDenoiser(Denoiser):
    """The exact denoiser of x in a jointly Gaussian pair (x, y).

    Args:
        covariance: `(dx + dy, dx + dy)` joint covariance, positive definite.
        dim_x: dx; the condition is ``{"y": (B, dy)}``.
        mean: `(dx + dy,)`, zeros by default.

    Raises:
        ValueError: when the covariance is not symmetric positive definite, or dim_x leaves nothing for y.
    """

    logsnr_range = (-math.inf, math.inf)
    mean_x: Tensor
    mean_y: Tensor
    gain: Tensor

    def __init__(self, covariance: Tensor, dim_x: int, mean: Tensor | None = None) -> None:
        super().__init__()
        of_type(covariance, Tensor, "covariance", "a square tensor")
        whole(dim_x, "dim_x", 1)
        cov = covariance.double()
        if cov.ndim != 2 or cov.shape[0] != cov.shape[1] or not 0 < dim_x < cov.shape[0]:
            raise ValueError(f"expected a square covariance and 0 < dim_x < its size, got {tuple(cov.shape)}, {dim_x}")
        if not torch.allclose(cov, cov.T) or torch.linalg.eigvalsh(cov)[0] <= 0:
            raise ValueError("the covariance is not symmetric positive definite; its mutual information is undefined")
        mean = torch.zeros(len(cov), dtype=torch.float64) if mean is None else mean.double()
        xx, xy, yy = cov[:dim_x, :dim_x], cov[:dim_x, dim_x:], cov[dim_x:, dim_x:]
        gain = torch.linalg.solve(yy, xy.T).T
        conditional = xx - gain @ xy.T
        self.register_buffer("mean_x", mean[:dim_x])
        self.register_buffer("mean_y", mean[dim_x:])
        self.register_buffer("gain", gain)
        for name, matrix in {"marginal": xx, "conditional": (conditional + conditional.T) / 2}.items():
            values, vectors = torch.linalg.eigh(matrix)
            self.register_buffer(f"{name}_values", values)
            self.register_buffer(f"{name}_vectors", vectors)

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        kind = "marginal" if cond is None else "conditional"
        mean = self.mean_x.expand(len(z), -1)
        if z.shape != mean.shape:
            raise ValueError(f"z has shape {tuple(z.shape)}; expected {tuple(mean.shape)}, the coordinates of x")
        if cond is not None:
            if "y" not in cond or cond["y"].shape != (len(z), len(self.mean_y)):
                held = {name: tuple(value.shape) for name, value in cond.items()}
                raise ValueError(f"the condition holds {held}; expected 'y' of shape {(len(z), len(self.mean_y))}")
            mean = mean + (cond["y"].double() - self.mean_y) @ self.gain.T
        a, s = (scale.to(z.device)[:, None] for scale in signal_and_noise(logsnr.double()))
        values, vectors = self.get_buffer(f"{kind}_values"), self.get_buffer(f"{kind}_vectors")
        # E[eps | z] = s (a^2 S + s^2)^-1 (z - a m), in the eigenbasis of S.
        rotated = (z.double() - a * mean) @ vectors
        return ((s / (a**2 * values + s**2) * rotated) @ vectors.T).to(torch.promote_types(z.dtype, torch.float32))

    def gap(self, logsnr: Tensor) -> Tensor:
        """E|eps - e(z)|^2 - E|eps - e(z, y)|^2 in closed form, any shape."""
        snr = torch.exp(logsnr.double())[..., None]

        def explained(values: Tensor) -> Tensor:
            return (snr * values / (snr * values + 1)).sum(-1)

        return explained(self.get_buffer("marginal_values")) - explained(self.get_buffer("conditional_values"))

    def mutual_information(self, low: float = -math.inf, high: float = math.inf) -> float:
        """I(y; x_high) - I(y; x_low) in nats, where x_l is x seen at log-SNR l; I(x; y) over the whole axis."""

        def information(level: float) -> float:
            if level == -math.inf:
                return 0.0
            total = 0.0
            for name, sign in (("marginal", 1.0), ("conditional", -1.0)):
                values = self.get_buffer(f"{name}_values")
                grown = values.log() if level == math.inf else torch.log1p(math.exp(level) * values)
                total += sign * 0.5 * float(grown.sum())
            return total

        return information(high) - information(low)


class MixtureDenoiser(Denoiser):
    """The exact denoiser of a finite mixture of isotropic Gaussians whose component is a class label.

    Args:
        weights: `(K,)` probabilities.
        means: `(K, *event)`.
        variances: `(K,)`.

    The condition is ``{"label": (B,) int64}``; without it, the component is averaged over its posterior.
    """

    logsnr_range = (-math.inf, math.inf)
    log_weights: Tensor
    means: Tensor
    variances: Tensor

    def __init__(self, weights: Tensor, means: Tensor, variances: Tensor) -> None:
        super().__init__()
        if not (len(weights) == len(means) == len(variances) and (weights > 0).all() and (variances > 0).all()):
            raise ValueError("expected as many positive weights and variances as means")
        if not all(bool(torch.isfinite(values).all()) for values in (weights, means, variances)):
            raise ValueError("the weights, means and variances of a mixture must be finite")
        self.register_buffer("log_weights", (weights.double() / weights.sum()).log())
        self.register_buffer("means", means.double())
        self.register_buffer("variances", variances.double())

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        wide = torch.promote_types(z.dtype, torch.float32)
        logsnr = logsnr.double().to(z.device)
        if cond is not None:
            label = self._label(cond, len(z))
            mean, variance = self.means[label], self.variances[label]
            a, s = (per_event(scale, z.double()) for scale in signal_and_noise(logsnr))
            return (s / (a**2 * per_event(variance, z.double()) + s**2) * (z.double() - a * mean)).to(wide)
        # The mean over the posterior of what each component answers, s / (a^2 v + s^2) (z - a m).
        a, s = (scale[:, None] for scale in signal_and_noise(logsnr))
        gain = self.log_posterior(z, logsnr).exp() * s / (a**2 * self.variances + s**2)
        mean = (a * gain) @ self.means.flatten(1)
        return (gain.sum(1, keepdim=True) * z.double().flatten(1) - mean).view(z.shape).to(wide)

    def _label(self, cond: Condition, rows: int) -> Tensor:
        label, count = cond.get("label"), len(self.means)
        if label is None or label.dtype != torch.int64 or label.shape != (rows,):
            held = {name: (tuple(value.shape), value.dtype) for name, value in cond.items()}
            raise ValueError(f"the condition holds {held}; expected 'label' of shape {(rows,)} and torch.int64")
        if int(label.min()) < 0 or int(label.max()) >= count:
            raise ValueError(f"labels run from {int(label.min())} to {int(label.max())}; expected 0 to {count - 1}")
        return label

    def log_posterior(self, z: Tensor, logsnr: Tensor) -> Tensor:
        """log p(label | z), `(B, K)`."""
        a, s = (scale[:, None] for scale in signal_and_noise(logsnr.double().to(z.device)))
        variance = a**2 * self.variances + s**2
        flat, means = z.double().flatten(1), self.means.flatten(1)
        # Distances about the middle of the means, so that little cancels; no (B, K, d) is made.
        middle = means.mean(0)
        flat, means = flat - a * middle, means - middle
        square = flat.square().sum(1, keepdim=True) - 2 * a * (flat @ means.T) + a**2 * means.square().sum(1)
        return torch.log_softmax(
            self.log_weights - square / (2 * variance) - flat.shape[-1] / 2 * variance.log(), dim=-1
        )
