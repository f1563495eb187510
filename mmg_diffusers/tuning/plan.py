"""How a model is tuned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from mmg_diffusers.arrays.base import Roles
from mmg_diffusers.arrays.trainer import TrainSettings
from mmg_diffusers.checks import finite, of_type, shown, two_ends, whole
from mmg_diffusers.tuning.adapters import Adapter, LowRank

Which = Literal["both", "marginal", "conditional"]
ROLES: Mapping[Which, tuple[Roles, ...]] = {
    "both": (Roles(("x",), ()), Roles(("x",), ("prompt",))),
    "marginal": (Roles(("x",), ()),),
    "conditional": (Roles(("x",), ("prompt",)),),
}


@dataclass(frozen=True)
class TunePlan:
    """How a model's branches are tuned to data.

    Args:
        adapter: what is trained.
        branches: which of the two; ``"both"`` together keep the errors that they share, which a marginal that is tuned alone
            loses.
        settings: of the training. The objective ``"likelihood"`` looks at levels even in log-SNR; ``"epsilon"`` is the
            loss that such networks are trained by: levels even in the model's own time, and its own target.
        held_out: share of the images that decides when to stop and which weights are kept.
        logsnr_range: levels that are trained and watched; by default all that the network knows.
        seed: of the split, the adapter's first weights, the batches, levels and noise.

    Raises:
        TypeError, ValueError: for other kinds, a share outside (0, 0.5], or a range that does not rise.
    """

    adapter: Adapter = field(default_factory=LowRank)
    branches: Which = "both"
    settings: TrainSettings = field(
        default_factory=lambda: TrainSettings(
            steps=600,
            batch=16,
            lr=5e-4,
            objective="likelihood",
            weight_decay=0.0,
            warmup=20,
            average=0.98,
            check_every=50,
            patience=4,
        )
    )
    held_out: float = 0.15
    logsnr_range: tuple[float, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        of_type(self.adapter, Adapter, "adapter", "one such as LowRank(8)")
        of_type(self.settings, TrainSettings, "settings", "TrainSettings(...)")
        if self.branches not in get_args(Which):
            raise ValueError(f"branches is {shown(self.branches)}; expected one of {', '.join(get_args(Which))}")
        if not 0 < finite(self.held_out, "held_out") <= 0.5:
            raise ValueError(f"held_out is {self.held_out}; expected a share of the images above 0, and at most 0.5")
        if self.logsnr_range is not None:
            object.__setattr__(self, "logsnr_range", two_ends(self.logsnr_range, "logsnr_range"))
        object.__setattr__(self, "seed", whole(self.seed, "seed", 0))

    @property
    def roles(self) -> tuple[Roles, ...]:
        """What is predicted from what."""
        return ROLES[self.branches]

    def record(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {
            "adapter": self.adapter.record(),
            "branches": self.branches,
            "settings": self.settings.record(),
            "held_out": self.held_out,
            "logsnr_range": None if self.logsnr_range is None else list(self.logsnr_range),
            "seed": self.seed,
        }
