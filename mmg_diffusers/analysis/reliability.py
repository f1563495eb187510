"""Whether a posterior is right as often as it says: a test whose law under a calibrated posterior is known, whatever its tails."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmg_diffusers.measure.value import Value, mean_over_pairs
from mmg_diffusers.measure.verdict import Finding, Grade

# Times that true candidates are drawn anew from the posterior.
REDRAWN = 999
# Chance of a finding about a calibrated posterior, in all.
LEVEL = 0.005
# Shares of the ceiling: less than the first is what steps of a path do to an exact posterior, and not said; a posterior that claims more
# than the second beyond what it is right about says nothing of how large the information is.
SAID, IDLE = 0.1, 0.3


@dataclass(frozen=True)
class Reliability:
    """How much a posterior claims beyond what it is right about, and how likely so much is of a calibrated one.

    If q is calibrated, the true candidate is a draw from it, and log q of the true one has the mean sum q log q. So pair by pair

        claimed_i = sum_y q_i(y) log q_i(y) - log q_i(y_i)

    has mean 0, and a law that is known: y_i is drawn anew from q_i, for all pairs. An error over pairs, of values of which almost
    all are near 0 and a few are many nats, is too large to see what that shows (a posterior that is sure and wrong once).

    Args:
        claimed: nats more than it is right about, over pairs, with the error over pairs.
        chance: of so much, either way, for a calibrated posterior.
    """

    claimed: Value
    chance: float

    @classmethod
    def of(cls, log_posterior: Tensor, truth: Tensor) -> Reliability:
        """Of posteriors and true candidates.

        Args:
            log_posterior: `(N, D, K)` of D noise draws, or `(N, K)`.
            truth: `(N,)` int64 slots.
        """
        each = log_posterior if log_posterior.ndim == 3 else log_posterior[:, None]
        # Of several draws: the mean of log q is what is read, and the true candidate a draw from their mean.
        share, log_q = each.exp().mean(1), each.mean(1).clamp(min=-1e9)
        expected = (share * log_q).where(share > 0, 0.0).sum(1)
        entropy = (each.exp() * each).where(each > -torch.inf, 0.0).nan_to_num(0.0).sum(2).mean(1)
        claimed = entropy - log_q.gather(1, truth[:, None])[:, 0]
        generator = torch.Generator().manual_seed(0)
        drawn = torch.multinomial(share, REDRAWN, replacement=True, generator=generator)
        redrawn = (expected[:, None] - log_q.gather(1, drawn)).mean(0)
        seen = claimed.mean()
        above, below = ((redrawn >= seen).sum(), (redrawn <= seen).sum())
        chance = 2 * (1 + float(torch.minimum(above, below))) / (1 + REDRAWN)
        return cls(mean_over_pairs(claimed), min(1.0, chance))

    def finding(self, ceiling: float) -> Finding | None:
        """What to say of it beside a bound that can reach `ceiling` nats; ``None`` if it is calibrated as far as can be seen."""
        off, error = self.claimed
        share = abs(off) / max(ceiling, 1e-9)
        if self.chance > LEVEL or share < SAID:
            return None
        # The bound holds; it is no estimate of the information if q claims far more than it is right about.
        grade: Grade = "don't" if off > 0 and share > IDLE else "with caution"
        said = (
            f"the posterior claims {off:.3f} +- {error:.3f} nats more than it is right about: it is not calibrated"
            if off > 0
            else f"the posterior claims {-off:.3f} +- {error:.3f} nats less than it knows: it is not calibrated"
        )
        remedy = ", and the bound lies that far below what it could be; calibrate on other pairs"
        return Finding(said + (remedy if off > 0 else ""), "calibration", grade)
