"""Training over any source of examples, on one process or on many through accelerate.

`fitting` is the quick recipe for vectors in memory, in one process. This is the general one: a network over variables of
any shape, examples that may be drawn anew at every step, averaged weights, and an end where held-out loss no longer falls.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from mmg_diffusers.arrays.base import MultiDenoiser, Roles, levels_on
from mmg_diffusers.arrays.checkpoints import Origin, Tensors, cosine_rate, load_checkpoint, save_checkpoint
from mmg_diffusers.arrays.fitting import Fit
from mmg_diffusers.arrays.losses import Levels, held_out_loss, listed, losses, shown_of
from mmg_diffusers.arrays.seeds import generator_of, step_generator
from mmg_diffusers.checks import finite, shown, somebody_looks, whole
from mmg_diffusers.files.identity import Identity
from mmg_diffusers.files.resumed import tell
from mmg_diffusers.runs.processes import leave_at_exit, only_cpus

Weighting = Literal["eps", "v"]
Objective = Literal["epsilon", "likelihood"]
Source = Callable[[int, torch.Generator], Mapping[str, Tensor]]
"""Draws so many examples, `(B, *shape)` of every variable, from the generator's numbers alone.

One that has an `identity()` says by it what it draws from; of any other, what it draws first stands for the rest.
"""


@dataclass(frozen=True)
class Rows:
    """A source that draws with replacement from arrays of one length, `(N, *shape)` each; `rows_of` makes one."""

    data: Mapping[str, Tensor]

    def __call__(self, size: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw so many examples."""
        rows = torch.randint(len(next(iter(self.data.values()))), (size,), generator=generator)
        return {name: values[rows] for name, values in self.data.items()}

    def identity(self) -> Identity:
        """Digest all of the arrays."""
        return Identity.of(self.data)


def rows_of(data: Mapping[str, Tensor]) -> Rows:
    """Draw examples with replacement from arrays of one length, `(N, *shape)` each."""
    return Rows(data)


def join_processes() -> Accelerator:
    """Join the processes that a launcher started, on this one's device."""
    leave_at_exit()
    return Accelerator(cpu=only_cpus())


@dataclass(frozen=True)
class TrainSettings:
    """How long and how hard to train.

    Args:
        steps: of the optimizer, at most.
        batch: examples a step and process.
        draws: levels at which each of them is seen, with eps and -eps and in every assignment of roles.
        lr, weight_decay, warmup: AdamW; the rate falls to 0 along a cosine.
        clip: greatest norm of the gradient.
        uniform: share of levels drawn evenly; the others where the branches differ.
        weighting: whose squared error is minimised, that of the noise, "eps", or of the velocity, "v" (Salimans and Ho
            2022, arXiv 2202.00512, section 4), which is 1 + 1/SNR times as much: what a condition tells of a variable
            that is drowned in noise counts no less than at other levels. The minimum is the same.
        objective: ``"epsilon"``: levels as `uniform` says, weighted as `weighting` says; ``"likelihood"``: what -log p(x) is the
            integral of (arXiv 2302.03792), levels even in log-SNR, one in each of as many strata as a step has levels, and the
            noise's squared error as it is.
        average: decay of the running mean of the weights, which is what is kept.
        check_every: steps between looks at the held-out loss, each followed by a checkpoint.
        patience: looks without a better loss after which training ends.

    Raises:
        TypeError, ValueError: for counts below 1, or rates and shares out of their range.
    """

    steps: int = 3000
    batch: int = 64
    draws: int = 1
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 100
    clip: float = 1.0
    uniform: float = 0.3
    weighting: Weighting = "eps"
    objective: Objective = "epsilon"
    average: float = 0.999
    check_every: int = 250
    patience: int = 8

    def __post_init__(self) -> None:
        # As Python's own numbers, which JSON can hold.
        for name in ("steps", "batch", "draws", "warmup", "check_every", "patience"):
            object.__setattr__(self, name, whole(getattr(self, name), name, 1))
        if self.weighting not in get_args(Weighting):
            raise ValueError(f"weighting is {shown(self.weighting)}; expected one of {', '.join(get_args(Weighting))}")
        if self.objective not in get_args(Objective):
            raise ValueError(f"objective is {shown(self.objective)}; expected one of {', '.join(get_args(Objective))}")
        if self.objective == "likelihood" and self.weighting != "eps":
            raise ValueError(
                f"weighting is {shown(self.weighting)} and objective 'likelihood', which weighs nothing; leave it at 'eps'"
            )
        for name in ("lr", "weight_decay", "clip", "uniform", "average"):
            object.__setattr__(self, name, finite(getattr(self, name), name))
        if not (0 < self.uniform <= 1 and 0 <= self.average < 1 and self.lr > 0 and self.clip > 0 <= self.weight_decay):
            raise ValueError(
                f"uniform, average, lr, clip and weight_decay are {self.uniform}, {self.average}, {self.lr}, {self.clip} and "
                f"{self.weight_decay}; expected uniform in (0, 1], average in [0, 1), lr and clip above 0, and weight_decay "
                "of at least 0"
            )

    @property
    def share_of_even_levels(self) -> float:
        """The share of levels that are drawn evenly over the range."""
        return 1.0 if self.objective == "likelihood" else self.uniform

    def record(self) -> dict[str, Any]:
        """What JSON can hold; checkpoints from before there were objectives are of the one by default."""
        held = asdict(self)
        return {name: value for name, value in held.items() if (name, value) != ("objective", "epsilon")}


class _Losses(nn.Module):
    """All assignments in one forward pass, so that gradients are shared between processes once a step."""

    def __init__(self, network: MultiDenoiser, assignments: Sequence[Roles]) -> None:
        super().__init__()
        self.network, self.assignments = network, tuple(assignments)

    def forward(
        self, data: Mapping[str, Tensor], logsnr: Tensor, eps: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        return losses(self.network, data, self.assignments, logsnr, eps)


class Trainer:
    """Trains one network; the same on every process of one launch.

    `history` has the step and the held-out loss, in nats, of every look so far.

    A step's examples, levels and noise are a function of the seed, the step and the process, so that a resumed run goes
    on as if it had not been disturbed.

    Args:
        network: as it was made; trained in place.
        source: of training examples.
        held_out: other examples, `(N, *shape)` each, which decide when to stop and which weights are kept.
        assignments: roles to train, all at the same noise.
        settings: how.
        seed: of examples, levels and noise.
        checkpoint: file to go on from, and to write to; processes share it.
        accelerator: of processes and device; that of `join_processes` by default.
        description: what the progress bar says.
        origin: what the examples are, by name, in what JSON can hold: a checkpoint that states another is refused. By
            default the `Identity` of `held_out`, and that of `source`: of all its arrays (`rows_of`), of what its method
            `identity()` gives, or else of the first examples that it draws from a generator of its own. State it if a
            source's first examples do not tell it from others, or if they are not the same on every machine.

    Raises:
        ValueError: for a checkpoint that is broken, or of another network, other settings or other data.
    """

    def __init__(
        self,
        network: MultiDenoiser,
        source: Source,
        held_out: Mapping[str, Tensor],
        assignments: Sequence[Roles],
        settings: TrainSettings,
        *,
        seed: int = 0,
        checkpoint: Path | None = None,
        accelerator: Accelerator | None = None,
        description: str = "training",
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self.accelerator = accelerator or join_processes()
        self.network = network.to(self.accelerator.device)
        self.source, self.assignments, self.settings = source, tuple(assignments), settings
        self.seed, self.checkpoint, self.description = whole(seed, "seed", 0), checkpoint, description
        for roles in self.assignments:
            network.need([*roles.diffused, *roles.given])
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        self.held_out = {name: values[rank::world].to(self.accelerator.device) for name, values in held_out.items()}
        if not len(next(iter(self.held_out.values()))):
            raise ValueError(f"process {rank} of {world} has no held-out example; hold out more")
        self.diffused = {name for roles in self.assignments for name in roles.diffused}
        # Per coordinate, so that a rate and a clipped norm mean the same for large and for small variables.
        self.coordinates = sum(math.prod(network.shapes[name]) for name in self.assignments[0].diffused)
        self.optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.lr, betas=(0.9, 0.99), weight_decay=settings.weight_decay, fused=True
        )
        self.levels = Levels(*network.logsnr_range, settings.share_of_even_levels)
        self.averaged = AveragedModel(network, multi_avg_fn=self._average)
        self.best = copy.deepcopy(network).requires_grad_(False)
        self.step, self.seconds, self.stale = 0, 0.0, 0
        self.history: list[dict[str, float]] = []
        if checkpoint is not None:
            stated = self._identities(held_out) if origin is None else dict(origin)
            self.origin = Origin(self._record() | stated, shown_of(network, held_out))
            if checkpoint.exists():
                self._resume(checkpoint)

    def run(self, progress: bool = True) -> Fit:
        """Take the steps that are left, and leave the best averaged weights in the network.

        Args:
            progress: whether the main process shows a bar.

        Raises:
            ValueError: if the loss is not finite any more.
        """
        settings, accelerator = self.settings, self.accelerator
        loss_of = accelerator.prepare(_Losses(self.network.train().requires_grad_(True), self.assignments))
        if not self.history:
            self._look()
        began = time.monotonic() - self.seconds
        bar = tqdm(
            total=settings.steps,
            initial=self.step,
            desc=self.description,
            disable=not (progress and somebody_looks() and accelerator.is_local_main_process),
            mininterval=1,
        )
        with bar:
            while self.step < settings.steps and self.stale < settings.patience:
                self._one_step(loss_of)
                bar.update()
                if self.step % settings.check_every == 0 or self.step == settings.steps:
                    self._look()
                    bar.set_postfix(held_out=f"{self.history[-1]['loss']:.4g}", refresh=False)
                    self.seconds = time.monotonic() - began
                    self._save()
        self.network.load_state_dict(self.best.state_dict())
        self.network.eval().requires_grad_(False)
        losses = [look["loss"] for look in self.history]
        gains = tuple(before - after for before, after in pairwise(losses))
        return Fit(self.network, self.step, self.seconds, losses[0] - min(losses), self.levels.settled, gains)

    # ---- one step ----

    def _one_step(self, loss_of: nn.Module) -> None:
        settings, accelerator, network = self.settings, self.accelerator, self.network
        generator = step_generator(self.seed, self.step, accelerator.process_index, accelerator.num_processes)
        drawn = self.source(settings.batch, generator)
        batch = {name: x.to(accelerator.device) for name, x in drawn.items()}
        count = settings.batch * settings.draws
        logsnr = network.snap(self.levels.draw(count, generator)).repeat(2)
        eps: dict[str, Tensor] = {}
        for name in sorted(self.diffused):
            half = torch.randn((count, *network.shapes[name]), generator=generator)
            eps[name] = torch.cat([half, -half]).to(accelerator.device)
        errors, differ = loss_of(batch, levels_on(logsnr, accelerator.device), eps)
        weight = 1 + torch.exp(-logsnr) if settings.weighting == "v" else self.levels.weight(logsnr)
        loss = (errors * weight.to(errors)).mean() / self.coordinates
        if not math.isfinite(loss.item()):
            raise ValueError(f"the loss is {loss.item()} at step {self.step}; lower the rate of {settings.lr}")
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(network.parameters(), settings.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = cosine_rate(settings.lr, self.step, settings.steps, settings.warmup)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.averaged.update_parameters(network)
        seen = accelerator.gather(torch.stack([logsnr.to(differ), differ]).T.contiguous())
        assert isinstance(seen, Tensor)
        self.levels.see(*seen.cpu().T)
        self.step += 1

    def _average(self, averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        # A running mean over a tenth of the steps so far, until that is long: the first weights should not stay in it.
        seen = int(count)
        decay = min(self.settings.average, (1 + seen) / (10 + seen))
        torch._foreach_lerp_(list(averaged), list(current), 1 - decay)

    # ---- held-out loss ----

    @property
    def _best_loss(self) -> float:
        return min(look["loss"] for look in self.history)

    def _look(self) -> None:
        """Measure the averaged weights, and keep them if they are the best so far."""
        network = self.averaged.module
        assert isinstance(network, MultiDenoiser)
        network.eval()
        total, count = 0.0, len(next(iter(self.held_out.values())))
        for number, rows in enumerate(torch.arange(count).split(2 * self.settings.batch)):
            part = {name: values[rows.to(values.device)] for name, values in self.held_out.items()}
            seed = number * self.accelerator.num_processes + self.accelerator.process_index
            total += held_out_loss(network, part, self.assignments, seed=seed, levels=4) * len(rows)
        sums = self.accelerator.reduce(torch.tensor([total, float(count)], device=self.accelerator.device), "sum")
        assert isinstance(sums, Tensor)
        loss = float(sums[0] / sums[1])
        if not self.history or loss < self._best_loss:
            self.best.load_state_dict(network.state_dict())
            self.stale = 0
        else:
            self.stale += 1
        self.history.append({"step": float(self.step), "loss": loss})

    # ---- checkpoints ----

    def _modules(self) -> dict[str, nn.Module]:
        return {
            "network": self.network,
            "averaged": self.averaged,
            "best": self.best,
            "levels": Tensors({"gap": self.levels.gap}),
        }

    def _record(self) -> dict[str, Any]:
        return {
            "settings": self.settings.record(),
            "seed": self.seed,
            "assignments": listed(self.assignments),
            "shapes": {name: list(shape) for name, shape in self.network.shapes.items()},
            "logsnr_range": list(self.network.logsnr_range),
        }

    def _identities(self, held_out: Mapping[str, Tensor]) -> dict[str, str]:
        """What the examples are, the same on every process: as the main one sees them."""
        identity = getattr(self.source, "identity", None)
        drawn = identity() if identity is not None else self.source(self.settings.batch, generator_of(0))
        both = [str(Identity.of(drawn)), str(Identity.of(held_out))]
        broadcast_object_list(both)
        return dict(zip(("data", "held_out"), both, strict=True))

    def _save(self) -> None:
        if self.checkpoint is not None and self.accelerator.is_main_process:
            state = {
                "step": self.step,
                "seconds": self.seconds,
                "stale": self.stale,
                "history": self.history,
            }
            save_checkpoint(self.checkpoint, self._modules(), self.optimizer, state, self.origin)
        self.accelerator.wait_for_everyone()

    def _resume(self, path: Path) -> None:
        modules = self._modules()
        state = load_checkpoint(path, modules, self.optimizer, self.origin)
        levels = modules["levels"]
        assert isinstance(levels, Tensors)
        self.levels.gap = levels.values["gap"]
        self.step, self.seconds, self.stale = state["step"], state["seconds"], state["stale"]
        self.history = state["history"]
        if self.accelerator.is_main_process:
            tell(f"going on from {path}, step {self.step} of {self.settings.steps} at most")
