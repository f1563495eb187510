"""What a pilot on other data found of a network beside a Gaussian: where the noise is, and how much of it to take off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from mmg_diffusers.files.identity import Identity


@dataclass(frozen=True)
class Pilot:
    """What a density of one network needs to be measured with little noise; `mmg_diffusers.measure.Density.piloted` finds it.

    Args:
        edges, mass: of the levels, K + 1 rising log-SNRs and the share of the levels between each two.
        levels, shares: the part of the reference's own error that is taken off, at rising log-SNRs.
        data, rows: identity of the data, and `(n,)` int64 marks of them; other data than those that are measured.
    """

    edges: tuple[float, ...]
    mass: tuple[float, ...]
    levels: tuple[float, ...]
    shares: tuple[float, ...]
    data: Identity
    rows: Tensor

    @cached_property
    def digest(self) -> str:
        """What tells it from others."""
        return Identity.of(self.edges, self.mass, self.levels, self.shares, self.data).digest

    def record(self) -> dict[str, Any]:
        """What JSON can hold; the marks of the rows are kept beside it."""
        plain = {name: list(getattr(self, name)) for name in ("edges", "mass", "levels", "shares")}
        return plain | {"data": self.data.digest}

    @classmethod
    def of_record(cls, held: Mapping[str, Any] | None, rows: Tensor | None) -> Pilot | None:
        """From what `record` gave and the marks; ``None`` without."""
        if held is None or rows is None:
            return None
        edges, mass, levels, shares = (tuple(held[name]) for name in ("edges", "mass", "levels", "shares"))
        return cls(edges, mass, levels, shares, Identity(held["data"]), rows)
