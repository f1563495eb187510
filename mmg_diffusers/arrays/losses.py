"""What is trained: the squared errors of all assignments of roles, and where on the log-SNR axis they are looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmg_diffusers.arrays.base import GaussianStart, MultiDenoiser, Roles, levels_on
from mmg_diffusers.arrays.seeds import generator_of

BINS = 40
# If the last bin holds more than this share of the largest one, the range ends too early.
UNSETTLED = 0.05
# Examples that a checkpoint keeps, to show how the data were made ready.
_SHOWN = 4


@dataclass
class Levels:
    """Where to train on the log-SNR axis: some evenly, most where the branches are seen to differ."""

    low: float
    high: float
    uniform: float
    gap: Tensor = field(default_factory=lambda: torch.ones(BINS))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw `(count,)` float64 levels, stratified, in random order."""
        even = (torch.arange(count) + torch.rand(count, generator=generator)) / count
        where = self.gap.sqrt() + 1e-12
        mass = self.uniform / BINS + (1 - self.uniform) * where / where.sum()
        edges = torch.cat([torch.zeros(1), mass.cumsum(0)])
        edges = edges / edges[-1]
        bin_ = torch.searchsorted(edges, even, right=True).clamp(1, BINS) - 1
        share = (even - edges[bin_]) / (edges[bin_ + 1] - edges[bin_])
        level = self.low + (self.high - self.low) * (bin_ + share.clamp(0, 1)).double() / BINS
        return level[torch.randperm(count, generator=generator)]

    def weight(self, logsnr: Tensor) -> Tensor:
        """What the noise's squared error counts at levels, `(B,)`: the same at all of them."""
        return torch.ones_like(logsnr)

    @property
    def settled(self) -> bool:
        """Whether the branches agree at the clean end, so that no information is seen to lie beyond."""
        return float(self.gap[-1]) < UNSETTLED * float(self.gap.max())

    def see(self, logsnr: Tensor, gap: Tensor) -> None:
        """Take note of squared differences of the branches, `(B,)` each."""
        bin_ = ((logsnr - self.low) / (self.high - self.low) * BINS).long().clamp(0, BINS - 1)
        seen = torch.zeros(BINS).index_add_(0, bin_, torch.ones_like(gap))
        total = torch.zeros(BINS).index_add_(0, bin_, gap)
        fresh = total / seen.clamp(min=1)
        self.gap = torch.where(seen > 0, 0.97 * self.gap + 0.03 * fresh, self.gap)


def paired(diffused: str, given: Sequence[str], base: Sequence[str] = ()) -> tuple[Roles, ...]:
    """Name the two branches of a mutual information I(diffused; given | base)."""
    return Roles((diffused,), tuple(base)), Roles((diffused,), (*base, *given))


def crossed(first: str, second: str) -> tuple[Roles, ...]:
    """Name the three branches of MINDE-J."""
    return Roles((first, second), ()), Roles((first,), (second,)), Roles((second,), (first,))


def losses(
    network: MultiDenoiser,
    data: Mapping[str, Tensor],
    assignments: Sequence[Roles],
    logsnr: Tensor,
    eps: Mapping[str, Tensor],
) -> tuple[Tensor, Tensor]:
    """Compute squared errors of all assignments at one shared noise, and how far their predictions of a variable differ.

    Args:
        network: over variables of any shape; of a stack, E members at once.
        data: `(B, *shape)` each, or `(E, B, d)` for a stack. Fewer rows than there are levels are repeated.
        assignments: what to predict from what.
        logsnr: `(B,)` or `(E, B)` float64.
        eps: noise of every variable that is diffused, of the size of one value for every level.

    Returns:
        `(A, B)` or `(A, E, B)` errors, summed over coordinates, and `(B,)` or `(E, B)` squared differences.
    """
    return network.losses(data, assignments, logsnr, eps)


def listed(assignments: Sequence[Roles]) -> list[list[list[str]]]:
    """Write roles as JSON can hold them."""
    return [[list(names) for names in roles] for roles in assignments]


def shown_of(network: MultiDenoiser, data: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Choose what a checkpoint keeps of the data as the network is given them: some examples, and their covariance.

    Args:
        network: its covariance, if it starts from one.
        data: `(N, *shape)` or `(E, N, d)` by name.
    """
    axes = {name: data[name].ndim - 1 - len(network.shapes[name]) for name in data}
    shown = {name: x.narrow(axes[name], 0, min(_SHOWN, x.shape[axes[name]])).cpu() for name, x in data.items()}
    law = {"covariance": network.covariance} if isinstance(network, GaussianStart) else {}
    return {**shown, **law}


def held_out_loss(
    network: MultiDenoiser, data: Mapping[str, Tensor], assignments: Sequence[Roles], seed: int = 0, levels: int = 8
) -> float:
    """Measure the held-out denoising error in nats: the mean of `held_out_losses`."""
    return float(held_out_losses(network, data, assignments, seed, levels).mean())


@torch.no_grad()
def held_out_losses(
    network: MultiDenoiser, data: Mapping[str, Tensor], assignments: Sequence[Roles], seed: int = 0, levels: int = 8
) -> Tensor:
    """Measure the held-out denoising error of every assignment in nats: half the integral over log-SNR, `(A,)` float64.

    Of the two assignments of a mutual information the first less the second is what held-out pairs tell of it.

    Twice antithetic noise at stratified levels that are the same at every call, so that calls can be compared; `data` is
    shaped as in `losses`, and all members of a stack see the same noise.
    """
    generator = generator_of(seed)
    # Without the axis of members, if there is one.
    rows = {name: values.shape[values.ndim - 1 - len(network.shapes[name]) :] for name, values in data.items()}
    some = next(iter(data))
    count, axes = rows[some][0], data[some].shape[: data[some].ndim - len(network.shapes[some])]
    low, high = network.logsnr_range
    total = torch.zeros(len(assignments), dtype=torch.float64)
    for k in range(levels):
        level = low + (high - low) * (k + torch.rand(count, generator=generator, dtype=torch.float64)) / levels
        level = levels_on(network.snap(level), data[some].device)
        eps = {name: torch.randn(rows[name], generator=generator).to(data[name]).expand_as(data[name]) for name in data}
        for sign in (1, -1):
            signed = {name: sign * noise for name, noise in eps.items()}
            errors, _ = losses(network, data, assignments, level.expand(axes), signed)
            total += errors.flatten(1).mean(1).double().cpu() / (2 * levels)
    return total * (high - low) / 2
