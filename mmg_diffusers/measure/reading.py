"""What a curve adds up to when it is read by one form: of every pair, in the mean, and beyond the ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from mmg_diffusers.checks import of_type
from mmg_diffusers.measure.moments import WEIGHED, Curve, Integrand, check_integrand
from mmg_diffusers.measure.noise import integrate, stderr_of_pairs
from mmg_diffusers.measure.value import Labels, Value, mean_over_pairs
from mmg_diffusers.measure.weighing import Contributions, Share, halved, share_of

# An end of the curve counts as decayed below this share of the curve's peak, or within two standard errors of 0.
DECAYED = 0.05


class Boundary(NamedTuple):
    """What lies beyond the ends of the range, if the curve decays there as exp(+-logsnr): half of its end values.

    `low_decayed` and `high_decayed` tell at which end that estimate can be trusted; if the curve has not decayed, the
    integral depends on where it was cut.
    """

    low: Value
    high: Value
    low_decayed: bool
    high_decayed: bool


@dataclass(frozen=True, repr=False)
class Reading:
    """A curve, and the form that it is read by."""

    curve: Curve
    integrand: Integrand

    def __post_init__(self) -> None:
        check_integrand(self.integrand)
        of_type(self.curve, Curve, "the curve of an estimate", "a Curve")

    @property
    def pair_ids(self) -> Tensor:
        """`(N,)` int64."""
        return self.curve.pair_ids

    def __len__(self) -> int:
        return len(self.pair_ids)

    @cached_property
    def certificate(self) -> Value:
        """Mean of gap - orthogonal over pairs. It is 0 for ideal denoisers, whatever the data.

        Far from 0, in units of its standard error, the two branches are not the marginal and the conditional of one
        distribution, and the estimate says so about the model, not about the data. Of two models, or of one and a
        Gaussian, the first is not that of x.
        """
        return mean_over_pairs(*self._difference)

    @cached_property
    def _difference(self) -> tuple[Tensor, Tensor]:
        """`(N,)` gap - orthogonal in nats, and the standard error that the noise leaves in it."""
        return integrate(self.curve.gap - self.curve.orthogonal, self.curve.weight, self.curve.independent)

    @cached_property
    def gap_share(self) -> float:
        """The share of gap in the mean over pairs, from 0 (orthogonal) to 1 (gap, and differences outside)."""
        if self.integrand not in WEIGHED:
            return float(self.integrand != "orthogonal")
        return float(self._share_in_mean().share)

    def _share_in_mean(self, cluster: Labels | None = None) -> Share:
        """The share in the mean over pairs, by the certificate; that of a single pair is the pair's."""
        if len(self) == 1:
            share, moving = self.curve.shares()
            return Share(share[0], moving[0])
        difference, stderr = torch.tensor(mean_over_pairs(*self._difference, cluster), dtype=torch.float64)
        share = share_of(difference, stderr)
        # What over-fitting takes from gap it adds to orthogonal.
        return halved(share) if self.integrand == "balanced" and difference < 0 else share

    @property
    def values(self) -> Tensor:
        """`(N, D, L)` the integrand of each pair; half its integral over log-SNR is `nats`."""
        if self.integrand not in WEIGHED:
            return self.curve.values(self.integrand)
        return self.curve.weighed(self.curve.shares().share)

    def in_mean(self, cluster: Labels | None = None) -> Contributions:
        """What each pair adds to the mean, `(N,)`: its nats, unless forms are weighed, by one weight in the mean."""
        return self.integrated_in_mean(
            lambda values: integrate(values, self.curve.weight, self.curve.independent)[0], cluster
        )

    def integrated_in_mean(self, integral: Callable[[Tensor], Tensor], cluster: Labels | None = None) -> Contributions:
        """The same of another linear integral of an integrand `(N, D, L)`, such as that from each level upwards."""
        if self.integrand not in WEIGHED:
            return Contributions.of(integral(self.values))
        share, moving = self._share_in_mean(cluster)
        nats, moving = (integral(self.curve.weighed(float(weight))) for weight in (share, moving))
        return Contributions(nats, moving, (integral(self.curve.gap), integral(self.curve.orthogonal)))

    @cached_property
    def _integrated(self) -> tuple[Tensor, Tensor]:
        curve = self.curve
        nats = integrate(self.values, curve.weight, curve.independent)[0]
        error = self._error_of_pairs
        if self.integrand not in WEIGHED:
            return nats, error(self.values, curve.weight, curve.independent)
        moving = error(curve.weighed(curve.shares().moving), curve.weight, curve.independent)
        most = [error(form, curve.weight, curve.independent) for form in (curve.gap, curve.orthogonal)]
        return nats, torch.minimum(moving, torch.stack(most).amax(0))

    @property
    def _error_of_pairs(self) -> Callable[[Tensor, Tensor, bool], Tensor]:
        return stderr_of_pairs

    @property
    def nats(self) -> Tensor:
        """`(N,)` pointwise mutual information; that of a pair does not depend on the others."""
        return self._integrated[0]

    @property
    def stderr(self) -> Tensor:
        """`(N,)` standard error of `nats` from the noise draws: those of the pair, and of the others if there is no tolerance;
        see `mmg_diffusers.measure.noise.stderr_of_pairs`.
        """  # fmt: skip
        return self._integrated[1]

    @property
    def logsnr_range(self) -> tuple[float, float]:
        """The range of log-SNR that was integrated over."""
        return self.curve.logsnr_range

    @property
    def evaluations(self) -> int:
        """Rows that went through the network: pairs x levels x draws x branches."""
        return self.curve.evaluations

    @cached_property
    def boundary(self) -> Boundary:
        """Information estimated to lie beyond either end of the range, with flags; see `Boundary`."""
        values = self.integrated_in_mean(self.curve.by_level).nats / 2
        profile = values.mean(0)
        peak = float(profile.abs().max())
        ends: list[Value] = []
        decayed: list[bool] = []
        for column in (0, -1):
            end = values[:, column]
            value = Value(float(end.mean()), float(end.std() / len(end) ** 0.5) if len(end) > 1 else 0.0)
            ends.append(value)
            decayed.append(abs(value.value) <= max(DECAYED * peak, 2 * value.stderr))
        return Boundary(ends[0], ends[1], decayed[0], decayed[1])
