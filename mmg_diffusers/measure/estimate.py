"""The record of a measurement: what the curve adds up to, how far it can be believed, and what made it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmg_diffusers.checks import needs, of_type, shown, two_ends
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.files.printed import in_short
from mmg_diffusers.files.records import versions
from mmg_diffusers.measure.allowance import Allowance
from mmg_diffusers.measure.ceiling import ceiling_of, joined
from mmg_diffusers.measure.influence import Influence, influence
from mmg_diffusers.measure.judging import of_ceiling, of_certificate, of_decay, of_errors, of_null, of_pairs
from mmg_diffusers.measure.measured import Measured, same_origin, to_merge
from mmg_diffusers.measure.moments import (
    WEIGHED,
    Curve,
    Form,
    Integrand,
    OutsideNorm,
    noise_error,
)
from mmg_diffusers.measure.noise import own_stderr
from mmg_diffusers.measure.reading import Reading
from mmg_diffusers.measure.tolerance import Tolerance
from mmg_diffusers.measure.value import Labels, Value
from mmg_diffusers.measure.verdict import Finding, packed_notes, unpacked_notes
from mmg_diffusers.measure.weights import trapezoid_over, trapezoid_within

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Estimate(Reading, Measured):
    """Mutual information of every pair, in nats, with what is needed to believe it.

    `nats[i]` estimates i(x_i; y_i) = log p(x_i | y_i) / p(x_i) as far as the model's two branches tell it, over the
    log-SNR range of the curve: exactly, i(y; x at the high end) - i(y; x at the low end). It may be negative (the condition
    misinforms). It depends on the model, the settings, the seed and the pair's id alone. `mean` estimates I(X; Y).
    """

    FORMAT = "mmg_diffusers.Estimate/3"
    KIND = "estimate"

    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    notes: tuple[str, ...] = ()
    tolerance: Tolerance | None = None
    compares: str = "conditions"
    ceiling: Tensor | None = None
    """`(N,)` the most that each pair can tell of a discrete y: -log p(y), or H(Y) for all; ``None`` if not known."""
    allowance: Allowance | None = None
    """What is known of the mean beyond its pairs; ``None``: nothing, and its error is that over pairs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        ceiling_of(self.ceiling, len(self))
        of_type(self.settings, Mapping, "settings", "a mapping of names to what JSON can hold")

    # ---- numbers ----

    @property
    def _error_of_pairs(self) -> Callable[[Tensor, Tensor, bool], Tensor]:
        # A tolerance stopped each pair by its own draws, of which there are different numbers.
        return own_stderr if self.tolerance is not None else super()._error_of_pairs

    @cached_property
    def excess(self) -> Value | None:
        """How far the mean lies above what y can hold at most, its error that of the difference; ``None`` if not known.

        Above 0 by more than the error, the estimate is wrong, whatever else it says: I(X; Y) <= H(Y).
        """
        if self.ceiling is None:
            return None
        most = self.ceiling
        return self.in_mean().map(lambda nats: nats - most).mean(self.stderr)

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
        `cluster` as in `Measured.mean`. With an `allowance` the error holds its parts as well.
        """
        value = super().mean(cluster)
        if self.allowance is None:
            return value
        return self.allowance.of(value) if cluster is None else self.allowance.of(super().mean(), value)

    def using(self, integrand: Integrand) -> Estimate:
        """The same measurement read with another integrand; no network is called.

        What stood in place of the measured mean is dropped: a form says what the network said.
        """
        allowance = self.allowance and replace(self.allowance, instead=None)
        return replace(self, integrand=integrand, allowance=allowance)

    def noting(self, *findings: str | None) -> Estimate:
        """The same with findings of something else beside it, such as `Audit.finding`; none of ``None``."""
        return replace(self, notes=(*self.notes, *(found for found in findings if found is not None)))

    def warnings(self) -> tuple[str, ...]:
        """List what a reader should know about this estimate before the number."""
        mean = self.mean()
        said: list[str] = []
        if self.excess is not None and self.ceiling is not None:
            said += of_ceiling(self.excess, float(self.ceiling.mean()))
        # What speaks for the number, such as an audit, is no warning.
        said += [note for note in self.notes if not (isinstance(note, Finding) and note.grade == "trust")]
        if self.tolerance is not None and not bool(self.reached.all()):
            said.append(
                f"{int((~self.reached).sum())} of {len(self)} pairs have not reached a standard error of "
                f"{self.tolerance.stderr:g} nats within {self.tolerance.most} draws"
            )
        # Of a number that stands in place of the branches' own, theirs say nothing.
        own = self.allowance is None or self.allowance.instead is None
        if own:
            said += of_certificate(self, mean.value, self.compares)
        if self.compares == "conditions":
            said += of_errors(self, mean.value) if own else []
            said += of_null(self.settings, self.notes)
        said += of_decay(self, mean.value, self.compares) if own else []
        return (*said, *of_pairs(len(self), mean, self.compares))

    def __str__(self) -> str:
        low, high = self.logsnr_range
        lines = [
            f"verdict: {self.verdict}",
            f"{self.mean()} over {len(self)} pairs ({self.integrand}, log-SNR {low:.2f} to {high:.2f}, "
            f"{self.evaluations} evaluations, certificate {self.certificate.value:.4f} +- {self.certificate.stderr:.4f})",
        ]
        return in_short(lines, self.verdict.told)

    # ---- maps ----

    def pixel_map(
        self, integrand: Form = "orthogonal", band: tuple[float, float] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Information per pixel of the denoised variable, and its standard error, `(N, *pixels)` nats.

        A map sums to the pair's value under the same integrand. Maps of adjoining bands add up.

        Args:
            integrand: ``"orthogonal"`` is nowhere negative, ``"gap"`` is signed; ``"auto"`` and ``"balanced"`` weigh both, as they
                do in `nats` of the pair, and their errors are those of either at most.
            band: the part of the log-SNR range that is integrated over; an infinite end is the range's own. All
                by default.

        Raises:
            ValueError: when the pixels, or for a band the levels, were not kept; for a band outside of the range, or of
                a measurement other than by the trapezoidal rule on levels that all pairs share.
        """
        maps, curve = self.curve.maps, self.curve
        if integrand in WEIGHED:
            gap, orthogonal = self.pixel_map("gap", band), self.pixel_map("orthogonal", band)
            share = curve.shares().share.view(-1, *(1,) * (gap[0].ndim - 1))
            nats, stderr = (share * one + (1 - share) * other for one, other in zip(gap, orthogonal, strict=True))
            return nats, stderr
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
        made = Estimate(curve, first.integrand, first.settings, first.versions, notes, first.tolerance)
        allowance = first.allowance if all(shard.allowance == first.allowance for shard in shards) else None
        ceiling = joined([shard.ceiling for shard in shards])
        return replace(made, compares=first.compares, ceiling=ceiling, allowance=allowance)

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The curve as tensors, and everything else; for files."""
        tensors, record = self.curve.packed()
        if self.ceiling is not None:
            tensors = tensors | {"ceiling": self.ceiling}
        return tensors, record | {
            "integrand": asdict(self.integrand) if isinstance(self.integrand, OutsideNorm) else self.integrand,
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "notes": packed_notes(self.notes),
            "tolerance": None if self.tolerance is None else asdict(self.tolerance),
            "compares": self.compares,
            "allowance": None if self.allowance is None else self.allowance.record(),
        }

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Estimate:
        """From what `packed` gave."""
        curve = Curve.unpacked({name: value for name, value in tensors.items() if name != "ceiling"}, record)
        integrand = record["integrand"]
        if isinstance(integrand, dict):
            integrand = OutsideNorm(**integrand)
        tolerance = None if record["tolerance"] is None else Tolerance(**record["tolerance"])
        return cls(
            curve,
            integrand,
            record["settings"],
            record["versions"],
            unpacked_notes(record["notes"]),
            tolerance,
            # Older files hold pairs of conditions, or did not say what they compared.
            record.get("compares", "conditions"),
            tensors.get("ceiling"),
            None if record.get("allowance") is None else Allowance.from_record(record["allowance"]),
        )
