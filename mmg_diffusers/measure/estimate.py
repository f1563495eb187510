"""The record of a measurement: what the curve adds up to, how far it can be believed, and what made it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor

from mmg_diffusers.checks import needs, of_type, shown, two_ends
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.files.records import versions
from mmg_diffusers.measure.influence import Influence, influence
from mmg_diffusers.measure.measured import Measured, same_origin, to_merge
from mmg_diffusers.measure.moments import (
    WEIGHED,
    Curve,
    Integrand,
    OutsideNorm,
    check_integrand,
    noise_error,
)
from mmg_diffusers.measure.noise import integrate, own_stderr, stderr_of_pairs
from mmg_diffusers.measure.tolerance import Tolerance
from mmg_diffusers.measure.value import Labels, Value, mean_over_pairs
from mmg_diffusers.measure.weighing import Contributions, Share, halved, share_of
from mmg_diffusers.measure.weights import trapezoid_over, trapezoid_within

if TYPE_CHECKING:
    import pandas

# An end of the curve counts as decayed below this share of the curve's peak, or within two standard errors of 0.
DECAYED = 0.05


# What it means that gap and orthogonal differ, by what is compared.
DISAGREEMENT = {
    "conditions": "the two branches are not the marginal and the conditional of one distribution",
    "models": "the model that x should come from does not denoise them as its own draws",
    "reference": "the network does not denoise x as draws of its own law",
}


class Boundary(NamedTuple):
    """What lies beyond the ends of the range, if the curve decays there as exp(+-logsnr): half of its end values.

    `low_decayed` and `high_decayed` tell at which end that estimate can be trusted; if the curve has not decayed, the
    integral depends on where it was cut.
    """

    low: Value
    high: Value
    low_decayed: bool
    high_decayed: bool


@dataclass(frozen=True)
class Estimate(Measured):
    """Mutual information of every pair, in nats, with what is needed to believe it.

    `nats[i]` estimates i(x_i; y_i) = log p(x_i | y_i) / p(x_i) as far as the model's two branches tell it, over the
    log-SNR range of the curve: exactly, i(y; x at the high end) - i(y; x at the low end). It may be negative (the condition
    misinforms). It depends on the model, the settings, the seed and the pair's id alone. `mean` estimates I(X; Y).
    """

    FORMAT = "mmg_diffusers.Estimate/3"
    KIND = "estimate"

    curve: Curve
    integrand: Integrand
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    notes: tuple[str, ...] = ()
    tolerance: Tolerance | None = None
    compares: str = "conditions"

    def __post_init__(self) -> None:
        check_integrand(self.integrand)
        of_type(self.curve, Curve, "the curve of an estimate", "a Curve")
        of_type(self.settings, Mapping, "settings", "a mapping of names to what JSON can hold")

    @property
    def pair_ids(self) -> Tensor:
        """`(N,)` int64."""
        return self.curve.pair_ids

    # ---- numbers ----

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
        # A tolerance stopped each pair by its own draws, of which there are different numbers.
        error = own_stderr if self.tolerance is not None else stderr_of_pairs
        if self.integrand not in WEIGHED:
            return nats, error(self.values, curve.weight, curve.independent)
        moving = error(curve.weighed(curve.shares().moving), curve.weight, curve.independent)
        most = [error(form, curve.weight, curve.independent) for form in (curve.gap, curve.orthogonal)]
        return nats, torch.minimum(moving, torch.stack(most).amax(0))

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

    @cached_property
    def reached(self) -> Tensor:
        """`(N,)` whether the draws of a pair brought its standard error down to the tolerance.

        Raises:
            ValueError: for a measurement without a tolerance.
        """
        if self.tolerance is None:
            raise ValueError("this was measured without a tolerance; measure with tolerance=Tolerance(stderr)")
        return self.tolerance.reached(noise_error(self.curve, self.integrand))

    def mean(self, cluster: Labels | None = None) -> Value:
        """Mutual information: the mean over pairs, with its standard error over pairs.

        The forms of ``"auto"`` and ``"balanced"`` are weighed anew, by all pairs, so that it is not the mean of `nats`.
        `cluster` as in `Measured.mean`.
        """
        return super().mean(cluster)

    def using(self, integrand: Integrand) -> Estimate:
        """The same measurement read with another integrand; no network is called."""
        return replace(self, integrand=integrand)

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

    def warnings(self) -> tuple[str, ...]:
        """List what a reader should know about this estimate before the number."""
        said = list(self.notes)
        if self.tolerance is not None and not bool(self.reached.all()):
            said.append(
                f"{int((~self.reached).sum())} of {len(self)} pairs have not reached a standard error of "
                f"{self.tolerance.stderr:g} nats within {self.tolerance.most} draws"
            )
        difference, stderr = self.certificate
        if abs(difference) > max(3 * stderr, 0.02 * abs(self.mean().value)):
            said.append(f"gap - orthogonal = {difference:.3f} +- {stderr:.3f} nats: {DISAGREEMENT[self.compares]}")
        low, high = self.logsnr_range
        for end, value, decayed in (
            (low, self.boundary.low, self.boundary.low_decayed),
            (high, self.boundary.high, self.boundary.high_decayed),
        ):
            if not decayed:
                said.append(f"the curve has not decayed at log-SNR {end:.2f}; about {value.value:.3f} nats lie beyond")
        return tuple(said)

    def __str__(self) -> str:
        low, high = self.logsnr_range
        lines = [
            f"{self.mean()} over {len(self)} pairs ({self.integrand}, log-SNR {low:.2f} to {high:.2f}, "
            f"{self.evaluations} evaluations, certificate {self.certificate.value:.4f} +- {self.certificate.stderr:.4f})"
        ]
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings())])

    # ---- maps ----

    def pixel_map(
        self, integrand: Literal["gap", "orthogonal"] = "orthogonal", band: tuple[float, float] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Information per pixel of the denoised variable, and its standard error, `(N, *pixels)` nats.

        A map sums to the pair's value under the same integrand. Maps of adjoining bands add up.

        Args:
            integrand: ``"orthogonal"`` is nowhere negative, ``"gap"`` is signed.
            band: the part of the log-SNR range that is integrated over; an infinite end is the range's own. All
                by default.

        Raises:
            ValueError: when the pixels, or for a band the levels, were not kept; for a band outside of the range, or of
                a measurement other than by the trapezoidal rule on levels that all pairs share.
        """
        maps, curve = self.curve.maps, self.curve
        if integrand not in maps:
            raise ValueError(f"no {shown(integrand)} map was kept; measure with keep='pixel'")
        if band is None:
            return maps[integrand], maps[f"{integrand}_stderr"]
        if f"{integrand}_levels" not in maps:
            raise ValueError("a band needs the maps at every level; measure with keep='level'")
        grid = curve.grid()
        if grid is None or not torch.allclose(grid[1], trapezoid_over(grid[0], *self.logsnr_range)):
            raise ValueError(
                "a band needs rising levels that all pairs share, with the weights of the trapezoidal rule; measure with "
                "quadrature=Trapezoid(levels), the default"
            )
        ends = two_ends(band, "band", unbounded=True)
        weight = trapezoid_within(grid[0], *ends, self.logsnr_range).view(1, -1, *(1,) * (maps[integrand].ndim - 1)) / 2
        nats = (weight * maps[f"{integrand}_levels"]).sum(1)
        return nats, (weight.square() * maps[f"{integrand}_variance"]).sum(1).sqrt()

    def influence(self, convention: Convention | None = None) -> Influence:
        """What the condition still adds at each noise level; see `mmg_diffusers.measure.influence.influence`."""
        return influence(self, convention)

    # ---- tables and files ----

    def to_pandas(self) -> pandas.DataFrame:
        """One row a pair: id, nats, stderr, both forms, draws, and with a tolerance whether it was reached."""
        needs("pandas", "data")
        import pandas

        gap, orthogonal = self.using("gap"), self.using("orthogonal")
        table = pandas.DataFrame(
            {
                "pair": self.curve.pair_ids.numpy(),
                "nats": self.nats.numpy(),
                "stderr": self.stderr.numpy(),
                "gap": gap.nats.numpy(),
                "gap_stderr": gap.stderr.numpy(),
                "orthogonal": orthogonal.nats.numpy(),
                "orthogonal_stderr": orthogonal.stderr.numpy(),
                "draws": self.curve.draws.numpy(),
            }
        )
        return table if self.tolerance is None else table.assign(reached=self.reached.numpy())

    @staticmethod
    def merge(shards: Sequence[Estimate]) -> Estimate:
        """Join estimates of different pairs; "auto" and "balanced" weigh the forms in the mean anew, over all of them.

        Raises:
            ValueError: if the shards were measured with different settings, levels, integrands or versions, or
                share a pair.
        """
        first = to_merge(shards, Estimate)
        for other in shards:
            if other.integrand != first.integrand or other.tolerance != first.tolerance:
                raise ValueError(
                    f"estimates were measured with different settings: {first.integrand}, {first.tolerance} and "
                    f"{other.integrand}, {other.tolerance}; read all by one integrand (`using`)"
                )
        notes = same_origin(shards, "estimate")
        curve = Curve.merge([shard.curve for shard in shards])
        return Estimate(curve, first.integrand, first.settings, first.versions, notes, first.tolerance, first.compares)

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The curve as tensors, and everything else; for files."""
        tensors, record = self.curve.packed()
        return tensors, record | {
            "integrand": asdict(self.integrand) if isinstance(self.integrand, OutsideNorm) else self.integrand,
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "notes": list(self.notes),
            "tolerance": None if self.tolerance is None else asdict(self.tolerance),
            "compares": self.compares,
        }

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Estimate:
        """From what `packed` gave."""
        curve = Curve.unpacked(tensors, record)
        integrand = record["integrand"]
        if isinstance(integrand, dict):
            integrand = OutsideNorm(**integrand)
        tolerance = None if record["tolerance"] is None else Tolerance(**record["tolerance"])
        # Older files hold pairs of conditions, or did not say what they compared.
        compares = record.get("compares", "conditions")
        return cls(
            curve, integrand, record["settings"], record["versions"], tuple(record["notes"]), tolerance, compares
        )
