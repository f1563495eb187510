"""What is known of a likelihood beside what is integrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor


class Ends(NamedTuple):
    """What is known about what lies beyond the range.

    Below it a network gains on the reference between 0 and `low` nats in the mean over data, if it is no worse than the
    reference; of each x never more than that x's own. Above it nothing can be certified of a density: its value is
    at `resolution`, a standard deviation of noise in the units of x.
    """

    low: tuple[float, float]
    resolution: float


@dataclass(frozen=True)
class ReferenceTerms:
    """What is known of the reference in closed form, `(N,)` nats of every x.

    Args:
        surprise: -log p_G(x).
        low: half its integrated error below the range, which is all that a network could gain there.
        flat: what a density that is flat below the resolution would gain on it above the range.
        expected: `(N, D, L)` its squared error in the mean over noise at every level, if there is a control.
        places: `(N, *pixels)` the surprise by pixel, if maps are kept.
    """

    surprise: Tensor
    low: Tensor
    flat: Tensor
    expected: Tensor | None = None
    places: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("surprise", "low", "flat"):
            values: Tensor = getattr(self, name)
            if values.shape != self.surprise.shape or values.ndim != 1 or not bool(values.isfinite().all()):
                raise ValueError(f"the reference's {name} is {tuple(values.shape)}; expected finite numbers, one an x")

    def packed(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return {item.name: held for item in fields(self) if (held := getattr(self, item.name)) is not None}

    @staticmethod
    def merge(parts: Sequence[ReferenceTerms]) -> ReferenceTerms:
        """Join those of different x."""
        held = [part.packed() for part in parts]
        return type(parts[0])(**{name: torch.cat([part[name] for part in held]) for name in held[0]})
