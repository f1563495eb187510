"""Gaussians that a density is measured against: a mean and a covariance, fitted on other data, with all integrals closed."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from mmg_diffusers.checks import file_path, finite, of_type, shown, whole
from mmg_diffusers.denoisers.base import Condition, Denoiser
from mmg_diffusers.denoisers.covariances import KINDS, Kind, Spectrum, distinct, fit_spectrum
from mmg_diffusers.denoisers.levels import per_event, signal_and_noise
from mmg_diffusers.denoisers.pilots import Pilot
from mmg_diffusers.denoisers.precision import has_float64
from mmg_diffusers.files.identity import Identity, row_marks
from mmg_diffusers.files.records import pack, read_record, unpack
from mmg_diffusers.files.whole import write_whole

FORMAT = "mmg_diffusers.GaussianReference/1"


@dataclass(frozen=True)
class Fitted:
    """What a reference was fitted on: the data's identity, a mark of every row, and what was done to the covariance.

    Args:
        data: of all rows.
        rows: `(n,)` int64, see `mmg_diffusers.files.identity.row_marks`.
        shrinkage: share of the covariance that is one variance in all directions.
        chosen: held-out surprise a dimension of every kind that was compared, by its name, if the kind was chosen.
    """

    data: Identity
    rows: Tensor
    shrinkage: float = 0.0
    chosen: Mapping[str, float] | None = None

    def record(self) -> dict[str, Any]:
        """What JSON can hold; the marks of the rows are kept beside it."""
        held: dict[str, Any] = {"points": len(self.rows), "data": self.data.digest, "shrinkage": self.shrinkage}
        return held if self.chosen is None else held | {"chosen": dict(self.chosen)}

    @classmethod
    def of_record(cls, held: Mapping[str, Any], rows: Tensor | None) -> Fitted | None:
        """From what `record` gave and the marks; ``None`` without."""
        return None if rows is None else cls(Identity(held["data"]), rows, held["shrinkage"], held.get("chosen"))

    def notes(self, kind: Kind, size: int) -> tuple[str, ...]:
        """What results should say of a covariance of `size` dimensions."""
        if kind != "full" or len(self.rows) > size:
            return ()
        return (
            f"the reference's covariance was fitted on {len(self.rows)} points in {size} dimensions: {self.shrinkage:.0%} of it "
            "was shrunk to one variance in all directions",
        )


class GaussianReference(Denoiser):
    """The exact denoiser of a Gaussian, against which the density of a network is measured; it has no condition.

    `GaussianReference(sigma)` is N(0, sigma^2) in every coordinate, for events of any shape. `of` takes a mean and a
    covariance, `fit` makes them from data, `choose` compares kinds of covariance on data and fits the best. The nearer
    it is to the data, the less noise is left in a density that is measured against it; the value does not change,
    but for what lies beyond the ends of the range, where the reference stands in. `pilot` is what one found of a network.

    Raises:
        ValueError: unless sigma is positive.
    """

    logsnr_range = (-math.inf, math.inf)
    closed_form = True
    pilot: Pilot | None = None

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__()
        if finite(sigma, "sigma") <= 0:
            raise ValueError(f"sigma is {sigma}; expected a standard deviation above 0")
        self.sigma = float(sigma)
        self.kind: Kind = "isotropic"
        self.mean: Tensor | None = None
        self.spectrum = Spectrum.flat(torch.tensor(float(sigma) ** 2, dtype=torch.float64), 0)
        self.fitted: Fitted | None = None

    @classmethod
    def of(cls, mean: Tensor, covariance: Tensor | float) -> GaussianReference:
        """From a mean `(*event)` and a covariance: one variance, `(*event)` variances, or a `(d, d)` matrix.

        Raises:
            TypeError: for other than tensors.
            ValueError: for shapes that do not fit, or a covariance that is not symmetric and positive definite.
        """
        of_type(mean, Tensor, "mean", "a tensor of the event's shape")
        if mean.ndim == 0 or not bool(mean.isfinite().all()):
            raise ValueError(f"mean is {shown(mean)}; expected finite numbers of the event's shape")
        of_type(covariance, (Tensor, int, float), "covariance", "one variance, or a tensor")
        size = mean.numel()
        given = torch.as_tensor(covariance).detach().cpu().double()
        if given.ndim == 0:
            return cls._made("isotropic", mean, Spectrum.flat(given, size))
        if given.shape == mean.shape:
            return cls._made("diagonal", mean, Spectrum.flat(given.flatten(), size))
        if given.shape != (size, size):
            raise ValueError(
                f"covariance has shape {tuple(given.shape)} for a mean of {tuple(mean.shape)}; expected one variance, "
                f"{tuple(mean.shape)} of them, or {(size, size)}"
            )
        if not torch.allclose(given, given.T):
            raise ValueError("the covariance of a reference is not symmetric; expected a covariance matrix")
        return cls._made("full", mean, Spectrum.of(given))

    @classmethod
    def _made(cls, kind: Kind, mean: Tensor, spectrum: Spectrum, fitted: Fitted | None = None) -> GaussianReference:
        variance, count = spectrum.variances(mean.numel())
        made = cls(float(((variance * count).sum() / mean.numel()).sqrt()))
        made.kind, made.mean, made.spectrum, made.fitted = kind, mean.detach().cpu().double(), spectrum, fitted
        made.notes = () if fitted is None else fitted.notes(kind, mean.numel())
        return made

    @classmethod
    def fit(cls, x: Tensor, kind: Kind | None = None, rank: int | None = None) -> GaussianReference:
        """Fit mean and covariance to `(n, *event)`: data of the same law as those that are measured, but others.

        Args:
            x: the data.
            kind: ``"isotropic"``: one variance; ``"diagonal"``: one a coordinate; ``"full"``: all of the covariance,
                shrunk towards one variance as far as held-out points ask for, which matters if points are few; ``"low rank"``:
                variances along `rank` directions and one for the rest (probabilistic PCA, Tipping and Bishop 1999). By
                default low rank if a rank is given, and else full.
            rank: of low rank.

        Raises:
            TypeError, ValueError: for data that are no finite floating-point rows, fewer than rank + 2 of them (3 for
                full, 2 for the others), an unknown kind, or a rank that is not below the number of dimensions.
        """
        x = _rows(x)
        kind = check_kind(kind, rank, len(x))
        size = x[0].numel()
        if rank is not None and rank >= size:
            raise ValueError(f"rank is {rank} in {size} dimensions; expected less, or kind='full'")
        spectrum, shrinkage = fit_spectrum(x.flatten(1).cpu().double(), kind, rank)
        return cls._made(kind, x.double().mean(0), spectrum, Fitted(Identity.of(x.float()), row_marks(x), shrinkage))

    @classmethod
    def choose(
        cls, x: Tensor, kinds: tuple[Kind, ...] = KINDS, ranks: tuple[int, ...] = (4, 16, 64), held_out: float = 0.25
    ) -> GaussianReference:
        """Fit the kind of covariance that explains data best which it was not fitted to.

        Each kind is fitted to a part of `x`, and its mean surprise is taken over the rest (every k-th row). The least one
        is the nearest to the data, and a density measured against it has the least to integrate: both its noise and what
        its ends lack fall with that divergence. No network is called. What was compared stands in `fitted.chosen`.

        Args:
            x: `(n, *event)`: other data than those that will be measured.
            kinds: which are compared; one that these data have no covariance of is left out, such as ``"diagonal"`` where a
                coordinate never changes.
            ranks: of low rank; those that are too high for the data are left out.
            held_out: the share of rows that is compared on.

        Raises:
            TypeError, ValueError: as `fit` does, or if no kind can be fitted.
        """
        x = _rows(x)
        if not 0 < finite(held_out, "held_out") <= 0.5:
            raise ValueError(f"held_out is {held_out}; expected a share above 0, and at most 0.5")
        surprises = _compared(x, kinds, ranks, max(2, round(1 / held_out)))
        kind, rank = min(surprises, key=surprises.__getitem__)
        best = cls.fit(x, kind, rank)
        assert best.fitted is not None
        names = {kind if rank is None else f"{kind} {rank}": value for (kind, rank), value in surprises.items()}
        best.fitted = replace(best.fitted, chosen=names)
        return best

    @property
    def event(self) -> tuple[int, ...] | None:
        """The shape of what it describes; ``None`` if any will do."""
        return None if self.mean is None else tuple(self.mean.shape)

    def check_event(self, event: tuple[int, ...]) -> None:
        """Raise a ValueError for variables of another shape."""
        if self.event is not None and tuple(event) != self.event:
            raise ValueError(
                f"the reference describes {self.event}, x is {tuple(event)}; expected one of the same shape"
            )

    def _centred(self, x: Tensor) -> Tensor:
        self.check_event(tuple(x.shape[1:]))
        wide = x.double() if has_float64(x.device.type) else x.float()
        return (wide if self.mean is None else wide - self.mean.to(wide)).flatten(1)

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        self.check_event(tuple(z.shape[1:]))
        wide = z.double() if has_float64(z.device.type) else z.float()
        if self.mean is not None:
            wide = wide - per_event(signal_and_noise(logsnr.double())[0], wide) * self.mean.to(wide)
        out = self.spectrum.scaled(wide.flatten(1), logsnr).view(z.shape)
        return out.to(torch.promote_types(z.dtype, torch.float32))

    def _terms(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of `(N, *event)`: variances `(K,)`, the number of directions of each, and squares `(N, K)`; on the CPU."""
        x = x.detach().cpu()
        variance, count = self.spectrum.variances(x[0].numel())
        if self.mean is None:
            square = x.double().flatten(1).square().sum(1, keepdim=True)
            return variance.reshape(1), torch.tensor([x[0].numel()], dtype=torch.float64), square
        return variance, count, self.spectrum.squares(self._centred(x))

    def surprise(self, x: Tensor) -> Tensor:
        """-log density of x in nats, `(N, *event) -> (N,)` float64."""
        variance, count, square = self._terms(x)
        return (square / variance + count * (2 * math.pi * variance).log()).sum(1) / 2

    def surprise_by_place(self, x: Tensor) -> Tensor:
        """-log density of x by coordinate, `(N, *event)` nats that add up to `surprise`.

        Of correlated coordinates, each has its own share of the quadratic form, and what the determinant says of all of them is
        spread evenly.
        """
        centred = self._centred(x.detach().cpu()).double()
        variance, count = self.spectrum.variances(centred.shape[1])
        level = (2 * math.pi * variance).log()
        if self.kind != "diagonal":
            level = (count * level).sum() / count.sum()
        return ((centred * self.spectrum.whitened(centred) + level) / 2).view(x.shape)

    def error(self, x: Tensor, logsnr: Tensor) -> Tensor:
        """E|eps - e(z)|^2 given x, `(N, *event)` at levels `(L,)`: `(N, L)`."""
        variance, count, square = self._terms(x)
        known = torch.sigmoid(logsnr.double()[:, None] + variance.log())
        # (1 - known) known c^2 / variance of what is not noise, known^2 of what is.
        return (square / variance) @ (known * (1 - known)).T + known.square() @ count

    def error_below(self, x: Tensor, logsnr: float) -> Tensor:
        """Half the integral of `error` up to a level, `(N,)` nats: all that a network could gain on it there.

        With u = exp(logsnr) variance and q the square over the variance it is the sum of [log(1 + u) + (q - 1) u / (1 + u)] / 2.
        """
        variance, count, square = self._terms(x)
        at = variance.log() + logsnr
        below = count * torch.nn.functional.softplus(at) + (square / variance - count) * torch.sigmoid(at)
        return below.sum(1) / 2

    def flat_above(self, x: Tensor, logsnr: float) -> Tensor:
        """Half the integral above a level of `error` less the number of dimensions, `(N,)` nats.

        A density that is flat below the resolution exp(-logsnr / 2) has an error of one a dimension there, so this is
        what such a density gains on the reference above the level.
        """
        variance, count, square = self._terms(x)
        at = variance.log() + logsnr
        above = (square / variance - count) * torch.sigmoid(-at) - count * torch.nn.functional.softplus(-at)
        return above.sum(1) / 2

    def among_fitted(self, x: Tensor) -> int:
        """How many of `(N, *event)` are among the points that it was fitted on."""
        return 0 if self.fitted is None else int(torch.isin(row_marks(x), self.fitted.rows).sum())

    def record(self) -> dict[str, Any]:
        """What it is, in what JSON can hold; for records of what was measured against it."""
        held: dict[str, Any] = {"kind": self.kind, "sigma": self.sigma}
        if self.mean is not None:
            held["digest"] = Identity.of(
                self.mean, self.spectrum.rest, self.spectrum.values, self.spectrum.vectors
            ).digest
        if self.kind == "low rank":
            held["rank"] = len(self.spectrum.values)
        if self.fitted is not None:
            held |= self.fitted.record()
        return held if self.pilot is None else held | {"pilot": self.pilot.digest}

    def __repr__(self) -> str:
        rank = f" {len(self.spectrum.values)}" if self.kind == "low rank" else ""
        shape = "" if self.event is None else f", {self.event}"
        points = "" if self.fitted is None else f", fitted on {len(self.fitted.rows)} points"
        points += "" if self.pilot is None else f", levels by a pilot of {len(self.pilot.rows)}"
        return f"GaussianReference({self.kind}{rank}, sigma {self.sigma:.4g}{shape}{points})"

    def save(self, path: str | Path) -> Path:
        """Write one safetensors file. It appears only when it is complete."""
        path = file_path(path, "the path of the reference")
        tensors = {"rest": self.spectrum.rest, "values": self.spectrum.values, "vectors": self.spectrum.vectors}
        tensors |= {} if self.mean is None else {"mean": self.mean}
        tensors |= {} if self.fitted is None else {"rows": self.fitted.rows}
        tensors |= {} if self.pilot is None else {"pilot_rows": self.pilot.rows}
        held = {"format": FORMAT} if self.pilot is None else {"format": FORMAT, "pilot": self.pilot.record()}
        write_whole(path, pack(tensors, self.record() | held))
        return path

    @classmethod
    def load(cls, path: str | Path) -> GaussianReference:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is truncated, or of another kind.
        """
        body = read_record(path, "reference")
        try:
            tensors, held = unpack(body, FORMAT)
            pilot = Pilot.of_record(held.get("pilot"), tensors.get("pilot_rows"))
            fitted = Fitted.of_record(held, tensors.get("rows"))
            spectrum = Spectrum(tensors["rest"], tensors["values"], tensors["vectors"])
            mean = tensors.get("mean")
            made = cls(held["sigma"]) if mean is None else cls._made(held["kind"], mean, spectrum, fitted)
            return made if pilot is None else carrying(made, pilot)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is no complete reference of this library: {error}") from error


def carrying(reference: GaussianReference, pilot: Pilot) -> GaussianReference:
    """The same reference with what a pilot found, which is saved with it."""
    made = copy.copy(reference)
    made.pilot = pilot
    return made


def check_kind(kind: Kind | None, rank: int | None, count: int, noun: str = "point") -> Kind:
    """The kind of covariance that is asked for, if it can be fitted to so many points, or what `noun` calls them.

    Raises:
        TypeError, ValueError: for a kind that there is not, a rank of another kind, or too few.
    """
    kind = kind or ("full" if rank is None else "low rank")
    if kind not in KINDS:
        raise ValueError(f"kind is {shown(kind)}; expected one of {', '.join(map(repr, KINDS))}")
    if (kind == "low rank") != (rank is not None):
        raise ValueError(
            f"rank is {shown(rank)} for a reference of kind {shown(kind)}; expected a rank for 'low rank' alone"
        )
    needed = {"full": 3}.get(kind, 2) if rank is None else whole(rank, "rank", 1) + 2
    if count < needed:
        raise ValueError(
            f"got {count} {noun}{'s' * (count != 1)} for {'an' if kind == 'isotropic' else 'a'} {kind} covariance{'' if rank is None else f' of rank {rank}'}; expected at "
            f"least {needed}"
        )
    return kind


def _rows(x: Tensor) -> Tensor:
    """Data to fit: finite floating-point rows, without a gradient, on the CPU, where there is float64."""
    of_type(x, Tensor, "x", "a tensor; torch.as_tensor makes one of an array")
    if x.ndim < 2 or len(x) < 2 or not x.is_floating_point():
        raise ValueError(f"x is {tuple(x.shape)} {x.dtype}; expected two floating-point rows (n, *event) or more")
    x = x.detach().cpu()
    bad = (~x.isfinite().flatten(1).all(1)).nonzero().flatten().tolist()
    if bad:
        raise ValueError(f"x has NaN or infinite values in rows {bad[:10]}; remove or repair these")
    return x


def _compared(
    x: Tensor, kinds: tuple[Kind, ...], ranks: tuple[int, ...], every: int
) -> dict[tuple[Kind, int | None], float]:
    """The mean surprise a dimension of every `every`-th row, under each kind and rank fitted to the others."""
    seen = distinct(x.flatten(1)).view(-1, *x.shape[1:])
    x = seen if len(seen) > 2 else x
    apart = torch.arange(len(x)) % every == 0
    rest, other = x[~apart], x[apart]
    size = x[0].numel()
    surprises: dict[tuple[Kind, int | None], float] = {}
    refusals: list[str] = []
    for kind in kinds:
        for rank in ranks if kind == "low rank" else (None,):
            if rank is not None and rank > min(size - 1, len(rest) - 2):
                continue
            # Not every kind suits all data: a coordinate that never changes has no variance of its own.
            try:
                surprises[kind, rank] = float(GaussianReference.fit(rest, kind, rank).surprise(other).mean()) / size
            except ValueError as error:
                refusals.append(str(error))
    if not surprises:
        raise ValueError(
            refusals[0]
            if refusals
            else f"no rank of {shown(ranks)} suits {len(x)} points in {size} dimensions; expected lower ones, or other kinds"
        )
    return surprises
