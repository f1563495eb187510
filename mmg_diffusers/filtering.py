"""The posterior filter: a marginal made of candidates, and what the posterior says level by level."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mmg_diffusers.analysis import Classification
from mmg_diffusers.influence import Influence
from mmg_diffusers.result import Estimate, Value, mean_over_pairs

# The posterior has settled where its mean information is within this of where it ends, in nats.
SETTLED = 0.005


@dataclass(frozen=True)
class Filtered:
    """Information of each variable about its true candidate, three ways along one Brownian path of noise.

    `posterior` holds the evidence; `truth` `(N,)` the index of the true candidate; `against_mixture` compares the true
    candidate with the mixture of all (gap and orthogonal), which needs no unconditional branch. Where `allowed`
    `(N, K)` restricts a variable to candidates that share a part with the true one, all is conditional on that part.

    The headline is log q(y | path) - log p(y): a lower bound in expectation whatever the network's errors, with little
    noise. It starts at the path's noisy end: what the noisy end already tells, `below`, is not in it.
    """

    posterior: Classification
    truth: Tensor
    against_mixture: Estimate
    allowed: Tensor | None = None

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def logsnr(self) -> Tensor:
        """`(L + 1,)` levels of the path."""
        return self.posterior.curve.logsnr

    @cached_property
    def log_posterior(self) -> Tensor:
        """log q(candidate | path up to each level), `(N, D, L + 1, K)`, as it stands (no calibration)."""
        score = self.posterior.curve.score
        start = self._log_prior[:, None, None].expand(-1, score.shape[1], 1, -1)
        return torch.log_softmax(torch.cat([start, score], 2).cumsum(2), 3)

    @property
    def _log_prior(self) -> Tensor:
        """`(N, K)`, of the allowed candidates."""
        start = self.posterior.prior.log().expand(len(self), -1)
        return start if self.allowed is None else torch.log_softmax(start.masked_fill(~self.allowed, -torch.inf), 1)

    def _true(self, log_posterior: Tensor) -> Tensor:
        index = self.truth.view(-1, 1, 1, 1).expand(*log_posterior.shape[:3], 1)
        return log_posterior.gather(3, index)[..., 0]

    @property
    def by_level(self) -> Tensor:
        """log q(y | path up to each level) - log p(y), `(N, L + 1)`, averaged over draws."""
        return self._true(self.log_posterior).mean(1) - self._log_prior.gather(1, self.truth[:, None])

    @property
    def entropy_by_level(self) -> Tensor:
        """H(Y) - H(q at each level), `(N, L + 1)`: the same in expectation where q is calibrated."""
        before = torch.special.entr(self._log_prior.exp()).sum(1, keepdim=True)
        return before - torch.special.entr(self.log_posterior.exp()).sum(3).mean(1)

    def integrated_by_level(self, form: str = "gap") -> Tensor:
        """The integral of the comparison with the mixture up to each of the first L levels, `(N, L)`."""
        curve = self.against_mixture.curve
        values = getattr(curve, form).mean(1) / 2
        step = curve.logsnr.diff(dim=1) * (values[:, 1:] + values[:, :-1]) / 2
        return torch.cat([torch.zeros_like(values[:, :1]), step.cumsum(1)], 1)

    @property
    def nats(self) -> Tensor:
        """`(N,)` pointwise information: log q(y | whole path) - log p(y)."""
        return self.by_level[:, -1]

    @property
    def stderr(self) -> Tensor:
        """`(N,)` standard error over noise draws; not a number where there is one draw."""
        log_q = self._true(self.log_posterior)[..., -1]
        draws = log_q.shape[1]
        return log_q.std(1) / draws**0.5 if draws > 1 else torch.full_like(log_q[:, 0], float("nan"))

    def mean(self) -> Value:
        """The bound, with its standard error over pairs."""
        return mean_over_pairs(self.nats, self.stderr)

    @property
    def below(self) -> Value:
        """Information estimated to lie below the path's noisy end: half of the gap there."""
        return self.against_mixture.using("gap").boundary.low

    @property
    def settled(self) -> float:
        """The level from which on the mean information stays where it ends; steps beyond it were not needed."""
        mean = self.by_level.mean(0)
        moved = ((mean - mean[-1]).abs() > SETTLED).nonzero().flatten()
        return float(self.logsnr[int(moved[-1]) + 1]) if len(moved) else float(self.logsnr[0])

    def influence(self) -> Influence:
        """What the condition still adds at each level of the path: I(A; B | X_tau), from log q."""
        levels = self.by_level
        spread = self._true(self.log_posterior)
        rest = levels[:, -1:] - levels
        draws = spread.shape[1]
        error = (spread[..., -1:] - spread).std(1) / draws**0.5 if draws > 1 else torch.full_like(rest, float("nan"))
        return Influence(self.logsnr, rest, error)

    def __str__(self) -> str:
        low, high = float(self.logsnr[0]), float(self.logsnr[-1])
        lines = [
            f"{self.mean()} or more, over {len(self)} pairs and {len(self.posterior.candidates)} candidates (log q, "
            f"log-SNR {low:.2f} to {high:.2f} in {len(self.logsnr) - 1} steps, settled from {self.settled:.2f} on, "
            f"{self.posterior.curve.evaluations} evaluations); about {self.below.value:.3f} lie below"
        ]
        return "\n".join([*lines, *(f"warning: {text}" for text in self.posterior.notes)])
