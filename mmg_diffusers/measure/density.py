"""The log-likelihood of every x: a denoiser's errors beside those of a Gaussian, whose own density is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mmg_diffusers.checks import of_type, shown, whole
from mmg_diffusers.denoisers.base import Condition, Denoiser, TwoDenoisers, check_denoiser_type
from mmg_diffusers.denoisers.forwards import memory_notes
from mmg_diffusers.denoisers.pilots import Pilot
from mmg_diffusers.denoisers.references import GaussianReference, carrying
from mmg_diffusers.files.identity import Identity, row_marks
from mmg_diffusers.files.records import check_settings
from mmg_diffusers.measure.batches import Pairs, Progress, check_condition, range_within
from mmg_diffusers.measure.control import Control, expected_error, fit_control, fit_rule
from mmg_diffusers.measure.curve import measure_curve, per_pixel
from mmg_diffusers.measure.decoding import CleanEnd
from mmg_diffusers.measure.likelihood import LogLikelihood
from mmg_diffusers.measure.moments import Keep, check_keep
from mmg_diffusers.measure.quadrature import Quadrature, StratifiedProfile, StratifiedUniform
from mmg_diffusers.measure.supports import Support

# Levels of a pilot.
PILOT_LEVELS = 40
# Noisy values, for each draw, by which levels of a grid are told at the clean end.
DECODINGS = 8
# Values of a grid that are looked at, and how many different ones a grid has at most.
LOOKED_AT, GRID_VALUES = 2**20, 4096
# Values so many of which lie evenly by chance in one case of 10^10, however few numbers there are.
TELLING = 8
_RECUR = ", unless these only recur, as x do among themselves: they take few values"


@dataclass(frozen=True)
class Continuum(Support):
    """Every value: p(x) is a density, at the resolution of the range's clean end."""

    record_type = LogLikelihood

    def terms(self, reference: GaussianReference, end: CleanEnd) -> dict[str, Tensor]:
        x = end.pairs.x
        return {"surprise": reference.surprise(x), "flat": reference.flat_above(x, end.logsnr)}

    def notes(self, x: Tensor, high: float) -> tuple[str, ...]:
        if not (grid := grid_of(x)):
            return ()
        count, step = grid
        return (
            f"x lies on a grid: {count} values, {step:.4g} apart. A density of such data has no limit, it grows with the "
            f"clean end of the range (resolution {math.exp(-high / 2):.3g}); measure discrete log P(x) by values=Grid(low, high, levels), "
            "or data that are not rounded",
        )


@dataclass(frozen=True)
class Density:
    """log p(x) of every x, or log p(x | condition), as a denoiser tells it (arXiv 2302.03792, eq. 8, pointwise); or the
    probability log P(x) of data that lie on a grid.

    With e the network's prediction, e_G that of a Gaussian reference and log p_G its density,

        log p(x) = log p_G(x) + 1/2 INT dlam E[ |eps - e_G(z)|^2 - |eps - e(z)|^2 ],

    exactly, for the density whose denoiser e is, if the integral is over the whole axis. Over the levels that the network
    knows, the reference stands in beyond both ends. In the mean over data the negative is then at least the entropy, for
    any network; of a single x it bounds nothing.

    Args:
        reference: the Gaussian; the nearer to the data, the less noise is left. `GaussianReference.fit` or `choose` make
            one from data other than those that are measured.
        quadrature, draws, antithetic: as in `MMG`.
        control: by what coefficient the reference's own error, whose mean given x is known, is taken off at each level;
            1 everywhere by default. `piloted` finds one on other data, with the levels.
        values: which values x takes; `Grid(low, high, levels)` for data that lie on one, of which log P(x) is measured.

    Calling it measures::

        found = Density(GaussianReference.fit(other_x, rank=64))(denoiser, x)
        found.nats, found.stderr, found.bits_per_dim(), found.mean()

    Raises:
        TypeError: for something other than a reference or a rule, or a number of draws that is not whole.
        ValueError: for fewer than one draw.
    """

    reference: GaussianReference = field(default_factory=GaussianReference)
    quadrature: Quadrature = field(default_factory=lambda: StratifiedUniform(64))
    draws: int = 1
    antithetic: bool = False
    control: Control | None = None
    values: Support = field(default_factory=Continuum)

    def __post_init__(self) -> None:
        of_type(self.reference, GaussianReference, "reference", "one such as GaussianReference.fit(other_x)")
        of_type(self.quadrature, Quadrature, "quadrature", "a rule such as StratifiedUniform(64)")
        of_type(self.control, (Control, type(None)), "control", "one that fit_control made")
        of_type(self.values, Support, "values", "a grid such as Grid(-1, 1, 256), or Continuum()")
        whole(self.draws, "draws", 1)

    @classmethod
    def of(cls, reference: GaussianReference, nodes: int = 64) -> Density:
        """Against a reference, at the levels and with the control that its pilot found, if it carries one.

        Args:
            reference: the Gaussian.
            nodes: number of levels.

        Raises:
            TypeError, ValueError: for something else than a reference, or a number of levels that is none.
        """
        of_type(reference, GaussianReference, "reference", "one such as GaussianReference.fit(other_x)")
        if (pilot := reference.pilot) is None:
            return cls(reference, StratifiedUniform(nodes))
        control = Control(pilot.levels, pilot.shares, pilot.data, pilot.rows)
        return cls(reference, StratifiedProfile(nodes, pilot.edges, pilot.mass), control=control)

    def __call__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        cond: Condition | None = None,
        *,
        seed: int = 0,
        pair_ids: Tensor | None = None,
        logsnr_range: tuple[float, float] | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        settings: Mapping[str, Any] | None = None,
        variable: str = "x",
        keep: Keep = "pair",
    ) -> LogLikelihood:
        """Measure log p(x), or log p(x | cond).

        Args:
            denoiser: the network.
            x: `(N, *event)`, of the reference's shape, without a gradient.
            cond: N rows; ``None``: the marginal.
            seed, pair_ids, logsnr_range, batch_size, progress: as in `MMG`.
            settings: what else belongs into the record.
            variable: what x is, such as "VAE latent (posterior mode)"; part of the record.
            keep: ``"pixel"`` keeps a map of log p, `LogLikelihood.pixel_map`.

        Raises:
            TypeError: for something other than a denoiser, tensors and a condition.
            ValueError: for x of another shape than the reference's, with a gradient or with values that are not finite, or
                a condition that does not fit; all before the network is called.
        """
        pairs = self.checked(denoiser, x, cond, pair_ids)
        asked = self._range(denoiser, pairs.x, logsnr_range)
        check_settings(settings or {})
        check_keep(keep)
        if keep != "pair" and (keep == "level" or self.control is not None or self.values.record() is not None):
            raise ValueError(
                f"keep is {shown(keep)}; maps are kept by 'pixel', of a density without a grid, and without the control of a pilot, "
                "which knows no pixels"
            )
        of_type(variable, str, "variable", "words, such as 'VAE latent (posterior mode)'")
        two = TwoDenoisers(self.reference, denoiser)
        curve = measure_curve(
            two,
            pairs,
            {} if cond is None else cond,
            quadrature=self.quadrature,
            draws=self.draws,
            integrand="gap",
            antithetic=self.antithetic,
            seed=seed,
            logsnr_range=asked,
            batch_size=batch_size,
            progress=progress,
            keep=keep,
        )
        low, high = curve.logsnr_range
        record_type = self.values.record_type
        end = CleanEnd(denoiser, pairs, cond, high, DECODINGS * self.draws, seed, batch_size)
        terms = record_type.TERMS(
            **self.values.terms(self.reference, end),
            low=self.reference.error_below(pairs.x, low),
            expected=None if self.control is None else expected_error(self.reference, pairs.x, curve.logsnr),
            places=None if keep == "pair" else per_pixel(self.reference.surprise_by_place(pairs.x)),
        )
        return record_type(
            curve,
            terms,
            row_marks(pairs.x),
            event=tuple(pairs.x.shape[1:]),
            variable=variable,
            control=self.control,
            settings={**(settings or {}), **self.record(), "seed": seed, "conditional": cond is not None},
            notes=(*two.notes, *memory_notes(two), *self._notes(pairs.x, high)),
        )

    def piloted(
        self,
        denoiser: Denoiser,
        x: Tensor,
        cond: Condition | None = None,
        *,
        seed: int = 0,
        logsnr_range: tuple[float, float] | None = None,
        batch_size: int | None = None,
    ) -> Density:
        """The same with levels and a control that a pilot finds on other data, for a network and a range.

        The pilot takes 2 draws at 40 levels of each x, 64 of which are enough; its noise is not that of the measurement.

        Args:
            denoiser, cond, logsnr_range: as it will be measured.
            x: `(n, *event)`: other data than those that will be measured.
            seed, batch_size: as it will be measured.

        Raises:
            TypeError, ValueError: as the call does, or for fewer than 8 x.
        """
        pairs = self.checked(denoiser, x, cond, None)
        if len(pairs) < 8:
            raise ValueError(
                f"got {len(pairs)} x for a pilot; expected at least 8, of other data than those to be measured"
            )
        asked = self._range(denoiser, pairs.x, logsnr_range)
        curve = measure_curve(
            TwoDenoisers(self.reference, denoiser),
            pairs,
            {} if cond is None else cond,
            quadrature=StratifiedUniform(PILOT_LEVELS),
            draws=2,
            # The largest seeds go round.
            seed=(whole(seed, "seed", 0) + 2**31) % 2**63,
            logsnr_range=asked,
            batch_size=batch_size,
        )
        expected = expected_error(self.reference, pairs.x, curve.logsnr)
        control = fit_control(curve, expected)
        data, rows = Identity.of(pairs.x.float()), row_marks(pairs.x)
        rule = fit_rule(curve, expected, control, self.quadrature.nodes)
        pilot = Pilot(rule.edges, rule.mass, control.levels, control.shares, data, rows)
        found = replace(control, data=data, rows=rows)
        return replace(self, reference=carrying(self.reference, pilot), quadrature=rule, control=found)

    def checked(self, denoiser: Denoiser, x: Tensor, cond: Condition | None, pair_ids: Tensor | None) -> Pairs:
        """The variables, if everything fits; before a network is called.

        Raises:
            TypeError, ValueError: as the call does.
        """
        check_denoiser_type(denoiser)
        if isinstance(x, Tensor) and x.requires_grad:
            raise ValueError(
                "x requires a gradient, which a likelihood by sampled noise does not have; pass x.detach()"
            )
        pairs = Pairs.of(x, pair_ids)
        self.reference.check_event(tuple(x.shape[1:]))
        check_condition(cond, len(pairs), "cond", empty=False)
        return pairs

    def _range(self, denoiser: Denoiser, x: Tensor, asked: tuple[float, float] | None) -> tuple[float, float] | None:
        """The range to measure over, as far as the values of x have a say in it; and a check that they may be measured."""
        asked = self.values.range_of(denoiser.logsnr_range) if asked is None else asked
        both = TwoDenoisers(self.reference, denoiser)
        ends = range_within(both, asked, self.quadrature)
        # A rule of its own may leave levels out; what a pilot has not seen is not left out unsaid.
        if self.control is not None and isinstance(self.quadrature, StratifiedProfile):
            whole_range = range_within(both, asked, StratifiedUniform(2))
            if max(ends[0] - whole_range[0], whole_range[1] - ends[1]) > 1e-6:
                # Rounded inwards, so that what is proposed is taken.
                low, high = math.ceil(ends[0] * 100) / 100, math.floor(ends[1] * 100) / 100
                raise ValueError(
                    f"the pilot saw log-SNR {ends[0]:.2f} to {ends[1]:.2f} of {whole_range[0]:.2f} to {whole_range[1]:.2f}; pilot this network over "
                    f"its range, or give logsnr_range=({low:g}, {high:g})"
                )
        self.values.check(x, ends[1])
        return asked

    def record(self) -> dict[str, Any]:
        """The settings, in what JSON can hold."""
        return {
            "reference": self.reference.record(),
            "quadrature": repr(self.quadrature),
            "draws": self.draws,
            "antithetic": self.antithetic,
            "control": None if self.control is None else self.control.record(),
            "values": self.values.record(),
        }

    def _notes(self, x: Tensor, high: float) -> tuple[str, ...]:
        """What the data themselves give cause to say."""
        said: list[str] = []
        marks = row_marks(x)
        # Of few values, such as small spins, others of the same law are equal by chance.
        recur = "" if self.values.record() is None or len(marks.unique()) == len(marks) else _RECUR
        if among := self.reference.among_fitted(x):
            said.append(
                f"{among} of {len(x)} x are among the points that the reference was fitted on, which makes them look likelier; "
                f"fit it on others{recur}"
            )
        if self.control is not None and self.control.rows is not None:
            among = int(torch.isin(marks, self.control.rows).sum())
            if among:
                said.append(
                    f"{among} of {len(x)} x are among those of the pilot that fitted the control; pilot on others{recur}"
                )
        return (*said, *self.values.notes(x, high))


def grid_of(x: Tensor) -> tuple[int, float] | None:
    """How many values data lie on, and their distance, if they lie on a few equally spaced ones.

    A few is at most 4096; and at least 8, of which all distances are multiples of the least one, or at most a quarter of the
    numbers that there are, so that continuous data are not taken for a grid.
    """
    numbers = x.detach().flatten()[:LOOKED_AT].cpu().double()
    # Digits that float32 does not hold would make two values of one.
    values = numbers.unique()
    scale = float(values.abs().max())
    step = values.diff()
    apart = step[step > 1e-6 * scale]
    found = len(apart) + 1
    if found < 2 or found > GRID_VALUES or (found < TELLING and found > len(numbers) // 4):
        return None
    least = float(apart.min())
    multiple = (values - values[0]) / least
    count = round(float(multiple[-1])) + 1
    even = float((multiple - multiple.round()).abs().max()) < 0.01
    return (found, least) if even and count <= GRID_VALUES else None
