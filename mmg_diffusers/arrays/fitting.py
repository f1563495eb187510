"""How a network over named variables is trained: paired branches, antithetic noise, levels where the gap is."""

from __future__ import annotations

import copy
import math
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmg_diffusers.arrays.base import MultiDenoiser, Roles
from mmg_diffusers.arrays.checkpoints import Origin, Tensors, cosine_rate, load_checkpoint, save_checkpoint
from mmg_diffusers.arrays.losses import (
    Levels,
    crossed,
    held_out_loss,
    held_out_losses,
    listed,
    losses,
    paired,
    shown_of,
)
from mmg_diffusers.arrays.networks import VectorNetwork
from mmg_diffusers.arrays.seeds import step_generator
from mmg_diffusers.arrays.turns import still_gains
from mmg_diffusers.arrays.workers import Part
from mmg_diffusers.checks import finite, whole
from mmg_diffusers.files.identity import Identity

__all__ = ["Fit", "FitSettings", "Fitter", "Levels", "crossed", "fit", "held_out_loss", "losses", "paired"]


# Pairs from which decay is as light as many pairs allow, and those up to which it is thirty times as strong.
ENOUGH, FEW = 50_000, 7_000
# Gains of the last round, in nats and as a share of what was found, from which it is said that training was cut short.
GAINING, GAINING_SHARE = 0.01, 0.05


@dataclass(frozen=True)
class FitSettings:
    """How long and how hard to train; `for_data` chooses by what is known of the data, never by their name.

    Training goes in rounds, each twice as long as the one before and with a learning rate that falls to 0.

    Args:
        steps: of the optimizer, at most.
        pilot: steps of the first round.
        least_gain: a second round follows if the first gained at least this, in nats of held-out loss; wide data start
            slowly.
        least_more: further rounds follow if the round before gained at least this; the next one gains about half.
        batch: pairs a step; each is seen with eps and -eps and in every assignment of roles.
        lr, weight_decay, warmup: AdamW; the rate falls to 0 along a cosine in every round.
        uniform: share of levels drawn evenly; the others where the branches differ.
        save_every: steps between checkpoints.
        waves: Fourier features of ranks that the network gets, for what repeats or is cut into cells.
        least: information in nats that a cheap reading has shown: as long as held-out pairs tell less, by more than chance,
            rounds follow whatever the last one gained.

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
    waves: int = 0
    least: float = 0.0

    def __post_init__(self) -> None:
        # As Python's own numbers, which JSON can hold.
        for name in ("steps", "pilot", "batch", "warmup", "save_every"):
            object.__setattr__(self, name, whole(getattr(self, name), name, 1))
        object.__setattr__(self, "waves", whole(self.waves, "waves", 0))
        for name in ("least_gain", "least_more", "least", "lr", "weight_decay", "uniform"):
            object.__setattr__(self, name, finite(getattr(self, name), name))
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
    def for_size(coordinates: int, pairs: int | None = None, **changes: Any) -> FitSettings:
        """Choose settings for so many coordinates in all: wide data get more decay, few pairs a short first round."""
        share = min(1.0, max(0.0, (coordinates - 12) / 24))
        chosen: dict[str, Any] = {"weight_decay": 0.01 * 10**share}
        if pairs is not None and pairs < ENOUGH:
            # Each pair some twenty times: few pairs are over-fitted before a round of full length has ended.
            chosen["pilot"] = min(500, max(60, 20 * pairs // 512))
            # Their rounds are cheap, and gain slowly.
            chosen["least_more"] = 0.005
            # By held-out loss: 5 x 5 from 1,400 pairs, 3 x 3 from 7,000. A pair of columns has little to over-fit.
            if coordinates > 2:
                few = min(1.0, math.log(ENOUGH / pairs) / math.log(ENOUGH / FEW))
                chosen["weight_decay"] = max(chosen["weight_decay"], 0.01 * 30**few)
        return FitSettings(**{**chosen, **changes})


@dataclass
class Fit:
    """A finished training: what it took, and what it reached, in nats of held-out loss: in all, and by round (or look).

    `turned` is what each round of turning the variables had gained before, if they were.
    """

    network: MultiDenoiser
    steps: int
    seconds: float
    gained: float
    settled: bool
    rounds: tuple[float, ...]
    turned: tuple[float, ...] = ()

    @property
    def last_gain(self) -> float:
        """What the last round gained, of the training or of turning the variables, whichever is more; 0 at the least."""
        return max(0.0, *self.rounds[-1:], *self.turned[-1:])

    def unfinished(self, settings: FitSettings, nats: float) -> str | None:
        """What to say of a training that was cut short, since its last round still gained; ``None`` if it was not.

        Args:
            settings: that it was made with.
            nats: what was found.
        """
        gain, share = self.last_gain, GAINING_SHARE * abs(nats)
        ended = self.steps < settings.steps and not still_gains(self.turned, nats)
        if gain <= min(GAINING, max(share, settings.least_gain)) or (ended and gain <= share):
            return None
        return (
            f"the last round of training still gained {gain:.3f} nats: it was cut short; pass "
            f"settings=FitSettings(steps={2 * settings.steps}) or more pairs"
        )


class Fitter:
    """Trains a stack of networks on the training part of pairs.

    Args:
        network: a stack of E members.
        data: `(E, N, d)` or `(N, d)` tensors by name; what every member is trained on.
        assignments: roles to train, all at the same noise.
        settings: how.
        seed: of batches, levels and noise.
        checkpoint: file to go on from, and to write to.
        origin: what the data are, by name, in what JSON can hold: a checkpoint that states another is refused. By default
            the `Identity` of `data`.
        part: which members of a larger stack the network's are, the others being trained in other processes.

    Raises:
        ValueError: for a checkpoint that is broken, or of other settings, data or another network.
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
        origin: Mapping[str, Any] | None = None,
        part: Part | None = None,
    ) -> None:
        self.part = part or Part.whole(network.members)
        self.network, self.assignments, self.settings = network, tuple(assignments), settings
        self.seed = whole(seed, "seed", 0)
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
        if checkpoint is not None:
            self.origin = Origin(
                {
                    "settings": asdict(settings),
                    "seed": self.seed,
                    "count": self.count,
                    "logsnr_range": list(network.logsnr_range),
                    "assignments": listed(self.assignments),
                    **({"data": str(Identity.of(data))} if origin is None else origin),
                },
                shown_of(network, self.data),
            )
            if checkpoint.exists():
                self._resume(checkpoint)

    def _resume(self, path: Path) -> None:
        levels, best = Tensors({"gap": self.levels.gap}), Tensors(self.best)
        modules = {"network": self.network, "levels": levels, "best": best}
        state = load_checkpoint(path, modules, self.optimizer, self.origin)
        self.levels.gap, self.best = levels.values["gap"], best.values
        self.step, self.seconds, self.gains = state["step"], state["seconds"], state["gains"]

    def save(self) -> None:
        """Write the checkpoint, if there is one."""
        if self.checkpoint is not None:
            state = {"step": self.step, "seconds": self.seconds, "gains": self.gains}
            modules = {
                "network": self.network,
                "levels": Tensors({"gap": self.levels.gap}),
                "best": Tensors(self.best),
            }
            save_checkpoint(self.checkpoint, modules, self.optimizer, state, self.origin)

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
        generator = step_generator(self.seed, self.step)
        size = settings.batch
        rows = torch.randint(self.count, (size,), generator=generator)
        batch = {name: values[:, rows].repeat(1, 2, 1) for name, values in self.data.items()}
        logsnr = self.levels.draw(size, generator).repeat(2).expand(network.members, -1)
        eps: dict[str, Tensor] = {}
        for name, values in batch.items():
            half = self.part.noise(size, values.shape[-1], generator)
            eps[name] = torch.cat([half, -half], 1)
        errors, differ = losses(network, batch, self.assignments, logsnr, eps)
        # Members do not share weights, so the sum over them trains each as if alone.
        errors.mean((0, 2)).sum().backward()
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.levels.see(logsnr[0], self.part.all(differ).mean(0))
        self.step += 1

    def _rate(self) -> float:
        ends = (0, *self.settings.rounds)
        number = bisect_right(ends, min(self.step, self.settings.steps - 1)) - 1
        done, length = self.step - ends[number], ends[number + 1] - ends[number]
        return cosine_rate(self.settings.lr, done, length, self.settings.warmup)


def _held_out(network: VectorNetwork, data: Mapping[str, Tensor], assignments: Sequence[Roles], part: Part) -> Tensor:
    """`held_out_losses` of all members, wherever they are trained."""
    return part.all(held_out_losses(network, data, assignments).expand(network.members, -1)).mean(0)


def _told(network: VectorNetwork, data: Mapping[str, Tensor], assignments: Sequence[Roles], part: Part) -> float:
    """What held-out pairs tell of the information between the first assignment and the second, in nats."""
    apart = _held_out(network, data, assignments, part)
    return float(apart[0] - apart[1])


def _stacked(values: Tensor, members: int) -> Tensor:
    values = values.float()
    return values if values.ndim == 3 else values.expand(members, *values.shape)


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
    origin: Mapping[str, Any] | None = None,
    part: Part | None = None,
) -> Fit:
    """Train round by round, as long as held-out pairs gain; ends with the weights of the best round.

    Args:
        network: a stack, as it was made: its start is the Gaussian law's exact denoiser.
        data: training part, `(N, d)` or `(E, N, d)` by name.
        held_out: other pairs, for the decision to go on; they fit nothing.
        assignments: roles to train.
        settings, seed, checkpoint: as in `Fitter`.
        progress: called with the steps done.
        origin: as in `Fitter`; by default the `Identity` of `data` and that of `held_out`.
        part: as in `Fitter`. All processes end their rounds together.

    Raises:
        ValueError: as `Fitter` does.
    """
    if origin is None and checkpoint is not None:
        origin = {"data": str(Identity.of(data)), "held_out": str(Identity.of(held_out))}
    few = {name: _stacked(values[..., :4000, :], network.members) for name, values in held_out.items()}
    # A checkpoint that is refused is refused before a network runs, and one that is taken replaces what it was made with.
    fresh = copy.deepcopy(network)
    part = part or Part.whole(network.members)
    fitter = Fitter(network, data, assignments, settings, seed=seed, checkpoint=checkpoint, origin=origin, part=part)
    start = float(_held_out(fresh, few, assignments, part).mean())
    chance = 2 / next(iter(few.values())).shape[1] ** 0.5
    for number, end in enumerate(settings.rounds):
        if number < len(fitter.gains):
            continue  # a round that ended before the checkpoint
        reached = sum(max(gain, 0.0) for gain in fitter.gains)
        slow = number and fitter.gains[-1] < (settings.least_gain if number == 1 else settings.least_more)
        if slow and (not settings.least or _told(network, few, assignments, part) > settings.least - chance):
            break
        fitter.run(end, progress)
        fitter.gains.append(start - float(_held_out(network, few, assignments, part).mean()) - reached)
        if fitter.gains[-1] > 0:
            fitter.best = {key: value.clone() for key, value in network.state_dict().items()}
        fitter.save()
    network.load_state_dict(fitter.best)
    gained = sum(max(gain, 0.0) for gain in fitter.gains)
    return Fit(network, fitter.step, fitter.seconds, gained, fitter.levels.settled, tuple(fitter.gains))
