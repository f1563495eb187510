"""An interval for mutual information: a bound that is valid whatever the network below, what a fitted marginal says above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.checks import needs, of_type, shown
from mmg_diffusers.files.printed import in_short
from mmg_diffusers.files.records import within
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.judging import of_ceiling, of_pairs
from mmg_diffusers.measure.measured import Measured, prefixed, to_merge
from mmg_diffusers.measure.value import Labels, Value, mean_over_pairs
from mmg_diffusers.measure.verdict import Finding
from mmg_diffusers.measure.weighing import Contributions

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class Sandwich(Measured):
    """The information of the same pairs from below and from above.

    `below` is log q of candidates, its evidence believed as far as other pairs say: at most the information in expectation, whatever
    the network (Barber and Agakov). `above` is what a marginal that was fitted to other pairs leaves to be told: with e_u for the best
    marginal's e*, gap and orthogonal form are both larger by half of the integral of E|e* - e_u|^2, if the conditional branch is
    right. So the larger of the two is taken. The lower side fails by chance alone, the upper one where the conditional branch errs as well.

    `nats` `(N,)`, and `mean`, are the middle of the two.

    Args:
        bound: the candidates' record.
        fitted: the estimate with the fitted marginal.

    Raises:
        TypeError: for other records.
        ValueError: for other pairs, or another order of them, and an estimate that is against no fitted marginal.
    """

    FORMAT = "mmg_diffusers.Sandwich/1"
    KIND = "sandwich"

    bound: Filtered
    fitted: Estimate

    def __post_init__(self) -> None:
        of_type(self.bound, Filtered, "bound", "what pipe.filter returns")
        of_type(self.fitted, Estimate, "fitted", "what pipe(..., marginal=Fitted(folder)) returns")
        if "fitted_to" not in self.fitted.settings:
            raise ValueError(
                f"the estimate is against {shown(self.fitted.settings.get('base', 'an unknown marginal'))}; expected one with "
                "marginal=Fitted(folder), which can be above the information"
            )
        if not torch.equal(self.bound.pair_ids, self.fitted.pair_ids):
            raise ValueError(
                f"the bound is of the pairs {shown(self.bound.pair_ids)} and the estimate of {shown(self.fitted.pair_ids)}; measure the "
                "same pairs, in one order"
            )

    @property
    def pair_ids(self) -> Tensor:
        """`(N,)` int64."""
        return self.bound.pair_ids

    @cached_property
    def _above(self) -> Estimate:
        return max((self.fitted.using("gap"), self.fitted.using("orthogonal")), key=lambda read: read.mean().value)

    @property
    def below(self) -> Value:
        """The lower side, in the mean over pairs."""
        return self.bound.mean()

    @property
    def above(self) -> Value:
        """The upper side, in the mean over pairs."""
        return self._above.mean()

    @property
    def interval(self) -> tuple[float, float]:
        """From two standard errors below the lower side to two above the upper one, nats."""
        return self.below.value - 2 * self.below.stderr, self.above.value + 2 * self.above.stderr

    @property
    def width(self) -> Value:
        """What the two sides differ by, its error that of the difference, pair by pair."""
        return mean_over_pairs(self._above.nats - self.bound.in_mean().nats)

    @property
    def nats(self) -> Tensor:
        """`(N,)` the middle of each pair's two readings."""
        return (self.bound.in_mean().nats + self._above.nats) / 2

    @property
    def stderr(self) -> Tensor:
        """`(N,)` standard error over noise draws; not a number if it is not known of both."""
        return (self.bound.stderr.square() + self._above.stderr.square()).sqrt() / 2

    def in_mean(self, cluster: Labels | None = None) -> Contributions:
        """What each pair adds to the mean: the middle of its two readings."""
        return Contributions.of(self.nats)

    def warnings(self) -> tuple[str, ...]:
        """List what a reader should know about this interval before it."""
        said: list[str] = []
        most = self.bound.mixture.surprise
        said += of_ceiling(mean_over_pairs(self._above.nats - most), float(most.mean()))
        width = self.width
        if width.value < -2 * width.stderr:
            said.append(
                Finding(
                    f"the two sides cross: the upper one is {-width.value:.3f} +- {width.stderr:.3f} nats below the bound. The bound holds, so that "
                    "the conditional branch errs, or the marginal was fitted to other data",
                    "sandwich",
                    "don't",
                )
            )
        # What speaks against the form that is the upper side speaks against the interval; that it is fitted is said of every sandwich.
        above = [note for note in self._above.warnings() if not _is_about(note, "pairs", "fitted", "ceiling")]
        kept = [note for note in self.bound.warnings() if not _is_about(note, "pairs", "calibration")]
        return tuple(dict.fromkeys((*said, *above, *kept, *of_pairs(len(self), self.mean(), "bound"))))

    def __str__(self) -> str:
        lines = [
            f"verdict: {self.verdict}",
            f"between {self.below} and {self.above}, over {len(self)} pairs; the middle is {self.mean()}",
            "below: log q of candidates, fails by chance alone",
            f"above: the {self._above.integrand} form against {self.fitted.settings['base']}, fails where the conditional branch errs",
        ]
        return in_short(lines, self.verdict.told)

    def to_pandas(self) -> pandas.DataFrame:
        """One row a pair: id, the middle and its error, and both readings."""
        needs("pandas", "data")
        return super().to_pandas().assign(below=self.bound.in_mean().nats.numpy(), above=self._above.nats.numpy())

    # ---- files ----

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Both records; for files."""
        (bound, said), (fitted, told) = self.bound.packed(), self.fitted.packed()
        return {**prefixed("bound", bound), **prefixed("fitted", fitted)}, {"bound": said, "fitted": told}

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Sandwich:
        """From what `packed` gave."""
        return cls(
            Filtered.unpacked(within(tensors, "bound"), record["bound"]),
            Estimate.unpacked(within(tensors, "fitted"), record["fitted"]),
        )

    @staticmethod
    def merge(parts: Sequence[Sandwich]) -> Sandwich:
        """Join sandwiches of different pairs.

        Raises:
            ValueError: as `Filtered.merge` and `Estimate.merge` do.
        """
        to_merge(parts, Sandwich)
        return Sandwich(Filtered.merge([part.bound for part in parts]), Estimate.merge([part.fitted for part in parts]))


def _is_about(note: str, *about: str) -> bool:
    return isinstance(note, Finding) and note.about in about
