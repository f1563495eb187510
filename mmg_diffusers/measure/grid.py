"""Values that lie on a grid, such as the 256 of a pixel or the two of a spin, and what noise leaves of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmg_diffusers.checks import finite, of_type, whole
from mmg_diffusers.denoisers.references import GaussianReference
from mmg_diffusers.measure.decoding import CleanEnd, TiltedSoftmax
from mmg_diffusers.measure.probability import LogProbability
from mmg_diffusers.measure.supports import Support

# A value counts as one of the grid if it is as near as this, in steps: what float32 leaves of a pixel, and no more.
NEAR = 1e-3
# Noise in standard deviations, and steps of the trapezoidal rule over it that are exact to rounding: for levels nearer than
# two of them, and for others.
_REACH, _COARSE, _FINE = 10.0, 0.1, 0.02
# Standard deviations of the noise beyond which a level is out of the question; and the step, in these, from which on the
# nearest level is the right one to 1e-8 nats.
_FAR, _APART = 14.0, 11.5
# Nats a dimension below which levels count as told by the noisy value alone.
TOLD = 1e-6


@dataclass(frozen=True)
class Grid(Support):
    """Equally spaced levels that every coordinate of x is one of; by it `Density` measures log P(x).

    With e the network's prediction, -log P(x) is half the integral of E|eps - e(z)|^2 over all levels (arXiv 2302.03792,
    eq. 11, pointwise). Below the range the reference stands in, in closed form. At its clean end z is decoded, unless it tells
    the levels anyway: by a softmax over the levels near each noisy coordinate, tilted so that its mean is what the network
    predicts. Both are what a model could do, so that the sum stays a bound in the mean over data, for any network. What the
    network predicts is never rounded: a mean of levels is no observation of one.

    Args:
        low, high: the least level and the greatest.
        levels: how many there are, 2 or more.

    Raises:
        TypeError: for other than numbers.
        ValueError: for fewer than two levels, or a range that does not rise.
    """

    low: float = -1.0
    high: float = 1.0
    levels: int = 256

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", finite(self.low, "the grid's low end"))
        object.__setattr__(self, "high", finite(self.high, "the grid's high end"))
        object.__setattr__(self, "levels", whole(self.levels, "levels", 2, ", since what has one value tells nothing"))
        if not self.low < self.high:
            raise ValueError(f"the grid runs from {self.low:g} to {self.high:g}; expected a rising range")

    @property
    def step(self) -> float:
        """The distance between two levels."""
        return (self.high - self.low) / (self.levels - 1)

    @property
    def resolved(self) -> float:
        """The log-SNR from which on noise leaves no doubt between two levels: there is nothing to integrate above it."""
        return 2 * math.log(_APART / self.step)

    def index(self, x: Tensor) -> Tensor:
        """Which level every coordinate of x is at, from 0; int64 of the shape of x.

        Raises:
            ValueError: for a value that is no level; it names the first.
        """
        of_type(x, Tensor, "x", "a tensor; torch.as_tensor makes one of an array")
        place = (x.detach().cpu().double() - self.low) / self.step
        index = place.round()
        off = ~((place - index).abs() <= NEAR) | (index < 0) | (index >= self.levels)
        if bool(off.any()):
            first = tuple(off.nonzero()[0].tolist())
            raise ValueError(
                f"x holds {float(x[first]):.6g} at {first}, which is none of {self.levels} levels from {self.low:g} to "
                f"{self.high:g}; measure data on the grid that they lie on, or their density without one"
            )
        return index.long()

    def decoding(self, x: Tensor, logsnr: float) -> Tensor:
        """-log q(x | z) in the mean over the noise in z at a level, `(N, *event)` nats of every coordinate.

        q chooses between levels by the noise alone, each coordinate by itself: a softmax of -(z / a - value)^2 SNR / 2.
        It needs no network, and its mean over the noise is an integral in one dimension. It is what a network that knows
        the rest of x would pay as well, if the data were smooth on the scale of the noise.

        Raises:
            ValueError: for a value that is no level.
        """
        index = self.index(x)
        apart = self.step * math.exp(logsnr / 2)
        # Levels farther off than this do not count, so that those inside are alike.
        reach = min(self.levels - 1, math.ceil(_FAR / apart) + 1)
        below, above = index.clamp(max=reach), (self.levels - 1 - index).clamp(max=reach)
        kinds, which = torch.unique(below * (reach + 1) + above, return_inverse=True)
        costs = [_confusion(kind // (reach + 1), kind % (reach + 1), apart) for kind in kinds.tolist()]
        return torch.tensor(costs, dtype=torch.float64)[which]

    def record(self) -> dict[str, Any]:
        """What JSON can hold; the arguments that make it."""
        return {"low": self.low, "high": self.high, "levels": self.levels}

    # ---- as the values of a density ----

    record_type = LogProbability

    def terms(self, reference: GaussianReference, end: CleanEnd) -> dict[str, Tensor]:
        x = end.pairs.x
        known = self.decoding(x, end.level)
        decoding, rows = known.flatten(1).sum(1)[:, None], torch.zeros(len(x), dtype=torch.int64)
        if float(decoding.mean()) > TOLD * x[0].numel():
            decoder = TiltedSoftmax(self.levels, self.step * math.exp(end.level / 2))

            def cost(clean: Tensor, seen: Tensor, predicted: Tensor) -> Tensor:
                index = self.index(clean)
                tilted, flat = decoder.costs(index, *((value - self.low) / self.step for value in (seen, predicted)))
                return (tilted - flat * self._inside(index)).flatten(1).sum(1)

            # Inside of the grid most of the noise is that of a softmax without a tilt, whose mean is known.
            known = (known * self._inside(self.index(x))).flatten(1).sum(1)
            decoding = end.of_each(cost, decoder.width) + known[:, None]
            rows = rows + end.draws
        below = reference.error_below(x, end.logsnr)
        return {"surprise": below, "decoding": decoding, "decoded": rows, "flat": torch.zeros_like(below)}

    def _inside(self, index: Tensor) -> Tensor:
        return (index > 0) & (index < self.levels - 1)

    def range_of(self, known: tuple[float, float]) -> tuple[float, float] | None:
        low, high = known
        return None if math.isinf(low) else (low, min(high, max(self.resolved, low + 1)))

    def check(self, x: Tensor, high: float) -> None:
        self.index(x)
        if math.exp(-high / 2) >= (self.high - self.low) / 2:
            raise ValueError(
                f"the range ends at log-SNR {high:.3g}, where noise of {math.exp(-high / 2):.3g} hides the {self}; expected a range "
                f"up to {self.resolved:.3g}, or as far as the network knows"
            )

    def __str__(self) -> str:
        return f"{self.levels} levels from {self.low:g} to {self.high:g}"


def _confusion(below: int, above: int, apart: float) -> float:
    """The mean of log sum_j exp(-d_j^2 / 2 - d_j n) over standard normal n, for levels d_j = j apart, -below <= j <= above."""
    step = _COARSE if apart < 2 else _FINE
    noise = torch.arange(-_REACH, _REACH + step / 2, step, dtype=torch.float64)
    weight = torch.exp(-noise.square() / 2)
    offset = apart * torch.arange(-below, above + 1, dtype=torch.float64)
    total = torch.logsumexp(-offset.square() / 2 - offset * noise[:, None], 1)
    return float(weight @ total / weight.sum())
