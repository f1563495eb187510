"""Which values x takes, and what of its likelihood depends on that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor

from mmg_diffusers.denoisers.references import GaussianReference
from mmg_diffusers.measure.decoding import CleanEnd
from mmg_diffusers.measure.likelihood import LogLikelihood


class Support(ABC):
    """The values that x takes: what it is a likelihood of, and what lies beyond the range of levels."""

    record_type: ClassVar[type[LogLikelihood]]
    """What is made of a measurement."""

    @abstractmethod
    def terms(self, reference: GaussianReference, end: CleanEnd) -> dict[str, Tensor]:
        """What is known of every x beside what is integrated, by the names of `record_type.TERMS`."""

    def range_of(self, known: tuple[float, float]) -> tuple[float, float] | None:
        """The part of the levels that a network knows which is worth integrating over; None for all of them."""
        return None

    def check(self, x: Tensor, high: float) -> None:
        """Raise a ValueError for values that x cannot have, or a range that ends too early; before a network is called."""
        return None

    def notes(self, x: Tensor, high: float) -> tuple[str, ...]:
        """What the data give cause to say."""
        return ()

    def record(self) -> dict[str, Any] | None:
        """What JSON can hold; None for every value."""
        return None
