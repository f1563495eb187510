"""The record of a measurement: what the curve adds up to, how far it can be believed, and what made it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor

from mmg_diffusers.checks import file_path, of_type, shown, two_ends
from mmg_diffusers.files.records import pack, read_record, unpack, versions
from mmg_diffusers.files.whole import write_whole
from mmg_diffusers.measure.moments import (
    WEIGHED,
    Curve,
    Integrand,
    Outside,
    check_integrand,
    integrate,
    noise_error,
)
from mmg_diffusers.measure.quadrature import trapezoid, trapezoid_within
from mmg_diffusers.measure.tolerance import Tolerance

if TYPE_CHECKING:
    import pandas

FORMAT = "mmg_diffusers.Estimate/3"
# An end of the curve counts as decayed below this share of the curve's peak, or within two standard errors of 0.
DECAYED = 0.05


class Value(NamedTuple):
    """A number in nats and its standard error."""

    value: float
    stderr: float

    def bits(self) -> Value:
        """The same in bits."""
        nats = torch.tensor(2.0).log().item()
        return Value(self.value / nats, self.stderr / nats)

    def __str__(self) -> str:
        return f"{self.value:.4f} +- {self.stderr:.4f} nats"


class Boundary(NamedTuple):
    """What lies beyond the ends of the range, if the curve decays there as exp(+-logsnr): half of its end values.

    `low_decayed` and `high_decayed` tell where that estimate can be trusted; where the curve has not decayed, the
    integral depends on where it was cut.
    """

    low: Value
    high: Value
    low_decayed: bool
    high_decayed: bool


def mean_over_pairs(nats: Tensor, stderr: Tensor | None = None) -> Value:
    """Mean of `(N,)` values with its standard error over pairs; of a single pair, with that pair's own error, if it is known."""
    count = len(nats)
    own = math.nan if stderr is None else float(stderr[0])
    return Value(float(nats.mean()), float(nats.std()) / count**0.5 if count > 1 else own)


@dataclass(frozen=True)
class Estimate:
    """Mutual information of every pair, in nats, with what is needed to believe it.

    `nats[i]` estimates i(x_i; y_i) = log p(x_i | y_i) / p(x_i) as far as the model's two branches tell it, over the log-SNR
    range of the curve: exactly, i(y; x at the high end) - i(y; x at the low end). It may be negative (the condition
    misinforms). Its mean over pairs estimates I(X; Y).
    """

    curve: Curve
    integrand: Integrand
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    notes: tuple[str, ...] = ()
    tolerance: Tolerance | None = None

    def __post_init__(self) -> None:
        check_integrand(self.integrand)
        of_type(self.curve, Curve, "the curve of an estimate", "a Curve")
        of_type(self.settings, Mapping, "settings", "a mapping of names to what JSON can hold")

    def __len__(self) -> int:
        return len(self.curve)

    # ---- numbers ----

    @cached_property
    def certificate(self) -> Value:
        """Mean of gap - orthogonal over pairs. It is 0 for ideal denoisers, whatever the data.

        Far from 0, in units of its standard error, the two branches are not the marginal and the conditional of one
        distribution, and the estimate says so about the model, not about the data.
        """
        nats, stderr = integrate(self.curve.gap - self.curve.orthogonal, self.curve.weight, self.curve.independent)
        return mean_over_pairs(nats, stderr)

    @cached_property
    def gap_share(self) -> float:
        """The share of the gap form in the estimate, between 0 (orthogonal) and 1 (gap, and differences outside)."""
        if self.integrand not in WEIGHED:
            return float(self.integrand != "orthogonal")
        difference, stderr = self.certificate
        if difference == 0.0:
            return 0.0
        share = max(0.0, 1.0 - (stderr / difference) ** 2)
        # What over-fitting takes from gap it adds to orthogonal.
        return share / 2 if self.integrand == "balanced" and difference < 0 else share

    @property
    def values(self) -> Tensor:
        """`(N, D, L)` the integrand; half its integral over log-SNR is `nats`."""
        if self.integrand not in WEIGHED:
            return self.curve.values(self.integrand)
        return self.curve.orthogonal + self.gap_share * (self.curve.gap - self.curve.orthogonal)

    @cached_property
    def _integrated(self) -> tuple[Tensor, Tensor]:
        return integrate(self.values, self.curve.weight, self.curve.independent)

    @property
    def nats(self) -> Tensor:
        """`(N,)` pointwise mutual information."""
        return self._integrated[0]

    @property
    def stderr(self) -> Tensor:
        """`(N,)` standard error of `nats` from the noise draws."""
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

    def mean(self) -> Value:
        """Mutual information: the mean over pairs, with its standard error over pairs."""
        return mean_over_pairs(self.nats, self.stderr)

    def bits(self) -> Tensor:
        """`nats` in bits."""
        return self.nats / torch.tensor(2.0, dtype=torch.float64).log()

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
        values = self.curve.by_level(self.values) / 2
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
        """Everything about this estimate that a reader should be told before the number."""
        found = list(self.notes)
        if self.tolerance is not None and not bool(self.reached.all()):
            found.append(
                f"{int((~self.reached).sum())} of {len(self)} pairs have not reached a standard error of "
                f"{self.tolerance.stderr:g} nats within {self.tolerance.most} draws"
            )
        difference, stderr = self.certificate
        if abs(difference) > max(3 * stderr, 0.02 * abs(self.mean().value)):
            found.append(
                f"gap - orthogonal = {difference:.3f} +- {stderr:.3f} nats: the two branches are not the marginal and the "
                "conditional of one distribution"
            )
        low, high = self.logsnr_range
        for end, value, decayed in (
            (low, self.boundary.low, self.boundary.low_decayed),
            (high, self.boundary.high, self.boundary.high_decayed),
        ):
            if not decayed:
                found.append(f"the curve has not decayed at log-SNR {end:.2f}; about {value.value:.3f} nats lie beyond")
        return tuple(found)

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
            band: the part of the log-SNR range that is integrated over; an infinite end is the range's own. All by default.

        Raises:
            ValueError: when the pixels, or for a band the levels, were not kept; for a band outside of the range, or of
                a measurement that is no trapezoidal rule on levels that all pairs share.
        """
        maps, curve = self.curve.maps, self.curve
        if integrand not in maps:
            raise ValueError(f"no {shown(integrand)} map was kept; measure with keep='pixel'")
        if band is None:
            return maps[integrand], maps[f"{integrand}_stderr"]
        if f"{integrand}_levels" not in maps:
            raise ValueError("a band needs the maps at every level; measure with keep='level'")
        found = curve.grid()
        if found is None or not torch.allclose(found[1], trapezoid(found[0])):
            raise ValueError(
                "a band needs rising levels that all pairs share, with the weights of the trapezoidal rule; measure with "
                "quadrature=Trapezoid(levels), the default"
            )
        ends = two_ends(band, "band", unbounded=True)
        weight = trapezoid_within(found[0], *ends).view(1, -1, *(1,) * (maps[integrand].ndim - 1)) / 2
        nats = (weight * maps[f"{integrand}_levels"]).sum(1)
        return nats, (weight.square() * maps[f"{integrand}_variance"]).sum(1).sqrt()

    # ---- tables and files ----

    def to_pandas(self) -> pandas.DataFrame:
        """One row a pair: id, nats, stderr, both forms, draws, and with a tolerance whether it was reached."""
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
        """Join estimates of different pairs; "auto" and "balanced" weigh the two forms anew over all of them.

        Raises:
            ValueError: when the shards were measured with different settings or integrands, or share a pair.
        """
        of_type(shards, Sequence, "what is merged", "a list of estimates")
        if not shards:
            raise ValueError("there is no estimate to merge; expected at least one")
        first = shards[0]
        for other in shards:
            of_type(other, Estimate, "a shard", "an Estimate")
            same = other.integrand == first.integrand and other.tolerance == first.tolerance
            if not same or dict(other.settings) != dict(first.settings):
                raise ValueError(
                    f"estimates were measured with different settings: {first.integrand}, {dict(first.settings)} and "
                    f"{other.integrand}, {dict(other.settings)}"
                )
        notes = tuple(dict.fromkeys(note for shard in shards for note in shard.notes))
        curve = Curve.merge([shard.curve for shard in shards])
        return Estimate(curve, first.integrand, first.settings, first.versions, notes, first.tolerance)

    def to_bytes(self) -> bytes:
        """A safetensors file: the curve as tensors, everything else as JSON in its header."""
        tensors, record = self.curve.packed()
        record |= {
            "format": FORMAT,
            "integrand": asdict(self.integrand) if isinstance(self.integrand, Outside) else self.integrand,
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "notes": list(self.notes),
            "tolerance": None if self.tolerance is None else asdict(self.tolerance),
        }
        return pack(tensors, record)

    @classmethod
    def from_bytes(cls, body: bytes) -> Estimate:
        """Read what `to_bytes` gave.

        Raises:
            ValueError: when it is truncated, or no estimate.
        """
        try:
            tensors, record = unpack(body, FORMAT)
            curve = Curve.unpacked(tensors, record)
            integrand = record["integrand"]
            if isinstance(integrand, dict):
                integrand = Outside(**integrand)
            tolerance = None if record["tolerance"] is None else Tolerance(**record["tolerance"])
            return cls(curve, integrand, record["settings"], record["versions"], tuple(record["notes"]), tolerance)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"no complete estimate of this library: {error}") from error

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file, see `to_bytes`. It appears only when it is complete."""
        path = file_path(path, "the path of the estimate")
        write_whole(path, self.to_bytes())
        return path

    @classmethod
    def load(cls, path: str | Path) -> Estimate:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: when the file is truncated, or no estimate.
        """
        body = read_record(path, "estimate")
        try:
            return cls.from_bytes(body)
        except ValueError as error:
            raise ValueError(f"{path} is {error}") from error
