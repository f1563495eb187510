"""The records of a measurement: what was seen along the log-SNR axis, and what it adds up to."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from mmg_diffusers.checks import file_path, finite, of_type, two_ends, whole
from mmg_diffusers.noise import reference_gain
from mmg_diffusers.quadrature import trapezoid, trapezoid_within
from mmg_diffusers.storage import write_whole
from mmg_diffusers.tolerance import Tolerance

if TYPE_CHECKING:
    import pandas

Form = Literal["gap", "orthogonal", "auto"]
FORMS: tuple[Form, ...] = ("gap", "orthogonal", "auto")


@dataclass(frozen=True)
class Outside:
    """MINDE's difference outside the norm, |e_c - r|^2 - |e_u - r|^2, r the noise as predicted for N(0, sigma^2)
    (arXiv 2310.09031, eq. 18 and 21).

    Raises:
        ValueError: unless sigma is positive.
    """  # fmt: skip

    sigma: float = 1.0

    def __post_init__(self) -> None:
        if finite(self.sigma, "sigma") <= 0:
            raise ValueError(f"sigma is {self.sigma}; expected the standard deviation of a reference, above 0")


Integrand = Form | Outside
"""What is integrated: a form by name, or a difference outside the norm."""

Keep = Literal["pair", "pixel", "level"]
"""What is kept of a measurement: numbers by pair, maps as well, or maps at every level, so that bands can be read off."""

# What the loop sums over the event, at every pair, draw and level; every integrand is made of these.
MOMENTS = ("gap", "orthogonal", "error", "energy", "along")

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


def mean_over_pairs(nats: Tensor, stderr: Tensor) -> Value:
    """Mean of `(N,)` values with its standard error over pairs; of a single pair, with that pair's own error."""
    count = len(nats)
    spread = float(nats.std()) / count**0.5 if count > 1 else float(stderr[0])
    return Value(float(nats.mean()), spread)


def integrate(values: Tensor, weight: Tensor, independent: bool) -> tuple[Tensor, Tensor]:
    """Half the integral over log-SNR, with the standard error that the noise draws leave.

    Args:
        values: `(N, D, L, *S)` integrand of N pairs, D draws and L levels; not a number where a pair has fewer draws.
        weight: `(N, D, L)`.
        independent: whether levels are independent draws, so that their own spread is the error.

    Returns:
        `(N, *S)` nats and standard errors. With two draws or more the error is their spread level by level; with
        one it is the scatter of each level about the line through its neighbours (which also counts curvature,
        so it errs on the large side, and what it counts of the slope is what levels placed at random within even strata
        leave). Levels that all draws share have an error of their own that no spread shows: halve the step to see it.
    """
    widths = weight.view(*weight.shape, *(1,) * (values.ndim - 3)) / 2
    terms = values * widths
    nats = terms.nanmean(1).sum(1)
    if independent:
        # All draws of all levels are draws from one law.
        levels = values.shape[2]
        one = terms.flatten(1, 2)
        return nats, (_variance(one) * levels / (~one.isnan()).sum(1) * levels).sqrt()
    return nats, (widths.nanmean(1).square() * noise_variance(values)).sum(1).sqrt()


def noise_variance(values: Tensor) -> Tensor:
    """Variance that the noise draws leave in the mean over draws at each level, `(N, D, L, *S) -> (N, L, *S)`.

    From the spread of the draws; of a single draw, from its scatter about the line through its neighbours.
    """
    draws, levels = values.shape[1:3]
    if draws > 1:
        return _variance(values) / (~values.isnan()).sum(1)
    one = values[:, 0]
    if levels <= 2:
        return one.square()
    middle = (one[:, 1:-1] - (one[:, :-2] + one[:, 2:]) / 2).square() * (2 / 3)
    return torch.cat([middle[:, :1], middle, middle[:, -1:]], 1)


def _variance(values: Tensor) -> Tensor:
    """Variance along the first axis after the pairs, of what is a number there."""
    count = (~values.isnan()).sum(1)
    return (values - values.nanmean(1, keepdim=True)).square().nansum(1) / (count - 1)


def kept_maps(name: str, values: Tensor, weight: Tensor, independent: bool, keep: Keep) -> dict[str, Tensor]:
    """What a curve keeps of an integrand before the sum over pixels, `(N, D, L, *pixels)`; see `Curve.maps`."""
    nats, stderr = integrate(values, weight, independent)
    made = {name: nats, f"{name}_stderr": stderr}
    if keep == "level":
        made |= {f"{name}_levels": values.nanmean(1), f"{name}_variance": noise_variance(values)}
    return made


@dataclass(frozen=True)
class Curve:
    """What the network said, pair by pair, along the log-SNR axis. Everything is float64 on the CPU.

    With e_u the base prediction (marginal, or given the context) and e_c the one with the condition:

    `gap` = |eps - e_u|^2 - |eps - e_c|^2, `orthogonal` = |e_u - e_c|^2, `error` = |eps - e_c|^2,
    `energy` = |e_c|^2 - |e_u|^2 and `along` = <z, e_c - e_u>, summed over the event. All are `(N, D, L)`, as are `logsnr`
    and `weight`, for D draws at L levels; where a pair has fewer draws than others, NaN follows its last.

    `maps`, where pixels were kept, holds the integrals before the sum over pixels: ``gap``, ``orthogonal`` and their
    ``_stderr``, `(N, *pixels)` in nats. Where levels were kept, there are the integrands themselves, ``_levels``, and the
    variance that the noise leaves in them, ``_variance``, `(N, L, *pixels)`.
    """

    logsnr: Tensor
    weight: Tensor
    gap: Tensor
    orthogonal: Tensor
    error: Tensor
    energy: Tensor
    along: Tensor
    pair_ids: Tensor
    logsnr_range: tuple[float, float]
    evaluations: int
    independent: bool = False
    maps: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        held = self.gap.shape
        if len(held) != 3 or 0 in held:
            raise ValueError(f"the curve's gap has shape {tuple(held)}; expected (pairs, draws, levels)")
        missing = self.gap[..., :1].isnan()
        if bool(missing[:, 0].any()) or bool((missing[:, :-1] & ~missing[:, 1:]).any()):
            raise ValueError("the curve has draws after a missing one, or a pair without any; expected draws, then NaN")
        for name in ("logsnr", "weight", *MOMENTS):
            values: Tensor = getattr(self, name)
            if (
                values.shape != held
                or values.dtype != torch.float64
                or not bool(torch.where(missing, values.isnan(), values.isfinite()).all())
            ):
                raise ValueError(
                    f"the curve's {name} is {tuple(values.shape)} {values.dtype}; expected {tuple(held)} finite float64"
                )
        ids = self.pair_ids
        if ids.shape != held[:1] or ids.dtype != torch.int64 or len(ids.unique()) < len(ids):
            raise ValueError(
                f"the curve's pair_ids are {tuple(ids.shape)} {ids.dtype}; expected {held[0]} different int64"
            )
        low, high = (finite(end, "an end of the curve's range") for end in self.logsnr_range)
        if not low <= high:
            raise ValueError(f"the curve's range is {self.logsnr_range}; expected two rising ends")
        whole(self.evaluations, "the curve's evaluations", 0)
        for name, values in self.maps.items():
            if len(values) != held[0] or not bool(values.isfinite().all()):
                raise ValueError(f"the curve's map {name!r} is {tuple(values.shape)}; expected {held[0]} finite rows")

    def __len__(self) -> int:
        return len(self.gap)

    @property
    def draws(self) -> Tensor:
        """`(N,)` int64: how many noise draws each pair has."""
        return (~self.gap[..., 0].isnan()).sum(1)

    def values(self, integrand: Literal["gap", "orthogonal"] | Outside) -> Tensor:
        """`(N, D, L)` an integrand; half its integral over log-SNR is information in nats."""
        if isinstance(integrand, Outside):
            return self.energy - 2 * reference_gain(self.logsnr, integrand.sigma) * self.along
        return self.gap if integrand == "gap" else self.orthogonal

    def by_level(self, values: Tensor) -> Tensor:
        """`(N, D, L)` values, by rising level and averaged over draws: `(N, L)`."""
        return values.gather(2, self.logsnr.argsort(2)).nanmean(1)

    def grid(self) -> tuple[Tensor, Tensor] | None:
        """`(L,)` rising levels that all pairs and draws share, and their weights; ``None`` where they differ."""
        logsnr, weight = self.logsnr[0, 0], self.weight[0, 0]
        shared = all(
            bool(((own == one) | own.isnan()).all()) for own, one in ((self.logsnr, logsnr), (self.weight, weight))
        )
        return (logsnr, weight) if shared and bool((logsnr.diff() > 0).all()) else None

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors, by name, and what else there is; for files."""
        tensors = {f.name: value for f in fields(self) if isinstance(value := getattr(self, f.name), Tensor)}
        tensors |= {f"maps/{name}": value for name, value in self.maps.items()}
        return tensors, {
            "logsnr_range": list(self.logsnr_range),
            "evaluations": self.evaluations,
            "independent": self.independent,
        }

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Curve:
        """From what `packed` gave."""
        maps = {name.removeprefix("maps/"): value for name, value in tensors.items() if name.startswith("maps/")}
        low, high = record["logsnr_range"]
        return cls(
            **{name: value for name, value in tensors.items() if not name.startswith("maps/")},
            logsnr_range=(low, high),
            evaluations=record["evaluations"],
            independent=record["independent"],
            maps=maps,
        )

    @staticmethod
    def merge(curves: Sequence[Curve]) -> Curve:
        """Join curves of different pairs, measured with the same settings; pairs may differ in their draws.

        Raises:
            ValueError: for none, for different ranges or levels, or where a pair appears twice.
        """
        if not curves:
            raise ValueError("there is no curve to merge; expected at least one")
        first = curves[0]
        for other in curves[1:]:
            same = (
                other.gap.shape[2:] == first.gap.shape[2:]
                and other.logsnr_range == first.logsnr_range
                and other.independent == first.independent
                and other.maps.keys() == first.maps.keys()
            )
            if not same:
                raise ValueError(
                    f"curves were measured differently: {first.gap.shape[2]} levels over {first.logsnr_range} and "
                    f"{other.gap.shape[2]} over {other.logsnr_range}; measure all shards with the same settings"
                )
        ids = torch.cat([curve.pair_ids for curve in curves])
        if len(ids.unique()) < len(ids):
            raise ValueError("a pair appears in more than one shard; give every pair its own id")
        most = max(curve.gap.shape[1] for curve in curves)

        def padded(values: Tensor) -> Tensor:
            return torch.nn.functional.pad(values, (0, 0, 0, most - values.shape[1]), value=torch.nan)

        joined = {
            name: torch.cat([padded(getattr(curve, name)) for curve in curves])
            for name in ("logsnr", "weight", *MOMENTS)
        }
        maps = {name: torch.cat([curve.maps[name] for curve in curves]) for name in first.maps}
        evaluations = sum(curve.evaluations for curve in curves)
        return Curve(
            **joined,
            pair_ids=ids,
            logsnr_range=first.logsnr_range,
            evaluations=evaluations,
            independent=first.independent,
            maps=maps,
        )


def noise_error(curve: Curve, integrand: Integrand) -> Tensor:
    """`(N,)` standard error in nats that the draws leave in a pair.

    Of ``"auto"``, whose weight is known only when all pairs are, the larger of its two forms': its own cannot exceed it.
    """
    forms = ("gap", "orthogonal") if integrand == "auto" else (integrand,)
    return torch.stack([integrate(curve.values(form), curve.weight, curve.independent)[1] for form in forms]).amax(0)


def pack(tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> bytes:
    """A safetensors file that holds a record as JSON in its header."""
    ready = {name: value.contiguous().clone() for name, value in tensors.items()}
    return safetensors.torch.save(ready, metadata={"record": json.dumps(record)})


def unpack(body: bytes, form: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `pack` gave; the record has to name its `form` under ``format``.

    Raises:
        SafetensorError, KeyError, ValueError: when it is truncated, or of another form.
    """
    tensors = safetensors.torch.load(body)
    header = json.loads(body[8 : 8 + int.from_bytes(body[:8], "little")])
    record = json.loads(header["__metadata__"]["record"])
    if record["format"] != form:
        raise ValueError(f"format {record['format']!r}, expected {form!r}")
    return tensors, record


def read_record(path: str | Path, kind: str) -> bytes:
    """The bytes of a record's file.

    Raises:
        FileNotFoundError: when there is none.
    """
    path = file_path(path, f"the path of the {kind}")
    if not path.is_file():
        raise FileNotFoundError(f"no {kind} at {path}; expected a file that .save wrote")
    return path.read_bytes()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a number depends on."""
    found = {"python": platform.python_version()}
    for package in ("mmg-diffusers", "torch", "diffusers", "transformers"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def check_keep(keep: Keep) -> None:
    """Raise a ValueError for something else than `Keep`."""
    if keep not in get_args(Keep):
        raise ValueError(f"keep is {keep!r}; expected one of {', '.join(map(repr, get_args(Keep)))}")


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise a TypeError for settings that a record could not be written with."""
    of_type(settings, Mapping, "settings", "a mapping of names to what JSON can hold")
    try:
        json.dumps(dict(settings))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"the settings hold what JSON cannot ({error}); expected numbers, text, lists and mappings"
        ) from error


def check_integrand(integrand: Integrand) -> None:
    """Raise a ValueError for something that is no integrand."""
    if not isinstance(integrand, Outside) and integrand not in FORMS:
        raise ValueError(f"unknown integrand {integrand!r}; expected one of {FORMS}, or Outside(sigma)")


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
        if self.integrand != "auto":
            return float(self.integrand != "orthogonal")
        difference, stderr = self.certificate
        if difference == 0.0:
            return 0.0
        return max(0.0, 1.0 - (stderr / difference) ** 2)

    @property
    def values(self) -> Tensor:
        """`(N, D, L)` the integrand; half its integral over log-SNR is `nats`."""
        if self.integrand != "auto":
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
            raise ValueError(f"no {integrand!r} map was kept; measure with keep='pixel'")
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
        """Join estimates of different pairs; "auto" weighs the two forms anew over all of them.

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
