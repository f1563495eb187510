"""What a standard error costs: read off a pilot measurement of a few pairs, before the others are measured.

The mean over N pairs of D draws each has the variance (S + V / D) / N: S is what pairs differ by, V what the noise of one draw leaves
in a pair. Draws buy down V alone; what pairs differ by takes more pairs. Of the gap, V is about 2 R r^2 I / n with R the range of log-SNR,
r^2 the conditional error per dimension, I the information and n the evaluations of each branch in a draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from mmg_diffusers.checks import finite, of_type, whole
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.measured import Measured


@dataclass(frozen=True)
class Cost:
    """What measurements like a pilot's leave of error, and cost.

    Args:
        noise: V, variance that one draw leaves in a pair, in nats squared; not a number if the pilot's draws do not tell it.
        spread: S, variance between pairs beyond that; what the draws do not tell of is in it.
        evaluations: rows through the network, for one draw of one pair.
        pilot: pairs that this was read off.
        rows_per_second: of the pilot; not a number if it was not timed.
    """

    noise: float
    spread: float
    evaluations: float
    pilot: int
    rows_per_second: float = math.nan

    @classmethod
    def of(cls, pilot: Measured, *, evaluations: int, draws: int = 1, seconds: float = math.nan) -> Cost:
        """From a measurement of a few pairs, two draws each or more if these are to tell what more would buy.

        Args:
            pilot: two pairs or more.
            evaluations: of the whole pilot.
            draws: of each pair.
            seconds: that it took.

        Raises:
            TypeError, ValueError: for no measurement, fewer than two pairs, or numbers that none can have.
        """
        of_type(pilot, Measured, "the pilot", "a measurement of a few pairs")
        count = len(pilot)
        if count < 2:
            raise ValueError(f"the pilot has {count} pair(s); expected two or more, which show how pairs differ")
        whole(evaluations, "evaluations", 1)
        whole(draws, "draws", 1)
        total = float(pilot.nats.var())
        noise = math.nan
        if isinstance(pilot, Estimate) and draws > 1:
            noise = float(pilot.stderr.square().mean()) * draws
        spread = total if math.isnan(noise) else max(0.0, total - noise / draws)
        rate = evaluations / seconds if seconds > 0 else math.nan
        return cls(noise, spread, evaluations / count / draws, count, rate)

    @property
    def uncertainty(self) -> float:
        """The standard error of a standard error that this tells, as a share of it: of a variance of `pilot` normal numbers."""
        return math.sqrt(1 / (2 * (self.pilot - 1)))

    def of_a_pair(self, draws: int = 1) -> float:
        """Variance that the noise leaves in a pair."""
        return 0.0 if math.isnan(self.noise) else self.noise / whole(draws, "draws", 1)

    def stderr(self, pairs: int, draws: int = 1) -> float:
        """Standard error of the mean of so many pairs, in nats."""
        return math.sqrt((self.spread + self.of_a_pair(draws)) / whole(pairs, "pairs", 1))

    def pairs_for(self, stderr: float, draws: int = 1) -> int:
        """Pairs whose mean has this standard error.

        Raises:
            ValueError: for a standard error that is not positive.
        """
        return max(1, math.ceil((self.spread + self.of_a_pair(draws)) / _wanted(stderr) ** 2))

    def draws_for(self, stderr: float, pairs: int) -> int | None:
        """Draws of each pair with which the mean of so many has this standard error; ``None`` if no number of them has.

        Raises:
            ValueError: for a standard error that is not positive.
        """
        room = whole(pairs, "pairs", 1) * _wanted(stderr) ** 2 - self.spread
        if math.isnan(self.noise):
            return 1 if room >= 0 else None
        return None if room <= 0 else max(1, math.ceil(self.noise / room))

    def draws_for_a_pair(self, stderr: float) -> int | None:
        """Draws after which the noise leaves this standard error in a pair; ``None`` if that is not known."""
        return None if math.isnan(self.noise) else max(1, math.ceil(self.noise / _wanted(stderr) ** 2))

    def rows(self, pairs: int, draws: int = 1) -> int:
        """Evaluations, rows through the network, of so many pairs and draws."""
        return round(self.evaluations * pairs * draws)

    def seconds(self, pairs: int, draws: int = 1) -> float:
        """How long that takes at the pilot's rate."""
        return self.rows(pairs, draws) / self.rows_per_second

    def says(self, stderr: float, pairs: int) -> str:
        """What a standard error of the mean of so many pairs costs, in sentences, and of each pair.

        Raises:
            ValueError: for a standard error that is not positive.
        """
        between = math.sqrt(self.spread)
        lines = [
            f"{self.pilot} pilot pairs: pairs differ by {between:.3g} nats, and "
            + (
                "what the noise of a draw leaves in them is among that"
                if math.isnan(self.noise)
                else f"the noise of one draw leaves {math.sqrt(self.noise):.3g} nats in each"
            )
        ]
        draws = self.draws_for(stderr, pairs)
        if draws is None:
            least = math.sqrt(self.spread / pairs)
            more = self.pairs_for(stderr)
            lines.append(
                f"a standard error of {stderr:g} nats cannot be had from {pairs} pairs: what they differ by leaves {least:.2g}, which no "
                f"number of draws changes. {more:,} pairs with one draw each would do: {self._costs(more, 1)}"
            )
        else:
            lines.append(
                f"a standard error of {stderr:g} nats in the mean of {pairs} pairs takes {draws} draw(s) of each: "
                f"{self._costs(pairs, draws)}"
            )
        each = self.draws_for_a_pair(stderr)
        if each is not None:
            lines.append(f"and as much in each pair takes {each} draw(s): {self._costs(pairs, each)}")
        lines.append(f"these come from few pairs, and are right to about {self.uncertainty:.0%} (one standard error)")
        return "\n".join(lines)

    def _costs(self, pairs: int, draws: int) -> str:
        said = f"{self.rows(pairs, draws):,} evaluations"
        if math.isnan(self.rows_per_second):
            return said
        return f"{said}, {self.seconds(pairs, draws):,.0f} s at {self.rows_per_second:.3g} a second"


def _wanted(stderr: float) -> float:
    if finite(stderr, "stderr") <= 0:
        raise ValueError(f"stderr is {stderr}; expected a standard error in nats, above 0")
    return float(stderr)
