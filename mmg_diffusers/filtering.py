"""The posterior filter: a marginal made of candidates, and what the posterior says level by level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mmg_diffusers.candidates import CandidateCurve
from mmg_diffusers.influence import Influence
from mmg_diffusers.marginals import Mixture
from mmg_diffusers.result import Estimate, Value, mean_over_pairs, versions

# The posterior has settled where its mean information is within this of where it ends, in nats.
SETTLED = 0.005


@dataclass(frozen=True)
class Filtered:
    """Information of each variable about its true candidate, three ways along one Brownian path of noise.

    `evidence` holds the scores, `mixture` the candidates of every variable. Where a variable's candidates share a part, all
    is conditional on that part.

    The headline is log q(y | path) - log p(y): a lower bound in expectation whatever the network's errors, with little
    noise. It starts at the path's noisy end: what the noisy end already tells, `below`, is not in it.
    """

    evidence: CandidateCurve
    mixture: Mixture
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.mixture)

    @property
    def logsnr(self) -> Tensor:
        """`(L + 1,)` levels of the path."""
        return self.evidence.logsnr

    @property
    def evaluations(self) -> int:
        """Rows that went through the network."""
        return self.evidence.evaluations

    @cached_property
    def against_mixture(self) -> Estimate:
        """The true candidate against the mixture of all (gap and orthogonal), which needs no unconditional branch."""
        assert self.evidence.mixture is not None
        settings = {**self.settings, "base": "the mixture of candidates"}
        return Estimate(self.evidence.mixture, "auto", settings, self.versions, self.notes)

    @cached_property
    def log_posterior(self) -> Tensor:
        """log q(candidate | path up to each level), `(N, D, L + 1, K)`, as it stands (no calibration)."""
        score = self.evidence.score
        start = self.mixture.log_prior[:, None, None].expand(-1, score.shape[1], 1, -1)
        return torch.log_softmax(torch.cat([start, score], 2).cumsum(2), 3)

    def _true(self, log_posterior: Tensor) -> Tensor:
        index = self.mixture.truth.view(-1, 1, 1, 1).expand(*log_posterior.shape[:3], 1)
        return log_posterior.gather(3, index)[..., 0]

    @property
    def by_level(self) -> Tensor:
        """log q(y | path up to each level) - log p(y), `(N, L + 1)`, averaged over draws."""
        return self._true(self.log_posterior).mean(1) - self.mixture.log_prior.gather(1, self.mixture.truth[:, None])

    @property
    def entropy_by_level(self) -> Tensor:
        """H(Y) - H(q at each level), `(N, L + 1)`: the same in expectation where q is calibrated."""
        before = torch.special.entr(self.mixture.prior).sum(1, keepdim=True)
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
            f"{self.mean()} or more, over {len(self)} pairs and {self.mixture.slots.shape[1]} candidates (log q, "
            f"log-SNR {low:.2f} to {high:.2f} in {len(self.logsnr) - 1} steps, settled from {self.settled:.2f} on, "
            f"{self.evaluations} evaluations, at most {self.mixture.ceiling:.3f}); about {self.below.value:.3f} lie below"
        ]
        return "\n".join([*lines, *(f"warning: {text}" for text in self.notes)])
