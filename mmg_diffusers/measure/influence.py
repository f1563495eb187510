"""Measure at which noise levels a condition speaks: prompt influence over time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from mmg_diffusers.checks import Brief, finite, shown
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.measure.moments import WEIGHED, integrate, noise_variance
from mmg_diffusers.measure.value import Value
from mmg_diffusers.measure.weighing import Contributions
from mmg_diffusers.measure.weights import starts, upper_simpson, upper_trapezoid

if TYPE_CHECKING:
    from diffusers import ClassifierFreeGuidance

    from mmg_diffusers.measure.estimate import Estimate

Axis = Literal["logsnr", "timestep", "tau"]
"""What noise levels are counted in: log-SNR; the network's own timestep; or tau, 0 at the clean end and 1 at the noisy one."""
AXES: tuple[Axis, ...] = ("logsnr", "timestep", "tau")


@dataclass(frozen=True, repr=False)
class Influence(Brief):
    """I(A; B | X_tau): what the condition still adds once x is seen at a noise level (arXiv 2310.09031, eq. 29).

    `logsnr` `(L,)` rises from the noisy end of the range to the clean one; `nats` and `stderr` `(N, L)` hold half the
    integral from `logsnr[l]` to the clean end for every pair, and the standard error that its noise draws leave.
    `nats[:, 0]` is the pair's whole information. `convention` tells timesteps, if it is known. `in_mean` `(N, L)`, of
    forms that are weighed, is what each pair adds to the mean; see `Estimate.in_mean`. `sampler` tells the levels of a number
    of the model's own sampling steps, if it is known.
    """

    logsnr: Tensor
    nats: Tensor
    stderr: Tensor
    convention: Convention | None = None
    in_mean: Contributions | None = None
    sampler: Callable[[int], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.nats)

    def __str__(self) -> str:
        mean, stderr = self.mean()
        said = f"{Value(float(mean[0]), float(stderr[0]))} over {len(self)} pairs, from log-SNR {float(self.logsnr[0]):.2f} on"
        if not self.arrives:
            return f"{said}; not positive, so that there is no level at which half of it has arrived"
        half = f"log-SNR {self.half().value:.2f} +- {self.half().stderr:.2f}"
        if self.convention is not None:
            half += f", diffusion time {self.half('tau').value:.3f} +- {self.half('tau').stderr:.3f}"
        return f"{said}; half of it has arrived at {half}"

    def __getitem__(self, index: slice) -> Influence:
        """Some of the pairs; the mean of several weighs forms as over all, and one pair's is its own."""
        in_mean = None if self.in_mean is None else self.in_mean.map(lambda nats: nats[index])
        return replace(self, nats=self.nats[index], stderr=self.stderr[index], in_mean=in_mean)

    def _added(self) -> Contributions:
        return Contributions.of(self.nats) if self.in_mean is None or len(self) == 1 else self.in_mean

    def on(self, axis: Axis) -> Tensor:
        """`(L,)` the levels on an axis; it falls if diffusion time is counted.

        Raises:
            ValueError: for an unknown axis, or time if the network's convention is not known.
        """
        return self._to(axis)(self.logsnr)

    def _to(self, axis: Axis) -> Callable[[Tensor], Tensor]:
        if axis not in AXES:
            raise ValueError(f"axis is {shown(axis)}; expected one of {', '.join(AXES)}")
        if axis == "logsnr":
            return Tensor.double
        if self.convention is None:
            raise ValueError(
                f"the {axis} of a log-SNR is a matter of the network; read the influence with "
                "convention=pipe.denoiser.convention"
            )
        return self.convention.tau if axis == "tau" else self.convention.timestep

    def mean(self) -> tuple[Tensor, Tensor]:
        """Mean over pairs and its standard error, `(L,)` each; of a single pair, that pair's own."""
        added = self._added()
        return added.nats.mean(0), added.stderr() if len(self) > 1 else self.stderr[0]

    def at(self, level: float, axis: Axis = "logsnr") -> Value:
        """Mean over pairs at a level between those that were measured, with its standard error; both interpolated.

        Args:
            level: on the axis.
            axis: what it is counted in.

        Raises:
            ValueError: for a level outside of those that were measured; as `on` does.
        """
        place = self.on(axis)
        order = place.argsort()
        low, high = float(place[order[0]]), float(place[order[-1]])
        if not low - 1e-9 <= level <= high + 1e-9:
            raise ValueError(
                f"{axis} is {level:g}; expected one between {low:.3f} and {high:.3f}, where it was measured"
            )
        mean, stderr = self.mean()
        value, error = (float(np.interp(level, place[order], values[order])) for values in (mean, stderr))
        return Value(value, error)

    @property
    def arrives(self) -> bool:
        """Whether the mean information is positive, so that shares of it arrive, and a half of it does."""
        # Of the mean: forms may be weighed for a pair otherwise than for the mean of many.
        return float(self._added().nats.sum(0)[0]) > 0

    def arrived(self) -> tuple[Tensor, Tensor]:
        """The share of the mean information that has arrived at each level, and its jackknife error, `(L,)` each.

        Raises:
            ValueError: if the mean information is not positive.
        """
        total = self._total()
        share = 1 - total / total[0]
        left_out = self._left_out(total)
        return share, jackknife(1 - left_out / left_out[:, :1])

    def half(self, axis: Axis = "logsnr") -> Value:
        """The level at which half of the mean information has arrived, with its standard error over pairs (jackknife).

        Args:
            axis: what it is counted in.

        Raises:
            ValueError: if the mean information is not positive, so that there is no half of it; as `on` does.
        """
        to = self._to(axis)
        total = self._total()
        crossings = [self._crossing(total), *(self._crossing(rest) for rest in self._left_out(total))]
        if len(self) == 1:
            return Value(float(to(torch.tensor(crossings[:1]))[0]), float("nan"), axis)
        places = to(torch.tensor(crossings, dtype=torch.float64))
        return Value(float(places[0]), float(jackknife(places[1:, None])[0]), axis)

    def window(self, share: float = 0.8) -> tuple[float, float]:
        """The log-SNR between which the central share of the mean information arrives: what is left out lies half at each end.

        Raises:
            ValueError: for a share that is not inside of 0 and 1, or if the mean information is not positive.
        """
        if not 0 < finite(share, "share") < 1:
            raise ValueError(f"share is {share:g}; expected one above 0 and below 1")
        total, rest = self._total(), (1 - share) / 2
        return self._crossing(total, 1 - rest), self._crossing(total, rest)

    def guider(self, scale: float, *, steps: int | Tensor = 50, share: float = 0.8) -> ClassifierFreeGuidance:
        """A guider of diffusers that guides only where the information arrives (cf. arXiv 2404.07724), from this curve and no sweep.

        Args:
            scale: of guidance, as `ClassifierFreeGuidance` takes it.
            steps: that the pipeline will take, at the levels of its own sampler; or `(S,)` these levels, rising.
            share: of the information, the central one.

        Raises:
            ValueError: for levels that do not rise, a number of steps if the sampler is not known (``pipe.influence`` knows it), and as
                `window` does.
        """
        from diffusers import ClassifierFreeGuidance

        start, stop = self.fractions(steps, share)
        return ClassifierFreeGuidance(guidance_scale=finite(scale, "scale"), start=start, stop=stop)

    def fractions(self, steps: int | Tensor = 50, share: float = 0.8) -> tuple[float, float]:
        """The `start` and `stop` of a guider, as shares of the sampler's steps; arguments as in `guider`.

        Raises:
            ValueError: as `guider` does.
        """
        low, high = self.window(share)
        if isinstance(steps, Tensor):
            levels = steps.double()
        elif self.sampler is None:
            raise ValueError(
                "the model's sampler is not known; read the influence with pipe.influence, or give the levels of the steps"
            )
        else:
            levels = self.sampler(steps)
        if levels.ndim != 1 or not len(levels) or not bool((levels.diff() >= 0).all()):
            raise ValueError(f"the levels of the steps are {shown(levels)}; expected them to rise, from noise to image")
        inside = ((levels >= low) & (levels <= high)).nonzero().flatten().tolist()
        # A window between two steps is guided at the one that is nearer.
        inside = inside or [int((levels - (low + high) / 2).abs().argmin())]
        count = len(levels)
        # Half a step into the step, so that the guider's own rounding finds it.
        return (inside[0] + 0.5) / count, min((inside[-1] + 1.5) / count, 1.0)

    def _left_out(self, total: Tensor) -> Tensor:
        """The total without each pair in turn, `(N, L)`; of weighed forms, whose weight moves with a pair, to first order."""
        added = self._added()
        if not added.forms:
            return total - added.nats
        return total - (added.nats.mean(0) + added.moving - added.moving.mean(0))

    def _total(self) -> Tensor:
        total = self._added().nats.sum(0)
        if not self.arrives:
            raise ValueError(f"the mean information is {float(total[0]) / len(self):.4f} nats; no half of it arrives")
        return total

    def _crossing(self, total: Tensor, share: float = 0.5) -> float:
        """The last level above which a share of the total still lies, interpolated."""
        above = (total >= total[0] * share).nonzero().flatten()
        last = int(above[-1])
        if last + 1 == len(total):
            return float(self.logsnr[-1])
        step = (total[last] - total[0] * share) / (total[last] - total[last + 1])
        return float(self.logsnr[last] + step * (self.logsnr[last + 1] - self.logsnr[last]))


def jackknife(left_out: Tensor) -> Tensor:
    """Standard errors `(L,)` from the values without each pair in turn, `(N, L)`; not a number for one pair."""
    count = len(left_out)
    if count < 2:
        return torch.full_like(left_out[0], float("nan"))
    return ((count - 1) / count * (left_out - left_out.mean(0)).square().sum(0)).sqrt()


def influence(estimate: Estimate, convention: Convention | None = None) -> Influence:
    """Read the influence over noise off an estimate; no network is called.

    Args:
        estimate: measured with `Trapezoid` or `Simpson`, which can be summed from any level upwards. From the noisiest
            level it is the estimate itself.
        convention: the network's, to tell timesteps by.

    Raises:
        ValueError: for another quadrature, or a single level.
    """
    known = estimate.curve.grid()
    grid, weight = known if known is not None else (torch.empty(0), torch.empty(0))
    ends = estimate.logsnr_range
    rules = (upper_trapezoid(grid, *ends), upper_simpson(grid, *ends)) if len(grid) > 1 else ()
    upper = next((rule for rule in rules if torch.allclose(weight, rule[0])), None)
    if upper is None:
        raise ValueError(
            "influence over noise needs levels that all pairs share, with the weights of the trapezoidal rule or Simpson's; "
            "measure with quadrature=Trapezoid(levels), the default, or Simpson(levels)"
        )

    def upwards(values: Tensor) -> Tensor:
        nats = values.nanmean(1) @ upper.T / 2
        # The whole is the estimate, to the last bit.
        nats[:, 0] = integrate(values, estimate.curve.weight, estimate.curve.independent)[0]
        return nats

    weighed = estimate.integrand in WEIGHED
    spread = estimate.curve.weighed(estimate.curve.shares().moving) if weighed else estimate.values
    stderr = _stderr(spread, upper)
    if weighed:
        forms = (estimate.curve.gap, estimate.curve.orthogonal)
        stderr = torch.minimum(stderr, torch.stack([_stderr(form, upper) for form in forms]).amax(0))
    # The whole has the estimate's error, which knows more than the pair's own draws; its parts in proportion.
    stderr = stderr * torch.where(stderr[:, :1] > 0, estimate.stderr[:, None] / stderr[:, :1], 1.0)
    in_mean = estimate.integrated_in_mean(upwards) if weighed else None
    return Influence(starts(grid, *ends), upwards(estimate.values), stderr, convention, in_mean)


def _stderr(values: Tensor, upper: Tensor) -> Tensor:
    """`(N, L)` what the noise leaves in half the integrals of values `(N, D, L)` from each level upwards."""
    return (noise_variance(values) @ (upper.T / 2).square()).sqrt()
