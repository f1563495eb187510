"""What was seen along the log-SNR axis, pair by pair, and the integrals that are made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from mmg_diffusers.checks import Brief, finite, shown, whole
from mmg_diffusers.denoisers.levels import reference_gain
from mmg_diffusers.files.records import within
from mmg_diffusers.measure.noise import integrate, noise_variance
from mmg_diffusers.measure.weighing import Share, share_of

Form = Literal["gap", "orthogonal", "auto", "balanced"]
FORMS: tuple[Form, ...] = ("gap", "orthogonal", "auto", "balanced")
WEIGHED = ("auto", "balanced")
# How two branches of a pretrained network are read; "balanced" is for branches that were trained together.
OF_PRETRAINED: tuple[Form, ...] = ("gap", "orthogonal", "auto")


@dataclass(frozen=True)
class OutsideNorm:
    """MINDE's difference outside the norm, |e_c - r|^2 - |e_u - r|^2, r the noise as predicted for N(0, sigma^2)
    (arXiv 2310.09031, eq. 18 and 21).

    Raises:
        ValueError: unless sigma is positive.
    """  # fmt: skip

    sigma: float = 1.0

    def __post_init__(self) -> None:
        if finite(self.sigma, "sigma") <= 0:
            raise ValueError(f"sigma is {self.sigma}; expected the standard deviation of a reference, above 0")


Integrand = Form | OutsideNorm
"""What is integrated: a form by name, or a difference outside the norm."""


def form_of(integrand: Integrand) -> Form:
    """The form of maps that go with an integrand: its own, so that they add up to its nats; of a difference outside, orthogonal."""
    return "orthogonal" if isinstance(integrand, OutsideNorm) else integrand


Keep = Literal["pair", "pixel", "level"]
"""What is kept of a measurement: numbers by pair, maps as well, or maps at every level, so that bands can be read off."""

# What the loop sums over the event, at every pair, draw and level; every integrand is made of these.
MOMENTS = ("gap", "orthogonal", "error", "energy", "along")


def kept_maps(name: str, values: Tensor, weight: Tensor, independent: bool, keep: Keep) -> dict[str, Tensor]:
    """What a curve keeps of an integrand before the sum over pixels, `(N, D, L, *pixels)`; see `Curve.maps`."""
    nats, stderr = integrate(values, weight, independent)
    made = {name: nats, f"{name}_stderr": stderr}
    if keep == "level":
        made |= {f"{name}_levels": values.nanmean(1), f"{name}_variance": noise_variance(values)}
    return made


@dataclass(frozen=True, repr=False)
class Curve(Brief):
    """What the network said, pair by pair, along the log-SNR axis. Everything is float64 on the CPU.

    With e_u the base prediction (marginal, or given the context) and e_c the one with the condition:

    `gap` = |eps - e_u|^2 - |eps - e_c|^2, `orthogonal` = |e_u - e_c|^2, `error` = |eps - e_c|^2,
    `energy` = |e_c|^2 - |e_u|^2 and `along` = <z, e_c - e_u>, summed over the event. All are `(N, D, L)`, as are
    `logsnr` and `weight`, for D draws at L levels; if a pair has fewer draws than others, NaN follows its last.
    `logsnr_range` is what is integrated, and what was asked for: the weights of a draw add up to its length, though the
    levels nearest to its ends may lie a little outside or inside of it.

    `maps`, if pixels were kept, holds the integrals before the sum over pixels: ``gap``, ``orthogonal`` and their
    ``_stderr``, `(N, *pixels)` in nats. If levels were kept, there are the integrands themselves, ``_levels``, and the
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
                raise ValueError(
                    f"the curve's map {shown(name)} is {tuple(values.shape)}; expected {held[0]} finite rows"
                )

    def __len__(self) -> int:
        return len(self.gap)

    def rows(self, places: Sequence[int]) -> Curve:
        """Some of the pairs, or all in another order, by their places; evaluations are those of all."""
        index = torch.as_tensor(list(places), dtype=torch.int64)
        named = ("logsnr", "weight", "pair_ids", *MOMENTS)
        tensors = {name: getattr(self, name)[index] for name in named}
        return replace(self, **tensors, maps={name: values[index] for name, values in self.maps.items()})

    @property
    def draws(self) -> Tensor:
        """`(N,)` int64: how many noise draws each pair has."""
        return (~self.gap[..., 0].isnan()).sum(1)

    def values(self, integrand: Literal["gap", "orthogonal"] | OutsideNorm) -> Tensor:
        """`(N, D, L)` an integrand; half its integral over log-SNR is information in nats."""
        if isinstance(integrand, OutsideNorm):
            return self.energy - 2 * reference_gain(self.logsnr, integrand.sigma) * self.along
        return self.gap if integrand == "gap" else self.orthogonal

    def weighed(self, share: Tensor | float) -> Tensor:
        """`(N, D, L)` orthogonal + share (gap - orthogonal), for one share or `(N,)` of them."""
        if isinstance(share, Tensor):
            share = share.view(-1, 1, 1)
        return self.orthogonal + share * (self.gap - self.orthogonal)

    def shares(self) -> Share:
        """`(N,)` the share of gap that each pair's own difference and noise ask for."""
        return share_of(*integrate(self.gap - self.orthogonal, self.weight, self.independent))

    def by_level(self, values: Tensor) -> Tensor:
        """`(N, D, L)` values, by rising level and averaged over draws: `(N, L)`."""
        return values.gather(2, self.logsnr.argsort(2)).nanmean(1)

    def grid(self) -> tuple[Tensor, Tensor] | None:
        """`(L,)` rising levels that all pairs and draws share, and their weights; ``None`` if they differ."""
        logsnr, weight = self.logsnr[0, 0], self.weight[0, 0]
        shared = all(
            bool(((all_values == one) | all_values.isnan()).all())
            for all_values, one in ((self.logsnr, logsnr), (self.weight, weight))
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
        maps = within(tensors, "maps")
        low, high = record["logsnr_range"]
        curve = cls(
            **{name: value for name, value in tensors.items() if not name.startswith("maps/")},
            logsnr_range=(low, high),
            evaluations=record["evaluations"],
            independent=record["independent"],
            maps=maps,
        )
        return replace(curve, logsnr_range=curve._integrated_range())

    def _integrated_range(self) -> tuple[float, float]:
        """The range that the weights integrate. Version 0.1 stated the one that was asked for, and integrated from the
        level nearest to its noisy end to the one nearest to its clean end.
        """  # fmt: skip
        grid, (low, high) = self.grid(), self.logsnr_range
        if grid is None:
            return low, high
        first, last, length = float(grid[0][0]), float(grid[0][-1]), float(grid[1].sum())
        between_levels = math.isclose(length, last - first, rel_tol=1e-9)
        return (first, last) if between_levels and not math.isclose(length, high - low, rel_tol=1e-9) else (low, high)

    @staticmethod
    def merge(curves: Sequence[Curve]) -> Curve:
        """Join curves of different pairs, measured with the same settings; pairs may differ in their draws.

        Raises:
            ValueError: for none, for different ranges or levels, or if a pair appears twice.
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
        _same_grid(curves)
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


def _same_grid(curves: Sequence[Curve]) -> None:
    """Raise a ValueError for curves on fixed levels that differ. Of rules that draw their levels, each draw has others."""
    grids = [(curve, grid) for curve in curves if (grid := curve.grid()) is not None]
    fixed = next((grid for curve, grid in grids if curve.gap.shape[0] * int(curve.draws.max()) > 1), None)
    if fixed is None:
        return
    for curve in curves:
        grid = curve.grid()
        if grid is None or not all(torch.allclose(one, other) for one, other in zip(grid, fixed, strict=True)):
            other = curve.by_level(curve.logsnr)[0]
            raise ValueError(
                f"curves were measured along different levels: {shown_levels(fixed[0])} and {shown_levels(other)}; measure all shards with "
                "the same settings"
            )


def shown_levels(levels: Tensor) -> str:
    """A few of many levels."""
    few = [f"{level:.3f}" for level in levels[:3].tolist()]
    return f"{len(levels)} from {', '.join(few)}, ... to {float(levels[-1]):.3f}"


def noise_error(curve: Curve, integrand: Integrand) -> Tensor:
    """`(N,)` standard error in nats that the draws leave in a pair.

    Of ``"auto"`` and ``"balanced"`` the larger of gap's and orthogonal's, which that of the pair's weighed form never
    exceeds.
    """
    forms = ("gap", "orthogonal") if integrand in WEIGHED else (integrand,)
    return torch.stack([integrate(curve.values(form), curve.weight, curve.independent)[1] for form in forms]).amax(0)


def check_keep(keep: Keep) -> None:
    """Raise a ValueError for something else than `Keep`."""
    if keep not in get_args(Keep):
        raise ValueError(f"keep is {shown(keep)}; expected one of {', '.join(map(repr, get_args(Keep)))}")


def check_integrand(integrand: Integrand) -> None:
    """Raise a ValueError for something that is no integrand."""
    if not isinstance(integrand, OutsideNorm) and integrand not in FORMS:
        raise ValueError(f"unknown integrand {shown(integrand)}; expected one of {FORMS}, or OutsideNorm(sigma)")
