"""How far a null branch is from the mixture of candidates, level by level: is it their marginal?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.checks import needs
from mmg_diffusers.files.printed import in_short
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.judging import scale_of
from mmg_diffusers.measure.measured import Measured, to_merge
from mmg_diffusers.measure.moments import Curve
from mmg_diffusers.measure.value import Value, mean_over_pairs, stderr_over_pairs
from mmg_diffusers.measure.verdict import Finding, weighed, worst

if TYPE_CHECKING:
    import pandas

# A level is trusted where the null's distance from the mixture is below this share of what the curve has at its peak.
TRUSTED = 0.05


@dataclass(frozen=True, repr=False)
class Audit(Measured):
    """The null branch held against the mixture of candidates at the same noise.

    `nats` `(N,)` is each pair's half of the integral of |e_null - e_mixture|^2: what separates the null branch from the
    marginal that the candidates make, in nats. It is 0 for a null that is their marginal, and what the orthogonal form
    with the null can be wrong by is of this size. `excess` is signed: what the gap form with the null reads above the
    one with the mixture, at the same noise.

    The mixture is made by the conditional branch alone, so it is the better marginal as far as that branch and the list
    of candidates are right. For open captions, of which the run's own prompts are a sample, information against the
    mixture is at most ln of their number, and the distance says how the null differs from *these* prompts.
    """

    FORMAT = "mmg_diffusers.Audit/1"
    KIND = "audit"

    filtered: Filtered

    def __post_init__(self) -> None:
        _ = self._curve

    @property
    def _curve(self) -> Curve:
        curve = self.filtered.evidence.null
        if curve is None:
            raise ValueError(
                "the null branch was not run beside the candidates; filter with audit=True, or use pipe.audit"
            )
        return curve

    @property
    def pair_ids(self) -> Tensor:
        """`(N,)` int64."""
        return self.filtered.pair_ids

    def _read(self, form: str) -> Estimate:
        made = self.filtered
        return Estimate(self._curve, "orthogonal" if form == "orthogonal" else "gap", made.settings, made.versions)

    @property
    def nats(self) -> Tensor:
        """`(N,)` half of the integral of |e_null - e_mixture|^2."""
        return self._read("orthogonal").nats

    @property
    def stderr(self) -> Tensor:
        """`(N,)` standard error of `nats` from the noise draws."""
        return self._read("orthogonal").stderr

    @property
    def distance(self) -> Value:
        """The mean of `nats`, with its standard error over pairs."""
        return self.mean()

    @property
    def excess(self) -> Value:
        """What the gap with the null reads above the gap with the mixture, in the mean over pairs."""
        return self._read("gap").mean()

    @property
    def with_mixture(self) -> Value:
        """The gap with the mixture as the marginal: what the estimate would be with it."""
        return self.filtered.against_mixture.using("gap").mean()

    @property
    def with_null(self) -> Value:
        """The gap with the null as the marginal, at the same noise."""
        gaps = self._read("gap").nats + self.filtered.against_mixture.using("gap").nats
        return mean_over_pairs(gaps)

    @property
    def logsnr(self) -> Tensor:
        """`(L,)` levels."""
        return self.filtered.logsnr[:-1]

    @property
    def by_level(self) -> tuple[Tensor, Tensor]:
        """The distance at each level, nats per unit of log-SNR, and its standard error over pairs, `(L,)` each."""
        density = self._curve.orthogonal.mean(1) / 2
        return density.mean(0), stderr_over_pairs(density)

    @property
    def trusted(self) -> Tensor:
        """`(L,)` the levels at which the null is near the mixture.

        That is: its distance is below 5 % of the peak of the information's own curve, |e_true - e_mixture|^2 / 2.
        """
        distance, _ = self.by_level
        peak = (self.filtered.compared.orthogonal.mean((0, 1)) / 2).max()
        return distance <= TRUSTED * peak

    def bands(self) -> tuple[tuple[float, float], ...]:
        """The ranges of log-SNR whose levels are all trusted, from the noisy end to the clean one."""
        levels, good = self.logsnr.tolist(), self.trusted.tolist()
        found: list[tuple[float, float]] = []
        start: float | None = None
        for place, (level, fine) in enumerate(zip(levels, good, strict=True)):
            if fine and start is None:
                start = level
            if start is not None and (not fine or place == len(levels) - 1):
                end = level if fine else levels[place - 1]
                if end > start:
                    found.append((start, end))
                start = None
        return tuple(found)

    def warnings(self) -> tuple[str, ...]:
        """List what a reader should know: the filter's warnings, and whether the null is the candidates' marginal."""
        own = self.finding
        return (*([] if own.grade == "trust" else [own]), *self.filtered.warnings())

    @property
    def finding(self) -> Finding:
        """What the audit makes of a number with the null prompt; of grade "trust" if the null is the candidates' marginal.

        `Estimate.noting` puts it beside such a number, whose verdict it then belongs to.
        """
        distance, error = self.distance
        scale = scale_of(self.with_mixture.value)
        if not distance > max(3 * error, TRUSTED * scale):
            return Finding(
                f"the null branch is {distance:.3f} +- {error:.3f} nats from the mixture of these candidates, as far as their marginal",
                "audit",
                "trust",
            )
        return Finding(
            f"the null branch is {distance:.3f} +- {error:.3f} nats from the mixture of these candidates: it is not their "
            "marginal, and a number with the null prompt is not about them",
            "audit",
            worst(["with caution", weighed((distance - 2 * error) / scale)]),
        )

    def to_pandas(self) -> pandas.DataFrame:
        """One row a level: the distance and its error, both curves, and whether the null is trusted there."""
        needs("pandas", "data")
        import pandas

        distance, error = self.by_level
        compared = self.filtered.compared
        return pandas.DataFrame(
            {
                "logsnr": self.logsnr.numpy(),
                "distance": distance.numpy(),
                "stderr": error.numpy(),
                "with_mixture": (compared.gap.mean((0, 1)) / 2).numpy(),
                "with_null": ((compared.gap + self._curve.gap).mean((0, 1)) / 2).numpy(),
                "trusted": self.trusted.numpy(),
            }
        )

    def lines(self) -> list[str]:
        """What is said of the null branch, before its warnings."""
        bands = ", ".join(f"{low:.2f} to {high:.2f}" for low, high in self.bands()) or "none"
        return [
            f"verdict on the null branch: {self.verdict}",
            f"null branch against the mixture of {self.filtered.mixture.slots.shape[1]} candidates, {len(self)} pairs: "
            f"{self.distance} apart",
            f"gap with the null {self.with_null}, with the mixture {self.with_mixture}; difference {self.excess}",
            f"log-SNR at which the null can be trusted: {bands}",
        ]

    def __str__(self) -> str:
        return in_short(self.lines(), self.verdict.told)

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors, by name, and what else there is; for files."""
        return self.filtered.packed()

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Audit:
        """From what `packed` gave."""
        return cls(Filtered.unpacked(tensors, record))

    @staticmethod
    def merge(parts: Sequence[Audit]) -> Audit:
        """Join audits of different pairs.

        Raises:
            ValueError: as `Filtered.merge` does.
        """
        to_merge(parts, Audit)
        return Audit(Filtered.merge([part.filtered for part in parts]))
