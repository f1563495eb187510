"""How a network over named variables is trained: paired branches, antithetic noise, levels where the gap is."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmg_diffusers.arrays.checkpoints import (
    Tensors,
    check_same,
    cosine_rate,
    load_checkpoint,
    save_checkpoint,
)
from mmg_diffusers.arrays.networks import MultiDenoiser, Roles, VectorNetwork
from mmg_diffusers.checks import finite, whole
from mmg_diffusers.denoisers.levels import add_noise

BINS = 40
# Where the last bin holds more than this share of the largest one, the range ends too early.
UNSETTLED = 0.05


@dataclass(frozen=True)
class FitSettings:
    """How long and how hard to train; `for_data` chooses by what is known of the data, never by their name.

    Training goes in rounds, each twice as long as the one before and with a learning rate that falls to 0.

    Args:
        steps: of the optimizer, at most.
        pilot: steps of the first round.
        least_gain: a second round follows where the first gained at least this, in nats of held-out loss; wide data start
            slowly.
        least_more: further rounds follow where the round before gained at least this; the next one gains about half.
        batch: pairs a step; each is seen with eps and -eps and in every assignment of roles.
        lr, weight_decay, warmup: AdamW; the rate falls to 0 along a cosine in every round.
        uniform: share of levels drawn evenly; the others where the branches differ.
        save_every: steps between checkpoints.

    Raises:
        TypeError, ValueError: for counts that are not whole and at least 1, and rates and shares out of their range.
    """

    steps: int = 3500
    pilot: int = 500
    least_gain: float = 0.003
    least_more: float = 0.01
    batch: int = 512
    lr: float = 3e-3
    weight_decay: float = 0.01
    warmup: int = 100
    uniform: float = 0.3
    save_every: int = 1000

    def __post_init__(self) -> None:
        for name in ("steps", "pilot", "batch", "warmup", "save_every"):
            whole(getattr(self, name), name, 1)
        for name in ("least_gain", "least_more", "lr", "weight_decay", "uniform"):
            finite(getattr(self, name), name)
        if self.lr <= 0 or self.weight_decay < 0 or not 0 < self.uniform <= 1:
            raise ValueError(
                f"lr, weight_decay and uniform are {self.lr}, {self.weight_decay} and {self.uniform}; expected a rate above 0, "
                "a decay of at least 0, and a share above 0 and at most 1"
            )

    @property
    def rounds(self) -> tuple[int, ...]:
        """The steps at which rounds end."""
        ends = [min(self.pilot, self.steps)]
        while ends[-1] < self.steps:
            ends.append(min(ends[-1] + (self.pilot << len(ends)), self.steps))
        return tuple(ends)

    @staticmethod
    def for_size(coordinates: int, **changes: Any) -> FitSettings:
        """Settings for so many coordinates in all: wide data get more decay."""
        share = min(1.0, max(0.0, (coordinates - 12) / 24))
        found = {"weight_decay": 0.01 * 10**share}
        return FitSettings(**{**found, **changes})


@dataclass
class Levels:
    """Where to train on the log-SNR axis: some evenly, most where the branches are seen to differ."""

    low: float
    high: float
    uniform: float
    gap: Tensor = field(default_factory=lambda: torch.ones(BINS))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`(count,)` float64 levels, stratified, in random order."""
        even = (torch.arange(count) + torch.rand(count, generator=generator)) / count
        where = self.gap.sqrt() + 1e-12
        mass = self.uniform / BINS + (1 - self.uniform) * where / where.sum()
        edges = torch.cat([torch.zeros(1), mass.cumsum(0)])
        edges = edges / edges[-1]
        bin_ = torch.searchsorted(edges, even, right=True).clamp(1, BINS) - 1
        share = (even - edges[bin_]) / (edges[bin_ + 1] - edges[bin_])
        level = self.low + (self.high - self.low) * (bin_ + share.clamp(0, 1)).double() / BINS
        return level[torch.randperm(count, generator=generator)]

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
    """The two branches of a mutual information I(diffused; given | base)."""
    return Roles((diffused,), tuple(base)), Roles((diffused,), (*base, *given))


def crossed(first: str, second: str) -> tuple[Roles, ...]:
    """The three branches of MINDE-J."""
    return Roles((first, second), ()), Roles((first,), (second,)), Roles((second,), (first,))


def losses(
    network: MultiDenoiser,
    data: Mapping[str, Tensor],
    assignments: Sequence[Roles],
    logsnr: Tensor,
    eps: Mapping[str, Tensor],
) -> tuple[Tensor, Tensor]:
    """Squared errors of all assignments at one shared noise, and how far their predictions of a variable differ.

    Args:
        network: over variables of any shape; of a stack, E members at once.
        data: `(B, *shape)` each, or `(E, B, d)` for a stack. Fewer rows than there are levels are repeated.
        assignments: what to predict from what.
        logsnr: `(B,)` or `(E, B)` float64.
        eps: noise of every variable that is diffused, of the size of one value for every level.

    Returns:
        `(A, B)` or `(A, E, B)` errors, summed over coordinates, and `(B,)` or `(E, B)` squared differences.
    """
    errors: list[Tensor] = []
    seen: dict[str, Tensor] = {}
    differ: list[Tensor] = []

    def square(difference: Tensor) -> Tensor:
        return difference.square().flatten(logsnr.ndim).sum(-1)

    def repeated(x: Tensor) -> Tensor:
        copies = logsnr.shape[-1] // x.shape[logsnr.ndim - 1]
        return x if copies == 1 else x.repeat(copies, *[1] * (x.ndim - 1))

    for roles in assignments:
        clean = {name: repeated(data[name]) for name in network.shapes if name in roles.diffused}
        noisy = {name: add_noise(x, logsnr, eps[name]) for name, x in clean.items()}
        given = network.read({name: data[name] for name in network.shapes if name in roles.given})
        parts = network(noisy, logsnr, {name: repeated(x) for name, x in given.items()})
        errors.append(sum((square(eps[name] - part) for name, part in parts.items()), torch.zeros(())))
        for name, part in parts.items():
            if name in seen:
                differ.append(square(part.detach() - seen[name]))
            else:
                seen[name] = part.detach()
    return torch.stack(errors), sum(differ, torch.zeros_like(errors[0].detach()))


@dataclass
class Fit:
    """A finished training: what it took, and what it reached, in nats of held-out loss: in all, and by round (or look)."""

    network: MultiDenoiser
    steps: int
    seconds: float
    gained: float
    settled: bool
    rounds: tuple[float, ...]


class Fitter:
    """Trains a stack of networks on the training part of pairs.

    Args:
        network: a stack of E members.
        data: `(E, N, d)` or `(N, d)` tensors by name; what every member is trained on.
        assignments: roles to train, all at the same noise.
        settings: how.
        seed: of batches, levels and noise.
        checkpoint: file to go on from, and to write to.
    """

    def __init__(
        self,
        network: VectorNetwork,
        data: Mapping[str, Tensor],
        assignments: Sequence[Roles],
        settings: FitSettings,
        *,
        seed: int = 0,
        checkpoint: Path | None = None,
    ) -> None:
        self.network, self.assignments, self.settings, self.seed = network, tuple(assignments), settings, seed
        self.data = {name: _stacked(values, network.members) for name, values in data.items()}
        self.count = next(iter(self.data.values())).shape[1]
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.lr, betas=(0.9, 0.99), weight_decay=settings.weight_decay, fused=True
        )
        low, high = network.logsnr_range
        self.levels = Levels(low, high, settings.uniform)
        self.step, self.seconds = 0, 0.0
        # The weights at the end of the best round so far, and what the rounds gained: see `fit`.
        self.best = {key: value.clone() for key, value in network.state_dict().items()}
        self.gains: list[float] = []
        self.checkpoint = checkpoint
        if checkpoint is not None and checkpoint.exists():
            self._resume(checkpoint)

    def _record(self) -> dict[str, Any]:
        return {
            "settings": asdict(self.settings),
            "seed": self.seed,
            "count": self.count,
            "logsnr_range": list(self.network.logsnr_range),
        }

    def _resume(self, path: Path) -> None:
        levels, best = Tensors({"gap": self.levels.gap}), Tensors(self.best)
        state = load_checkpoint(path, {"network": self.network, "levels": levels, "best": best}, self.optimizer)
        check_same(path, state["record"], self._record())
        self.levels.gap, self.best = levels.values["gap"], best.values
        self.step, self.seconds, self.gains = state["step"], state["seconds"], state["gains"]

    def save(self) -> None:
        """Write the checkpoint, where there is one."""
        if self.checkpoint is not None:
            state = {"step": self.step, "seconds": self.seconds, "gains": self.gains, "record": self._record()}
            modules: dict[str, nn.Module] = {
                "network": self.network,
                "levels": Tensors({"gap": self.levels.gap}),
                "best": Tensors(self.best),
            }
            save_checkpoint(self.checkpoint, modules, self.optimizer, state)

    def run(self, until: int, progress: Callable[[int], object] | None = None) -> None:
        """Train up to step `until` of `settings.steps`."""
        began = time.monotonic() - self.seconds
        while self.step < until:
            self._one_step()
            self.seconds = time.monotonic() - began
            if self.step % self.settings.save_every == 0:
                self.save()
            if progress is not None:
                progress(1)

    def _one_step(self) -> None:
        settings, network = self.settings, self.network
        # A function of the seed and the step, so that a resumed run goes on as if it had not been disturbed.
        generator = torch.Generator().manual_seed(((self.seed << 24) + self.step) % 2**63)
        size = settings.batch
        rows = torch.randint(self.count, (size,), generator=generator)
        batch = {name: values[:, rows].repeat(1, 2, 1) for name, values in self.data.items()}
        logsnr = self.levels.draw(size, generator).repeat(2).expand(network.members, -1)
        eps: dict[str, Tensor] = {}
        for name, values in batch.items():
            half = torch.randn((network.members, size, values.shape[-1]), generator=generator)
            eps[name] = torch.cat([half, -half], 1)
        errors, differ = losses(network, batch, self.assignments, logsnr, eps)
        # Members do not share weights, so the sum over them trains each as if alone.
        errors.mean((0, 2)).sum().backward()
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.levels.see(logsnr[0], differ.mean(0))
        self.step += 1

    def _rate(self) -> float:
        ends = (0, *self.settings.rounds)
        number = bisect_right(ends, min(self.step, self.settings.steps - 1)) - 1
        done, length = self.step - ends[number], ends[number + 1] - ends[number]
        return cosine_rate(self.settings.lr, done, length, self.settings.warmup)


def _stacked(values: Tensor, members: int) -> Tensor:
    values = values.float()
    return values if values.ndim == 3 else values.expand(members, *values.shape)


@torch.no_grad()
def held_out_loss(
    network: MultiDenoiser, data: Mapping[str, Tensor], assignments: Sequence[Roles], seed: int = 0, levels: int = 8
) -> float:
    """Held-out denoising error in nats: half the integral over log-SNR of the mean error of all assignments.

    Twice antithetic noise at stratified levels that are the same at every call, so that calls can be compared; `data` is
    shaped as in `losses`, and all members of a stack see the same noise.
    """
    generator = torch.Generator().manual_seed(seed)
    # Without the axis of members, where there is one.
    rows = {name: values.shape[values.ndim - 1 - len(network.shapes[name]) :] for name, values in data.items()}
    some = next(iter(data))
    count, axes = rows[some][0], data[some].shape[: data[some].ndim - len(network.shapes[some])]
    low, high = network.logsnr_range
    total = 0.0
    for k in range(levels):
        level = low + (high - low) * (k + torch.rand(count, generator=generator, dtype=torch.float64)) / levels
        eps = {name: torch.randn(rows[name], generator=generator).to(data[name]).expand_as(data[name]) for name in data}
        for sign in (1, -1):
            signed = {name: sign * noise for name, noise in eps.items()}
            errors, _ = losses(network, data, assignments, level.expand(axes), signed)
            total += float(errors.mean()) / (2 * levels)
    return total * (high - low) / 2


def fit(
    network: VectorNetwork,
    data: Mapping[str, Tensor],
    held_out: Mapping[str, Tensor],
    assignments: Sequence[Roles],
    settings: FitSettings,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Callable[[int], object] | None = None,
) -> Fit:
    """Train round by round, as long as held-out pairs gain; ends with the weights of the best round.

    Args:
        network: a stack, as it was made: its start is the Gaussian law's exact denoiser.
        data: training part, `(N, d)` or `(E, N, d)` by name.
        held_out: other pairs, for the decision to go on; they fit nothing.
        assignments: roles to train.
        settings, seed, checkpoint: as in `Fitter`.
        progress: called with the steps done.
    """
    few = {name: _stacked(values[..., :4000, :], network.members) for name, values in held_out.items()}
    start = held_out_loss(network, few, assignments)
    fitter = Fitter(network, data, assignments, settings, seed=seed, checkpoint=checkpoint)
    for number, end in enumerate(settings.rounds):
        if number < len(fitter.gains):
            continue  # a round that ended before the checkpoint
        reached = sum(max(gain, 0.0) for gain in fitter.gains)
        if number and fitter.gains[-1] < (settings.least_gain if number == 1 else settings.least_more):
            break
        fitter.run(end, progress)
        fitter.gains.append(start - held_out_loss(network, few, assignments) - reached)
        if fitter.gains[-1] > 0:
            fitter.best = {key: value.clone() for key, value in network.state_dict().items()}
        fitter.save()
    network.load_state_dict(fitter.best)
    gained = sum(max(gain, 0.0) for gain in fitter.gains)
    return Fit(network, fitter.step, fitter.seconds, gained, fitter.levels.settled, tuple(fitter.gains))
