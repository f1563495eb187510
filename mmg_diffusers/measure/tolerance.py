"""How long to draw noise for a pair: until a standard error is reached, or enough was spent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmg_diffusers.checks import finite, whole

# With D draws a pair is done when its standard error, times the root of 1 + CAUTION / (D - 1), is small enough. The spread of
# few draws is uncertain, and stopping where it happens to be small would leave more error than is stated. Measured on Gaussian
# pairs of 4 + 4 coordinates, with 16 and 24 levels: 4 brings the root mean square of the errors to 0.64 to 1.04 of the
# tolerance, where 2 gives up to 1.22.
CAUTION = 4.0


@dataclass(frozen=True)
class Tolerance:
    """The standard error that the noise may leave in every pair, and what may be spent on it.

    A pair gets `least` draws; while its standard error is too large it gets as many more as that asks for, at most doubling
    them at a time, up to `most`. What a pair gets depends on its own numbers alone.

    Args:
        stderr: in nats.
        least: draws that every pair gets. The error of a pair is known from the spread of its draws, so at least 2.
        most: draws that no pair exceeds. A draw costs as many evaluations as there are levels and branches, and twice that
            if noise is antithetic.

    Raises:
        TypeError: for something other than a number, or a number of draws that is not whole.
        ValueError: for a standard error that is not positive, or numbers of draws that do not rise.
    """

    stderr: float
    least: int = 2
    most: int = 64

    def __post_init__(self) -> None:
        if finite(self.stderr, "stderr") <= 0:
            raise ValueError(f"stderr is {self.stderr}; expected a standard error in nats, above 0")
        whole(self.least, "least", 2, ", since one draw shows no spread")
        whole(self.most, "most", self.least)

    @staticmethod
    def of(value: Tolerance | float | None) -> Tolerance | None:
        """A tolerance as it is; of a number, one that leaves no more than this standard error; none of none.

        Raises:
            TypeError, ValueError: as `Tolerance` does.
        """
        return value if value is None or isinstance(value, Tolerance) else Tolerance(value)

    def reached(self, stderr: Tensor) -> Tensor:
        """Which standard errors are small enough; booleans of the same shape."""
        return stderr <= self.stderr

    def more(self, stderr: Tensor, drawn: Tensor) -> Tensor:
        """How many draws to add to `drawn` `(N,)`, for standard errors `(N,)`; 0 if nothing is to be done."""
        excess = (stderr / self.stderr).square() * (1 + CAUTION / (drawn - 1))
        asked = (drawn * excess).ceil().clamp(max=2.0 * self.most).long() - drawn
        added = torch.minimum(asked.clamp(min=1), torch.minimum(drawn, self.most - drawn))
        return torch.where(excess <= 1, 0, added)
