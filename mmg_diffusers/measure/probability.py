"""The record of log-probabilities, of data that lie on a grid."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from mmg_diffusers.checks import of_type
from mmg_diffusers.files.printed import in_short
from mmg_diffusers.measure.likelihood import NEGLIGIBLE, LogLikelihood, LogLikelihoodRatio
from mmg_diffusers.measure.terms import ReferenceTerms


@dataclass(frozen=True)
class DecodedTerms(ReferenceTerms):
    """What is known of x on a grid beside the integral; `surprise` is the reference's up to the clean end of the range.

    Args:
        decoding: `(N, K)` nats that it costs to tell the levels at the clean end: seen K times, or once in closed form.
        decoded: `(N,)` rows of the network that this took.
    """

    decoding: Tensor = field(kw_only=True)
    decoded: Tensor = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, axes in (("decoding", 2), ("decoded", 1)):
            values: Tensor = getattr(self, name)
            if values.ndim != axes or len(values) != len(self.surprise) or not bool(values.isfinite().all()):
                raise ValueError(f"{name} is {tuple(values.shape)}; expected finite numbers for each x")


class DecodedEnds(NamedTuple):
    """What the two ends may hold of -log P(x) too much, from and to, in nats and in the mean over data.

    Below the range a network could gain so much on the reference that stands in; above it, one that knows each coordinate
    from the others could tell the levels for nothing.
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
        """`(N, K)` what telling the levels at the clean end adds to the surprise, each time that it was seen."""
        assert isinstance(self.terms, DecodedTerms)
        return self.terms.decoding

    @property
    def nats(self) -> Tensor:
        """`(N,)` log P(x)."""
        return super().nats - self.decoding.mean(1)

    @property
    def stderr(self) -> Tensor:
        """`(N,)` standard error of `nats` from the noise draws, those of the clean end among them."""
        return torch.hypot(super().stderr, _error(self.decoding))

    @property
    def evaluations(self) -> int:
        """Rows that went through the network, those at the clean end among them. The reference is in closed form."""
        assert isinstance(self.terms, DecodedTerms)
        return super().evaluations + int(self.terms.decoded.sum())

    @property
    def ends(self) -> DecodedEnds:
        """What may be too much at either end of the range; see `DecodedEnds`."""
        return DecodedEnds((0.0, float(self.terms.low.mean())), (0.0, float(self.decoding.mean())))

    def versus(self, other: LogLikelihood) -> LogProbabilityRatio:
        of_type(other, LogProbability, "what it is compared with", "a LogProbability of the same x")
        return LogProbabilityRatio(self, other)

    def _said_of_clean_end(self, error: float) -> list[str]:
        high, most = self.logsnr_range[1], self.ends.high[1]
        if most <= max(NEGLIGIBLE * self.dimensions, error):
            return []
        return [
            f"at log-SNR {high:.2f}, where the range ends, noise of {math.exp(-high / 2):.3g} leaves levels undecided: telling "
            f"them costs {most:.3g} nats, more than it had to if single coordinates follow from the others"
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
        return in_short([f"verdict: {self.verdict}", first], self.verdict.told)


@dataclass(frozen=True, repr=False)
class LogProbabilityRatio(LogLikelihoodRatio):
    """log P(x) - log P'(x) of every x on a grid, in nats: two conditions, or two models, at shared noise.

    Raises:
        ValueError: for other x, pairs, levels, noise or references.
    """

    FORMAT = "mmg_diffusers.LogProbabilityRatio/1"
    KIND = "log-probability ratio"
    SYMBOL = "log P"

    @property
    def _decoding(self) -> Tensor:
        """`(N, K)` the difference in what it costs to tell the levels, from the same noise."""
        assert isinstance(self.one, LogProbability)
        assert isinstance(self.other, LogProbability)
        return self.other.decoding - self.one.decoding

    @property
    def nats(self) -> Tensor:
        """`(N,)` log P(x) - log P'(x)."""
        return super().nats + self._decoding.mean(1)

    @property
    def stderr(self) -> Tensor:
        """`(N,)` standard error of `nats` from the noise draws, of which what both share is gone."""
        return torch.hypot(super().stderr, _error(self._decoding))


def _error(values: Tensor) -> Tensor:
    """`(N,)` standard error of the mean of `(N, K)`; 0 of a single one, which is in closed form."""
    count = values.shape[1]
    return values.std(1) / math.sqrt(count) if count > 1 else torch.zeros(len(values), dtype=torch.float64)
