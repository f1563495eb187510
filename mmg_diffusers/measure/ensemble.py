"""Several denoisers of one variable, each where it errs least: chosen on data that are never measured with it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from mmg_diffusers.checks import of_type, reason, shown, whole
from mmg_diffusers.denoisers.base import Condition, Denoiser, TwoDenoisers, check_denoiser_type, condition_rows
from mmg_diffusers.denoisers.forwards import device_of
from mmg_diffusers.denoisers.levels import add_noise
from mmg_diffusers.denoisers.precision import onto
from mmg_diffusers.denoisers.references import GaussianReference
from mmg_diffusers.files.identity import Identity, row_marks
from mmg_diffusers.measure.batches import Pairs, check_condition, rows_of
from mmg_diffusers.measure.curve import measure_curve
from mmg_diffusers.measure.quadrature import StratifiedUniform
from mmg_diffusers.measure.value import Value, mean_over_pairs

# Fewer x than this choose nothing; and the standard errors by which another member has to be better in a band: of a few dozen
# comparisons, two are passed by chance.
FEWEST, CLEARLY = 8, 3.0


@dataclass(frozen=True)
class Choice:
    """Which denoiser answers where, and what chose it.

    Args:
        edges: of the bands, rising log-SNRs, one more than there are bands.
        members: the number of the denoiser that answers in each band, from 0.
        data: identity of the data that chose.
        rows: `(n,)` int64 marks of these.
        gain: nats in the mean by which an ensemble is better than the best single denoiser, with its standard error: both
            chosen on one half of the data and held against each other on the other half. None if no single denoiser knows
            all bands.
    """

    edges: tuple[float, ...]
    members: tuple[int, ...]
    data: Identity
    rows: Tensor
    gain: Value | None

    def record(self) -> dict[str, Any]:
        """What JSON can hold."""
        return {
            "edges": list(self.edges),
            "members": list(self.members),
            "data": self.data.digest,
            "points": len(self.rows),
            "gain": None if self.gain is None else list(self.gain),
        }


class Ensemble(Denoiser):
    """Denoisers of one variable that take turns along the log-SNR axis, as a `Choice` says; `choose` makes one.

    Its data may not be measured with it: where every point has a say in who answers for it, any pool of denoisers looks
    better than its members. They are known by their content: of data that take few values, such as small spins, leave out what
    happens to recur. What an ensemble gains on other data is small: see `choice.gain`.
    """

    def __init__(self, denoisers: Sequence[Denoiser], choice: Choice) -> None:
        super().__init__()
        check_denoiser_type(*denoisers)
        self.denoisers = nn.ModuleList(denoisers)
        self.choice = choice
        self.logsnr_range = (choice.edges[0], choice.edges[-1])
        gain = "" if choice.gain is None else f"; on data that did not choose it is {_better(choice.gain)}"
        used = len(set(choice.members))
        said = (
            f"an ensemble: {used} of {len(denoisers)} denoisers answer in {len(choice.members)} bands, as {len(choice.rows)} x "
            f"chose{gain}"
        )
        self.notes = (said, *dict.fromkeys(note for one in denoisers for note in one.notes))

    @classmethod
    def choose(
        cls,
        denoisers: Sequence[Denoiser],
        x: Tensor,
        cond: Condition | None = None,
        *,
        bands: int = 16,
        levels: int = 4,
        seed: int = 0,
        batch_size: int | None = None,
    ) -> Ensemble:
        """Choose for each band the denoiser that errs least, by the same noise for all of them.

        The best denoiser over all bands answers wherever no other is better by three standard errors of their difference, so
        that few points do not choose by chance.

        Args:
            denoisers: two or more of one variable, whose ranges meet.
            x: `(n, *event)`: other data than those that will be measured, 8 or more; hundreds are better.
            cond: n rows; ``None``: the marginal.
            bands: equal parts of the range that the denoisers know together; where the range of one begins or ends another
                band begins.
            levels: in each band, where each x is seen.
            seed, batch_size: as in `Density`.

        Raises:
            TypeError: for other than denoisers and tensors.
            ValueError: for fewer than two denoisers or eight x, denoisers that do not take x or are of another variable, or
                ranges that do not meet.
        """
        of_type(denoisers, (list, tuple), "denoisers", "a list of denoisers")
        check_denoiser_type(*denoisers)
        pairs = Pairs.of(x)
        check_condition(cond, len(pairs), "cond", empty=False)
        if len(denoisers) < 2:
            raise ValueError(f"got {len(denoisers)} denoiser to choose among; expected two or more")
        if len(pairs) < FEWEST:
            raise ValueError(
                f"got {len(pairs)} x to choose by; expected {FEWEST} or more, of other data than those to measure"
            )
        whole(bands, "bands", 1)
        whole(levels, "levels", 2)
        for number, denoiser in enumerate(denoisers):
            _check_takes(number, denoiser, pairs, cond)
        edges = _edges([denoiser.logsnr_range for denoiser in denoisers], bands)
        nats = torch.full((len(edges) - 1, len(denoisers), len(pairs)), torch.nan, dtype=torch.float64)
        for band, (low, high) in enumerate(pairwise(edges)):
            for number, denoiser in enumerate(denoisers):
                known = denoiser.logsnr_range
                if not (known[0] <= low + 1e-9 and high <= known[1] + 1e-9):
                    continue
                curve = measure_curve(
                    TwoDenoisers(GaussianReference(), denoiser),
                    pairs,
                    {} if cond is None else cond,
                    quadrature=StratifiedUniform(levels),
                    integrand="gap",
                    seed=whole(seed, "seed", 0) * len(edges) + band,
                    logsnr_range=(max(low, known[0]), min(high, known[1])),
                    batch_size=batch_size,
                )
                nats[band, number] = (curve.weight * curve.error).sum((1, 2)) / 2
        _check_variable(nats, edges, x[0].numel())
        choice = Choice(
            tuple(edges), tuple(_chosen(nats)), Identity.of(pairs.x.float()), row_marks(pairs.x), _gain(nats)
        )
        return cls(denoisers, choice)

    @property
    def has_marginal(self) -> bool:
        return all(denoiser.has_marginal for denoiser in self._members)

    @property
    def _members(self) -> list[Denoiser]:
        return [one for one in self.denoisers if isinstance(one, Denoiser)]

    def check_data(self, x: Tensor) -> None:
        among = int(torch.isin(row_marks(x), self.choice.rows).sum())
        if among:
            raise ValueError(
                f"{among} of {len(x)} x are among the {len(self.choice.rows)} that chose this ensemble, which would flatter it; "
                "measure others, or choose on others"
            )

    def _at(self, logsnr: Tensor) -> Tensor:
        """Whose band each level is in."""
        band = torch.bucketize(
            logsnr.cpu().double(), torch.tensor(self.choice.edges[1:-1], dtype=torch.float64), right=True
        )
        return torch.tensor(self.choice.members)[band]

    def snap(self, logsnr: Tensor) -> Tensor:
        level = logsnr.cpu().double().clamp(*self.logsnr_range)
        return self._snapped(level, self._at(level)).to(logsnr.device)

    def _who(self, logsnr: Tensor) -> Tensor:
        """Who answers at levels that `snap` returned: one whose band it is, or who knows a level that fell beyond its edge."""
        level = logsnr.cpu().double()
        who = self._at(level)
        lost = (self._snapped(level, who) - level).abs() > 1e-9
        for number in sorted(set(self.choice.members)):
            if not bool(lost.any()):
                break
            knows = lost & ((self._members[number].snap(level) - level).abs() <= 1e-9)
            who, lost = torch.where(knows, number, who), lost & ~knows
        return who

    def _snapped(self, level: Tensor, who: Tensor) -> Tensor:
        known = level.clone()
        for number in who.unique().tolist():
            known[who == number] = self._members[number].snap(level[who == number])
        return known

    def forward(self, z: Tensor, logsnr: Tensor, cond: Condition | None = None) -> Tensor:
        who = self._who(logsnr)
        combined: Tensor | None = None
        for number in who.unique().tolist():
            rows = (who == number).nonzero().flatten()
            mine = None if cond is None else condition_rows(cond, rows)
            eps = self._members[number](z[rows.to(z.device)], logsnr[rows.to(logsnr.device)], mine)
            combined = (
                torch.empty((len(z), *eps.shape[1:]), dtype=eps.dtype, device=eps.device)
                if combined is None
                else combined
            )
            combined[rows.to(combined.device)] = eps.to(combined)
        return z.clone() if combined is None else combined


def _better(gain: Value) -> str:
    if abs(gain.value) <= 2 * gain.stderr:
        return f"no better than the best of them within the error, by {gain}"
    return f"{'better' if gain.value > 0 else 'worse'} than the best of them by {gain}"


def _check_takes(number: int, denoiser: Denoiser, pairs: Pairs, cond: Condition | None) -> None:
    """Raise a ValueError for a denoiser that does not take x, or answers in another shape."""
    device, low = device_of(denoiser, pairs.x), max(-5.0, denoiser.logsnr_range[0])
    level = denoiser.snap(torch.tensor([(low + min(low + 10, denoiser.logsnr_range[1])) / 2], dtype=torch.float64))
    first, shape = torch.zeros(1, dtype=torch.int64), tuple(pairs.x.shape[1:])
    x = onto(pairs.x[:1], device)
    try:
        with torch.inference_mode():
            got = tuple(
                denoiser(add_noise(x, level, torch.zeros_like(x)), level, rows_of(cond, first, device)).shape[1:]
            )
    except Exception as error:  # whatever a network of another variable raises
        raise ValueError(f"denoiser {number} does not take x of shape {shape}: {reason(error)}") from error
    if got != shape:
        raise ValueError(
            f"denoiser {number} answers in shape {got} to x of shape {shape}; expected one of that variable"
        )


def _edges(ranges: Sequence[tuple[float, float]], bands: int) -> list[float]:
    """Edges of bands over all that the denoisers know together."""
    ordered = sorted(ranges)
    reached = ordered[0][1]
    for low, high in ordered[1:]:
        if low > reached + 1e-9:
            raise ValueError(
                f"no denoiser knows log-SNR {reached:.3f} to {low:.3f}; expected ranges that meet, got {shown(list(ranges))}"
            )
        reached = max(reached, high)
    first = ordered[0][0]
    if not (math.isfinite(first) and math.isfinite(reached)):
        raise ValueError(
            f"the denoisers know log-SNR {first} to {reached}; expected finite ranges, which networks have"
        )
    even = torch.linspace(first, reached, bands + 1, dtype=torch.float64).tolist()
    inner = [end for pair in ranges for end in pair if first < end < reached]
    edges = sorted({*even, *inner})
    # Edges that differ by rounding are one.
    return [edges[0], *(b for a, b in pairwise(edges) if b - a > 1e-6)]


def _check_variable(nats: Tensor, edges: Sequence[float], size: int) -> None:
    """Raise a ValueError for a denoiser that errs by more than one that predicts no noise at all."""
    width = torch.tensor(edges, dtype=torch.float64).diff()
    for number in range(nats.shape[1]):
        known = ~nats[:, number, 0].isnan()
        error = float(nats[known, number].mean(1).sum() / (width[known].sum() / 2 * size))
        if error > 1:
            raise ValueError(
                f"denoiser {number} errs by {error:.3g} of the noise's variance, more than if it predicted none; expected denoisers "
                "of x in these units"
            )


def _chosen(nats: Tensor) -> list[int]:
    """Who answers in each band, by `(bands, denoisers, n)` half-integrated errors."""
    mean = nats.mean(2)
    total = mean.sum(0)
    whole_range = ~total.isnan()
    best = int(total.masked_fill(~whole_range, math.inf).argmin()) if bool(whole_range.any()) else None
    chosen: list[int] = []
    for band in range(len(nats)):
        least = int(mean[band].nan_to_num(math.inf).argmin())
        if best is not None and least != best:
            better = mean_over_pairs(nats[band, best] - nats[band, least])
            least = least if better.value > CLEARLY * better.stderr else best
        chosen.append(least)
    return chosen


def _gain(nats: Tensor) -> Value | None:
    """What an ensemble gains on the best denoiser, each half of the data by what the other chose."""
    if bool(nats.mean(2).sum(0).isnan().all()):
        return None
    gains = torch.empty(nats.shape[2], dtype=torch.float64)
    halves = torch.arange(nats.shape[2]) % 2 == 0
    for mine in (halves, ~halves):
        other, held = nats[..., ~mine], nats[..., mine]
        best = int(other.mean(2).sum(0).nan_to_num(math.inf).argmin())
        chosen = torch.stack([held[band, number] for band, number in enumerate(_chosen(other))])
        gains[mine] = held[:, best].sum(0) - chosen.sum(0)
    return mean_over_pairs(gains)
