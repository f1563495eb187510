"""A model's two branches fitted to data, so that what stands for no prompt is the marginal of *that*."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmg_diffusers.arrays.seeds import generator_of
from mmg_diffusers.checks import finite, of_type, two_ends, whole
from mmg_diffusers.denoisers.base import Adapted
from mmg_diffusers.files.records import within
from mmg_diffusers.measure.batches import range_within
from mmg_diffusers.measure.measured import prefixed
from mmg_diffusers.measure.quadrature import StratifiedUniform
from mmg_diffusers.tuning.adapters import Networks
from mmg_diffusers.tuning.branches import FEWEST, Encoded
from mmg_diffusers.tuning.plan import TunePlan
from mmg_diffusers.tuning.soft import SoftPlan, SoftPrompts, soft_prompts
from mmg_diffusers.tuning.tuned import Tuned
from mmg_diffusers.tuning.tuner import tune


@dataclass(frozen=True)
class FitPlan:
    """How the marginal of data is made of a model.

    Args:
        soft: of a mixture of a few prompts, which errs as the conditional branch does; ``None`` takes the network's own null.
        branches: the low-rank additions (LoRA) that both branches get beforehand, by the information objective; ``None`` leaves the
            network as it is.
        held_out: share of the images that decides when soft prompts stop; that of `branches` is its own.
        folds: 1 fits to all images, which then cannot be measured; with more each image is measured by what was fitted to the other
            folds.
        logsnr_range: levels that soft prompts are trained at; by default all that the network knows.
        seed: of splits, batches, levels and noise.

    Raises:
        TypeError, ValueError: for other kinds, neither soft prompts nor branches, a share outside (0, 0.5], or counts below 1.
    """

    soft: SoftPlan | None = field(default_factory=SoftPlan)
    branches: TunePlan | None = None
    held_out: float = 0.15
    folds: int = 1
    logsnr_range: tuple[float, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        of_type(self.soft, (SoftPlan, type(None)), "soft", "SoftPlan(...), or None")
        of_type(self.branches, (TunePlan, type(None)), "branches", "TunePlan(...), or None")
        if self.soft is None and self.branches is None:
            raise ValueError("soft and branches are None, which fits nothing; give SoftPlan(), TunePlan() or both")
        if not 0 < finite(self.held_out, "held_out") <= 0.5:
            raise ValueError(f"held_out is {self.held_out}; expected a share of the images above 0, and at most 0.5")
        object.__setattr__(self, "folds", whole(self.folds, "folds", 1))
        object.__setattr__(self, "seed", whole(self.seed, "seed", 0))
        if self.logsnr_range is not None:
            object.__setattr__(self, "logsnr_range", two_ends(self.logsnr_range, "logsnr_range"))

    def record(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {
            "soft": None if self.soft is None else asdict(self.soft),
            "branches": None if self.branches is None else self.branches.record(),
            "held_out": self.held_out,
            "folds": self.folds,
            "logsnr_range": None if self.logsnr_range is None else list(self.logsnr_range),
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Part:
    """What was fitted to one fold's others, or to all.

    Args:
        rows: marks of the images that had a say, as the network sees them.
        soft: prompts whose mixture is the marginal; ``None``: the network's null is.
        tuned: additions to the networks, if they were tuned.
        pictures: marks of the pictures themselves, by which they are known before a network runs.
    """

    rows: Tensor
    soft: SoftPrompts | None = None
    tuned: Tuned | None = None
    pictures: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors, and what JSON can hold."""
        tensors: dict[str, Tensor] = {"rows": self.rows, "pictures": self.pictures}
        record: dict[str, Any] = {"texts": None, "tuned": None}
        if self.soft is not None:
            tensors["probability"] = self.soft.probability
            tensors |= prefixed("soft", self.soft.vectors or {})
            record["texts"] = list(self.soft.texts)
        if self.tuned is not None:
            tensors |= prefixed("tuned", self.tuned.weights)
            record["tuned"] = {**self.tuned.record, "held_out": [list(look) for look in self.tuned.held_out]}
        return tensors, record

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Part:
        """From what `packed` gave."""
        soft = tuned = None
        if record["texts"] is not None:
            vectors = within(tensors, "soft")
            soft = SoftPrompts(tensors["probability"], tuple(record["texts"]), vectors or None)
        if record["tuned"] is not None:
            held = dict(record["tuned"])
            looks = tuple((int(step), float(loss)) for step, loss in held.pop("held_out"))
            tuned = Tuned(within(tensors, "tuned"), tensors["rows"], looks, held)
        return cls(tensors["rows"], soft, tuned, tensors["pictures"])


def check_enough(different: int, plan: FitPlan) -> None:
    """Find out whether there are different images enough, in each fold's others.

    Raises:
        ValueError: if not.
    """
    left = different - -(-different // plan.folds) if plan.folds > 1 else different
    if left < FEWEST:
        among = f" in {plan.folds} folds, of which each is fitted without its own" if plan.folds > 1 else ""
        raise ValueError(
            f"got {different} different image{'s' * (different != 1)} to fit to{among}; expected {FEWEST} or more to be left, and hundreds are better: "
            "what was fitted to few knows those alone"
        )


def fit_branches(
    denoiser: Adapted,
    networks: Networks,
    data: Encoded,
    texts: Sequence[str],
    plan: FitPlan,
    *,
    model: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> tuple[Part, ...]:
    """Fit a model's branches to data, once or for each fold without it; the networks are as before when it returns.

    Args:
        denoiser: of the model.
        networks: the networks that it calls, by name.
        data: what it is fitted to.
        texts: the different prompts, in the order of `Encoded.conditions`; none without prompts.
        plan: how.
        model: what the record says of the model.
        progress: whether bars are shown.

    Raises:
        ValueError: for too few images, soft prompts without prompts, and as `tune` and `soft_prompts` do.
    """
    different, place = torch.unique(data.marks, return_inverse=True)
    check_enough(len(different), plan)
    if plan.soft is not None and data.which is None:
        raise ValueError(
            "soft prompts need prompts; give these, or FitPlan(soft=None, branches=TunePlan(branches='marginal'))"
        )
    order = torch.randperm(len(different), generator=generator_of(plan.seed))
    fold = torch.empty_like(order)
    fold[order] = torch.arange(len(different)) % plan.folds
    ends = range_within(denoiser, plan.logsnr_range, StratifiedUniform(2))
    parts: list[Part] = []
    for number in range(plan.folds):
        some = data if plan.folds == 1 else data.rows((fold[place] != number).nonzero()[:, 0])
        tuned = soft = None
        if plan.branches is not None:
            tuned = tune(denoiser, networks, some, plan.branches, model=model, progress=progress)
        if plan.soft is not None:
            split = some.split(plan.held_out, plan.seed)
            if tuned is None:
                soft = soft_prompts(denoiser, *split, texts, plan.soft, ends, seed=plan.seed, progress=progress)
            else:
                with tuned.on(networks):
                    soft = soft_prompts(denoiser, *split, texts, plan.soft, ends, seed=plan.seed, progress=progress)
        parts.append(Part(some.marks, soft, tuned))
    return tuple(parts)
