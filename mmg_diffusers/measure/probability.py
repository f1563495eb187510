"""The record of log-probabilities, of data that lie on a grid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from mmg_diffusers.measure.likelihood import NEGLIGIBLE, LogLikelihood, ReferenceTerms


@dataclass(frozen=True)
class DecodedTerms(ReferenceTerms):
    """What is known in closed form of x on a grid, `(N,)` nats.

    Args:
        decoding: what it costs in the mean to tell the levels at the clean end, of the range, from the noisy value alone.
    """

    decoding: Tensor


class DecodedEnds(NamedTuple):
    """What the two ends may hold of -log P(x) too much, from and to, in nats and in the mean over data.

    Below the range a network could gain so much on the reference that stands in; above it, a network that knows the rest of
    x could tell the levels with less.
    """

    low: tuple[float, float]
    high: tuple[float, float]


@dataclass(frozen=True, repr=False)
class LogProbability(LogLikelihood):
    """log P(x) of every x in nats, for x that lies on a grid; see `Density` and `Grid`.

    It has no units, and is at most 0 but for noise. In the mean over data, `surprise` is at least the entropy, and both ends
    are closed: what stands in for the network there is a bound as well.
    """

    FORMAT = "mmg_diffusers.LogProbability/1"
    KIND = "log-probability"
    TERMS = DecodedTerms

    @property
    def decoding(self) -> Tensor:
        """`(N,)` what telling the levels at the clean end adds to the surprise."""
        assert isinstance(self.terms, DecodedTerms)
        return self.terms.decoding

    @property
    def ends(self) -> DecodedEnds:
        """What may be too much at either end of the range; see `DecodedEnds`."""
        return DecodedEnds((0.0, float(self.terms.low.mean())), (0.0, float(self.decoding.mean())))

    def _said_of_clean_end(self, error: float) -> list[str]:
        high, most = self.logsnr_range[1], self.ends.high[1]
        if most <= max(NEGLIGIBLE * self.dimensions, error):
            return []
        return [
            f"at log-SNR {high:.2f}, where the range ends, noise of {math.exp(-high / 2):.3g} covers several levels: telling "
            f"them costs {most:.3g} nats, which is too much for data that are not smooth at this scale"
        ]

    def __repr__(self) -> str:
        return f"LogProbability({self.mean()}, {len(self)} of {self.variable} {self.event})"

    def __str__(self) -> str:
        low, high = self.logsnr_range
        mean, ends = self.mean(), self.ends
        bits = -mean.value / (self.dimensions * math.log(2))
        first = (
            f"log P = {mean} over {len(self)} of {self.variable}, {self.dimensions} dimensions ({bits:.4f} bits a dimension; "
            f"log-SNR {low:.2f} to {high:.2f}, {self.evaluations} evaluations; at most {ends.low[1]:.3g} nats more below the "
            f"range, and {ends.high[1]:.3g} above it)"
        )
        return "\n".join([first, *(f"warning: {text}" for text in self.warnings())])
