"""The record of log-likelihoods, and of their differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from mmg_diffusers.checks import needs, of_type, shown
from mmg_diffusers.files.printed import in_short
from mmg_diffusers.files.records import versions, within
from mmg_diffusers.measure.control import Control
from mmg_diffusers.measure.judging import of_few
from mmg_diffusers.measure.measured import Measured, prefixed, same_origin, to_merge
from mmg_diffusers.measure.moments import Curve
from mmg_diffusers.measure.noise import integrate, stderr_of_pairs
from mmg_diffusers.measure.terms import Ends, ReferenceTerms
from mmg_diffusers.measure.value import Value, mean_over_pairs
from mmg_diffusers.measure.verdict import packed_notes, unpacked_notes

if TYPE_CHECKING:
    import pandas

# Nats a dimension below which what an end may lack is not worth a warning.
NEGLIGIBLE = 0.002


@dataclass(frozen=True, repr=False)
class LogLikelihood(Measured):
    """log p(x) of every x in nats, of the density at the resolution of the range's clean end; see `Density`.

    `surprise` is its negative. It depends on the model, the settings, the seed and the pair's id alone. A density has
    units: it may be above or below 0, and is compared only with densities of the same variable at the same resolution.
    `curve.gap` is the reference's error less the network's, and `curve.error` the network's.
    """

    FORMAT = "mmg_diffusers.LogLikelihood/1"
    KIND = "log-likelihood"
    TERMS: ClassVar[type[ReferenceTerms]] = ReferenceTerms

    curve: Curve
    terms: ReferenceTerms
    rows: Tensor
    event: tuple[int, ...]
    variable: str = "x"
    control: Control | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        of_type(self.curve, Curve, "the curve of a log-likelihood", "a Curve")
        if self.terms.surprise.shape != (len(self.curve),) or self.rows.shape != (len(self.curve),):
            raise ValueError(f"expected the reference's terms and a mark for each of {len(self.curve)} x")

    @property
    def pair_ids(self) -> Tensor:
        """`(N,)` int64."""
        return self.curve.pair_ids

    # ---- numbers ----

    @property
    def dimensions(self) -> int:
        """How many numbers make an x."""
        return math.prod(self.event)

    @property
    def _expected(self) -> Tensor:
        if self.terms.expected is None:
            raise ValueError("the log-likelihood has a control, but not what the reference is expected to err by")
        return self.terms.expected

    @property
    def values(self) -> Tensor:
        """`(N, D, L)` what is integrated: the reference's error, as far as controlled, less the network's."""
        return self.curve.gap if self.control is None else self.control.values(self.curve, self._expected)

    @cached_property
    def _nats(self) -> Tensor:
        return integrate(self.values, self.curve.weight, self.curve.independent)[0] - self.terms.surprise

    @property
    def nats(self) -> Tensor:
        """`(N,)` log p(x)."""
        return self._nats

    @property
    def surprise(self) -> Tensor:
        """`(N,)` -log p(x); its mean is at least the entropy of the data, whatever the network."""
        return -self.nats

    @cached_property
    def _stderr(self) -> Tensor:
        return stderr_of_pairs(self.values, self.curve.weight, self.curve.independent)

    @property
    def stderr(self) -> Tensor:
        """`(N,)` standard error of `nats` from the noise draws: those of x, and of the others; see `stderr_of_pairs`."""
        return self._stderr

    def bits_per_dim(self) -> Tensor:
        """`(N,)` surprise in bits a dimension of x."""
        return self.surprise / (self.dimensions * math.log(2))

    def bits_per_pixel(self) -> Tensor:
        """`(N,)` surprise in bits a pixel, all channels together; raises a ValueError for x that is not of pixels."""
        if len(self.event) != 3 or not self.variable.startswith("pixels"):
            raise ValueError(
                f"x is {self.variable}, {self.event}, and has no bits per pixel: a density of latents is none of pictures; "
                "bits_per_dim() is in units of x"
            )
        return self.surprise / (math.prod(self.event[1:]) * math.log(2))

    def pixel_map(self) -> tuple[Tensor, Tensor]:
        """log p by pixel, and its standard error, `(N, *pixels)` nats: a map sums to `nats`, and says where an x is unlikely.

        Raises:
            ValueError: if the pixels were not kept.
        """
        if self.terms.places is None:
            raise ValueError("no map was kept; measure with keep='pixel'")
        maps = self.curve.maps
        return maps["gap"] - self.terms.places, maps["gap_stderr"]

    @property
    def logsnr_range(self) -> tuple[float, float]:
        """The range of log-SNR that was integrated over."""
        return self.curve.logsnr_range

    @property
    def evaluations(self) -> int:
        """Rows that went through the network: x times levels times draws. The reference is in closed form."""
        return self.curve.evaluations

    @property
    def ends(self) -> Ends:
        """What lies beyond the range; see `Ends`."""
        return Ends((0.0, float(self.terms.low.mean())), math.exp(-self.logsnr_range[1] / 2))

    def versus(self, other: LogLikelihood) -> LogLikelihoodRatio:
        """log p(x) - log p'(x) of the same x at the same noise, most of which cancels.

        Raises:
            TypeError: for something else than a log-likelihood.
            ValueError: for another seed, reference, range, levels or x.
        """
        return LogLikelihoodRatio(self, other)

    # ---- words ----

    def warnings(self) -> tuple[str, ...]:
        """List what a reader should know about these numbers before them."""
        said = list(self.notes)
        if len(self) == 1 and self.curve.logsnr.shape[1] == 1:
            said.append(
                "one x and one draw: the error is what its own levels tell, too small if they missed a narrow peak; take draws=4"
            )
        size, ends = self.dimensions, self.ends
        if ends.low[1] > NEGLIGIBLE * size:
            said.append(
                f"below log-SNR {self.logsnr_range[0]:.2f} the reference stands in: the mean may be up to {ends.low[1]:.3g} nats too low"
            )
        said += self._said_of_clean_end(mean_over_pairs(self.nats, self.stderr).stderr)
        gain = mean_over_pairs(integrate(self.curve.gap, self.curve.weight, self.curve.independent)[0])
        if gain.value < -3 * gain.stderr:
            said.append(
                f"the network explains x worse than the Gaussian reference, by {-gain.value:.3g} +- {gain.stderr:.2g} nats"
            )
        return (*said, *of_few(len(self), "sample"))

    def _said_of_clean_end(self, error: float) -> list[str]:
        """What lies above the range, in words; of the mean's standard error."""
        said: list[str] = []
        high, size, ends = self.logsnr_range[1], self.dimensions, self.ends
        flat = float(self.terms.flat.mean())
        if abs(flat) > max(0.02 * size, error):
            way = "likelier" if flat > 0 else "less likely"
            said.append(
                f"above log-SNR {high:.2f} the reference stands in, and is not flat there: a density that is, below the "
                f"resolution {ends.resolution:.3g}, makes x {abs(flat):.3g} nats {way} in the mean; choose a reference nearer to the data"
            )
        left = _error_at_end(self.curve)
        if 1 - left.value / size > max(0.05, 3 * left.stderr / size):
            said.append(
                f"at log-SNR {high:.2f} the network still predicts {1 - left.value / size:.0%} of the noise: the data are finer "
                f"than the resolution {ends.resolution:.3g}, and their density depends on where the range ends"
            )
        return said

    def __repr__(self) -> str:
        return f"LogLikelihood({self.mean()}, {len(self)} of {self.variable} {self.event})"

    def __str__(self) -> str:
        low, high = self.logsnr_range
        mean = self.mean()
        bits = -mean.value / (self.dimensions * math.log(2))
        first = (
            f"log p = {mean} over {len(self)} of {self.variable}, {self.dimensions} dimensions ({bits:.4f} bits a dimension at "
            f"resolution {self.ends.resolution:.3g}; log-SNR {low:.2f} to {high:.2f}, {self.evaluations} evaluations, below the range "
            f"at most {self.ends.low[1]:.3g} nats more)"
        )
        return in_short([f"verdict: {self.verdict}", first], self.verdict.told)

    # ---- tables and files ----

    def to_pandas(self) -> pandas.DataFrame:
        """One row an x: id, nats, stderr, bits a dimension, the reference's log-density, what the low end may add, draws."""
        needs("pandas", "data")
        import pandas

        columns = {
            "pair": self.pair_ids,
            "nats": self.nats,
            "stderr": self.stderr,
            "bits_per_dim": self.bits_per_dim(),
            "reference_nats": -self.terms.surprise,
            "low_end_nats": self.terms.low,
            "draws": self.curve.draws,
        }
        return pandas.DataFrame({name: values.numpy() for name, values in columns.items()})

    @staticmethod
    def merge(parts: Sequence[LogLikelihood]) -> LogLikelihood:
        """Join log-likelihoods of different x.

        Raises:
            ValueError: if they were measured with different settings, references or versions, or share a pair.
        """
        first = to_merge(parts, LogLikelihood)
        notes = same_origin(parts, first.KIND)
        for other in parts:
            if (other.event, other.variable) != (first.event, first.variable):
                raise ValueError(
                    f"log-likelihoods of different variables: {first.variable} {first.event} and {other.variable} {other.event}"
                )
        return type(first)(
            Curve.merge([part.curve for part in parts]),
            ReferenceTerms.merge([part.terms for part in parts]),
            torch.cat([part.rows for part in parts]),
            first.event,
            first.variable,
            first.control,
            first.settings,
            first.versions,
            notes,
        )

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors, by name, and what else there is; for files."""
        tensors, record = self.curve.packed()
        held = prefixed("curve", tensors) | prefixed("terms", self.terms.packed()) | {"rows": self.rows}
        return held, {
            "curve": record,
            "event": list(self.event),
            "variable": self.variable,
            "control": None if self.control is None else self.control.record(),
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "notes": packed_notes(self.notes),
        }

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> LogLikelihood:
        """From what `packed` gave."""
        return cls(
            Curve.unpacked(within(tensors, "curve"), record["curve"]),
            cls.TERMS(**within(tensors, "terms")),
            tensors["rows"],
            tuple(record["event"]),
            record["variable"],
            Control.of_record(record["control"]),
            record["settings"],
            record["versions"],
            unpacked_notes(record["notes"]),
        )


@dataclass(frozen=True, repr=False)
class LogLikelihoodRatio(Measured):
    """log p(x) - log p'(x) of every x, in nats: two conditions, or two models, at shared noise.

    Raises:
        ValueError: for other x, pairs, levels, noise or references.
    """

    FORMAT = "mmg_diffusers.LogLikelihoodRatio/1"
    KIND = "log-likelihood ratio"
    SYMBOL: ClassVar[str] = "log p"

    one: LogLikelihood
    other: LogLikelihood

    def __post_init__(self) -> None:
        for part in (self.one, self.other):
            of_type(part, LogLikelihood, "a part of a ratio", "a LogLikelihood")
        one, other = self.one, self.other
        if one.event != other.event or not torch.equal(one.rows, other.rows):
            raise ValueError("the two log-likelihoods are of different x; a ratio compares two densities of the same")
        if not torch.equal(one.pair_ids, other.pair_ids):
            raise ValueError(
                "the two log-likelihoods have different pair ids, and so different noise; give both the same"
            )
        for name in ("seed", "reference", "quadrature", "draws", "antithetic", "control", "values"):
            if one.settings.get(name) != other.settings.get(name):
                raise ValueError(
                    f"the two log-likelihoods were measured with different settings: {name} {shown(one.settings.get(name))} and "
                    f"{shown(other.settings.get(name))}; a ratio needs the same noise and reference"
                )
        levels = (one.curve.logsnr, other.curve.logsnr)
        if one.logsnr_range != other.logsnr_range or not torch.equal(*(values.nan_to_num() for values in levels)):
            raise ValueError(
                f"the two log-likelihoods were measured at different levels, over {one.logsnr_range} and {other.logsnr_range}; "
                "a ratio needs one logsnr_range= that both know, and networks that know the same levels in it"
            )

    @property
    def pair_ids(self) -> Tensor:
        """`(N,)` int64."""
        return self.one.pair_ids

    @cached_property
    def _values(self) -> Tensor:
        return self.one.values - self.other.values

    @property
    def nats(self) -> Tensor:
        """`(N,)` log p(x) - log p'(x)."""
        return integrate(self._values, self.one.curve.weight, self.one.curve.independent)[0]

    @property
    def stderr(self) -> Tensor:
        """`(N,)` standard error of `nats` from the noise draws, of which what both share is gone."""
        return stderr_of_pairs(self._values, self.one.curve.weight, self.one.curve.independent)

    def pixel_map(self) -> tuple[Tensor, Tensor]:
        """The difference by pixel, and the most that its standard error may be, from which shared noise is not taken off.

        ``pipe.pixel_map(images, prompts, given=others, integrand="gap")`` is the same map of two prompts, with its own error.

        Raises:
            ValueError: if the pixels were not kept.
        """
        (one, error), (other, other_error) = self.one.pixel_map(), self.other.pixel_map()
        return one - other, torch.hypot(error, other_error)

    def warnings(self) -> tuple[str, ...]:
        """List what was noted of either; what lies beyond the range is the same reference's for both."""
        return (*dict.fromkeys((*self.one.notes, *self.other.notes)), *of_few(len(self), "sample"))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.mean()}, {len(self)} of {self.one.variable} {self.one.event})"

    def __str__(self) -> str:
        low, high = self.one.logsnr_range
        first = f"{self.SYMBOL} - {self.SYMBOL}' = {self.mean()} over {len(self)} of {self.one.variable} (log-SNR {low:.2f} to {high:.2f})"
        return in_short([f"verdict: {self.verdict}", first], self.verdict.told)

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors, by name, and what else there is; for files."""
        tensors: dict[str, Tensor] = {}
        record: dict[str, Any] = {}
        for name, part in (("one", self.one), ("other", self.other)):
            held, record[name] = part.packed()
            tensors |= prefixed(name, held)
            record[name] |= {"format": part.FORMAT}
        return tensors, record

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> LogLikelihoodRatio:
        """From what `packed` gave."""
        kinds = {kind.FORMAT: kind for kind in (LogLikelihood, *LogLikelihood.__subclasses__())}
        return cls(
            *(kinds[record[name]["format"]].unpacked(within(tensors, name), record[name]) for name in ("one", "other"))
        )

    @staticmethod
    def merge(parts: Sequence[LogLikelihoodRatio]) -> LogLikelihoodRatio:
        """Join ratios of different x.

        Raises:
            ValueError: as `LogLikelihood.merge` does.
        """
        return type(to_merge(parts, LogLikelihoodRatio))(
            LogLikelihood.merge([part.one for part in parts]), LogLikelihood.merge([part.other for part in parts])
        )


def _error_at_end(curve: Curve) -> Value:
    """The network's squared error at the cleanest sixteenth of the levels, the mean over x."""
    by_level = curve.by_level(curve.error)
    return mean_over_pairs(by_level[:, -max(1, by_level.shape[1] // 16) :].mean(1))
