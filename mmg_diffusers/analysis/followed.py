"""What candidates that were followed along a noise path say, level by level."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mmg_diffusers.measure.candidates import CandidateCurve
from mmg_diffusers.measure.moments import Curve
from mmg_diffusers.measure.value import Value, mean_over_pairs
from mmg_diffusers.pairs.mixture import Mixture

# The posterior has settled where its mean information is within this of where it ends, in nats.
SETTLED = 0.005


@dataclass(frozen=True, repr=False)
class Followed:
    """The candidates of every variable, and the scores that they had along its path.

    Levels are those at which steps begin, L of them, and the end of the last step.
    """

    evidence: CandidateCurve
    mixture: Mixture

    def __post_init__(self) -> None:
        asked, held = tuple(self.mixture.slots.shape), (len(self.evidence.score), self.evidence.score.shape[-1])
        if asked != held:
            raise ValueError(f"the candidates are of {asked} variables and slots, the evidence of {held}")

    @property
    def logsnr(self) -> Tensor:
        """`(L + 1,)` levels of the path."""
        return self.evidence.logsnr

    @property
    def compared(self) -> Curve:
        """The true candidate compared with the mixture of all.

        Raises:
            ValueError: for evidence that was measured without the true candidates.
        """
        if self.evidence.mixture is None:
            raise ValueError("the evidence was measured without the true candidates; filter with pipe.filter")
        return self.evidence.mixture

    @cached_property
    def log_posterior(self) -> Tensor:
        """log q(candidate | path up to each level), `(N, D, L + 1, K)`, as it stands (no calibration)."""
        score = self.evidence.score
        start = self.mixture.log_prior[:, None, None].expand(-1, score.shape[1], 1, -1)
        return torch.log_softmax(torch.cat([start, score], 2).cumsum(2), 3)

    def of_true(self, log_posterior: Tensor) -> Tensor:
        """The entries of each variable's true candidate, `(N, D, L + 1)`."""
        index = self.mixture.truth.view(-1, 1, 1, 1).expand(*log_posterior.shape[:3], 1)
        return log_posterior.gather(3, index)[..., 0]

    @property
    def by_level(self) -> Tensor:
        """log q(y | path up to each level) - log p(y), `(N, L + 1)`, averaged over draws."""
        return self.of_true(self.log_posterior).mean(1) - self.mixture.log_prior.gather(1, self.mixture.truth[:, None])

    @property
    def entropy_by_level(self) -> Tensor:
        """H(Y) - H(q at each level), `(N, L + 1)`: the same in expectation if q is calibrated."""
        before = torch.special.entr(self.mixture.prior).sum(1, keepdim=True)
        return before - torch.special.entr(self.log_posterior.exp()).sum(3).mean(1)

    def integrated_by_level(self, form: str = "gap") -> Tensor:
        """The integral of the comparison with the mixture up to each of the first L levels, `(N, L)`."""
        curve = self.compared
        values = getattr(curve, form).mean(1) / 2
        step = curve.logsnr[:, 0].diff(dim=1) * (values[:, 1:] + values[:, :-1]) / 2
        return torch.cat([torch.zeros_like(values[:, :1]), step.cumsum(1)], 1)

    @property
    def steadied_by_level(self) -> Tensor:
        """The integral of the gap up to each of the first L levels, steadied, `(N, L)`; NaN without innovations.

        What a small step adds to log q is half of the gap over it and a multiple of its innovation, which no prediction
        knows (Duncan 1968): with it the gap has the expectation that it had, and most of its noise is gone.
        """
        integral = self.integrated_by_level("gap")
        innovation = self.evidence.innovation
        if innovation is None:
            return torch.full_like(integral, float("nan"))
        return integral + torch.cat([torch.zeros_like(integral[:, :1]), innovation.mean(1).cumsum(1)[:, :-1]], 1)

    @property
    def step_error(self) -> Value:
        """What the steadied gap lies above log q at the end: 0 if steps are small enough, whatever the network."""
        difference = self.steadied_by_level[:, -1] - self.by_level[:, -2]
        return mean_over_pairs(difference)

    @property
    def settled(self) -> float:
        """The level from which on the mean information stays where it ends; steps beyond it were not needed."""
        mean = self.by_level.mean(0)
        moved = ((mean - mean[-1]).abs() > SETTLED).nonzero().flatten()
        return float(self.logsnr[int(moved[-1]) + 1]) if len(moved) else float(self.logsnr[0])
