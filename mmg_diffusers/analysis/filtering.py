"""The posterior filter: a marginal made of candidates, and what the posterior says level by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmg_diffusers.analysis.calibration import cross_fitted, even_edges, in_bands, posterior_of
from mmg_diffusers.analysis.classification import Classification
from mmg_diffusers.analysis.followed import Followed
from mmg_diffusers.analysis.influence import Influence
from mmg_diffusers.analysis.reliability import Reliability
from mmg_diffusers.checks import needs, of_type, shown
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.files.printed import in_short
from mmg_diffusers.files.records import versions
from mmg_diffusers.measure.candidates import CandidateCurve
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.judging import of_pairs
from mmg_diffusers.measure.known import of_unknown_candidates
from mmg_diffusers.measure.measured import Measured, same_origin, to_merge
from mmg_diffusers.measure.value import Labels, Value
from mmg_diffusers.measure.verdict import Finding, packed_notes, unpacked_notes
from mmg_diffusers.measure.weighing import Contributions
from mmg_diffusers.pairs.mixture import Mixture

if TYPE_CHECKING:
    import pandas

# Below this, in nats, an error of the step is not worth a warning.
COARSE = 0.05
# A path that ends below this log-SNR has seen more noise than signal.
NOISY_END = 0.0


@dataclass(frozen=True, repr=False)
class Filtered(Followed, Measured):
    """Information of each variable about its true candidate, three ways along one Brownian path of noise.

    `evidence` holds the scores, `mixture` the candidates of every variable. If a variable's candidates share a part,
    all is conditional on that part.

    `nats` is log q(y | path) - log p(y) of each pair as its own path says. The headline, `mean`, is the same by evidence that is
    believed band by band as far as *other* pairs say (`trust`): a lower bound in expectation whatever the network's errors, with
    little noise. It starts at the path's noisy end: what the noisy end already tells, `below`, is not in it.
    """

    FORMAT = "mmg_diffusers.Filtered/1"
    KIND = "filter"

    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        of_type(self.settings, Mapping, "settings", "a mapping of names to what JSON can hold")

    @property
    def pair_ids(self) -> Tensor:
        """`(N,)` int64."""
        return self.evidence.pair_ids

    @property
    def evaluations(self) -> int:
        """Rows that went through the network."""
        return self.evidence.evaluations

    @cached_property
    def against_mixture(self) -> Estimate:
        """The true candidate against the mixture of all (gap and orthogonal), which needs no unconditional branch."""
        settings = {**self.settings, "base": "the mixture of candidates"}
        return Estimate(self.compared, "auto", settings, self.versions, self._found, ceiling=self.mixture.surprise)

    @property
    def nats(self) -> Tensor:
        """`(N,)` pointwise information: log q(y | whole path) - log p(y)."""
        return self.by_level[:, -1]

    @property
    def stderr(self) -> Tensor:
        """`(N,)` standard error over noise draws; not a number if there is one draw."""
        log_q = self.of_true(self.log_posterior)[..., -1]
        draws = log_q.shape[1]
        return log_q.std(1) / draws**0.5 if draws > 1 else torch.full_like(log_q[:, 0], float("nan"))

    @property
    def below(self) -> Value:
        """Information estimated to lie below the path's noisy end: half of the gap there."""
        return self.against_mixture.using("gap").boundary.low

    @cached_property
    def classification(self) -> Classification:
        """The posterior over candidates that all variables share, for what is read off it: words, calibration.

        Raises:
            ValueError: if variables have candidates of their own (groups, negatives).
        """
        mixture = self.mixture
        shared = bool((mixture.slots == mixture.slots[0]).all()) and bool((mixture.prior == mixture.prior[0]).all())
        if not shared:
            raise ValueError(
                "variables have different candidates, so that there is no posterior over the same ones; filter with Candidates "
                "without groups"
            )
        names = tuple(mixture.names[k] for k in mixture.slots[0].tolist())
        return Classification(
            self.evidence, names, mixture.prior[0], settings=self.settings, versions=self.versions, notes=self.notes
        )

    @property
    def truth(self) -> list[str]:
        """The true candidate of every variable."""
        return self.mixture.true_names()

    def to_pandas(self) -> pandas.DataFrame:
        """One row a pair: id, log q and its error, the posterior's own reading, and both forms against the mixture."""
        needs("pandas", "data")
        import pandas

        gap, orthogonal = (self.against_mixture.using(form) for form in ("gap", "orthogonal"))
        return pandas.DataFrame(
            {
                "pair": self.evidence.pair_ids.numpy(),
                "nats": self.nats.numpy(),
                "stderr": self.stderr.numpy(),
                "entropy": self.entropy_by_level[:, -1].numpy(),
                "gap": gap.nats.numpy(),
                "orthogonal": orthogonal.nats.numpy(),
            }
        )

    def warnings(self) -> tuple[str, ...]:
        """List what a reader should know about these numbers before them."""
        return (*self._found, *of_pairs(len(self), self.mean(), "bound"))

    @cached_property
    def _found(self) -> tuple[str, ...]:
        """What there is to say of the path and its posterior, whichever form is read."""
        said = [*self.notes, *of_unknown_candidates(self.evidence)]
        moved, high = self.settled, float(self.logsnr[-1])
        if moved >= high - 1e-9:
            said.append(
                Finding(
                    f"the posterior still moves at the end of the path, log-SNR {high:.2f}: follow it further, or, if that is the "
                    "model's clean end, mind that its errors weigh most there",
                    "range",
                )
            )
        told = float(self.entropy_by_level[:, -1].mean())
        if high < NOISY_END and told < self.mixture.ceiling / 2:
            said.append(
                Finding(
                    f"the path ends at log-SNR {high:.2f}, more noise than picture, where the posterior has told {told:.2f} of "
                    f"{self.mixture.ceiling:.2f} nats: what cleaner levels tell is not in this bound",
                    "range",
                )
            )
        off, stderr = self.step_error
        if abs(off) > max(3 * stderr, COARSE):
            said.append(
                Finding(
                    f"the {len(self.logsnr) - 1} steps of the path are too large: the gap to the mixture is {off:.3f} +- {stderr:.3f} "
                    "nats from log q. Take more (levels=, or NoisePath(Trapezoid(...))); if the network hardly learned an end, follow known "
                    "levels, known_range(denoiser, x, cond).logsnr_range",
                    "range",
                )
            )
        calibration = self.reliability.finding(self.mixture.ceiling)
        if calibration is not None:
            said.append(calibration)
        return tuple(said)

    @cached_property
    def reliability(self) -> Reliability:
        """Whether the true candidates are as probable as the posterior says, by the evidence that is believed."""
        return Reliability.of(self.believed, self.mixture.truth)

    @cached_property
    def _bands(self) -> Tensor:
        """Evidence by even bands of log-SNR, averaged over draws, `(N, B, K)`."""
        return in_bands(self.evidence.score.mean(1), self.logsnr[:-1], self.edges)

    @property
    def edges(self) -> tuple[float, ...]:
        """Inner edges of the bands that `trust` is about, in log-SNR."""
        return even_edges(float(self.logsnr[0]), float(self.logsnr[-1]))

    @cached_property
    def trust(self) -> Tensor:
        """`(N, B)` how much of each band's evidence is believed of each pair, fitted on pairs of other parts of these.

        All 1 where evidence is calibrated, and of fewer than 20 pairs; 0 where it misleads, as it often does at the clean end. See
        `mmg_diffusers.analysis.calibration.cross_fitted`.
        """
        return cross_fitted(self._bands, self.mixture.log_prior, self.mixture.truth)

    @cached_property
    def believed(self) -> Tensor:
        """log q(candidate | path) by the evidence that is believed, `(N, K)`; as it stands, `(N, D, K)`, if all of it is."""
        if bool((self.trust == 1).all()):
            return self.log_posterior[:, :, -1]
        return posterior_of(self._bands, self.mixture.log_prior, self.trust)

    def in_mean(self, cluster: Labels | None = None) -> Contributions:
        """What each pair adds to the mean: log q(y | path) - log p(y), by evidence that is believed as far as other pairs say."""
        believed = self.believed if self.believed.ndim == 3 else self.believed[:, None]
        true = self.of_true(believed[:, :, None])[..., 0].mean(1)
        return Contributions.of(true + self.mixture.surprise)

    def influence(self, convention: Convention | None = None) -> Influence:
        """What the condition still adds at each level of the path: I(A; B | X_tau), from log q.

        Args:
            convention: the network's, to tell timesteps by.
        """
        levels = self.by_level
        spread = self.of_true(self.log_posterior)
        rest = levels[:, -1:] - levels
        draws = spread.shape[1]
        error = (spread[..., -1:] - spread).std(1) / draws**0.5 if draws > 1 else torch.full_like(rest, float("nan"))
        return Influence(self.logsnr, rest, error, convention)

    def __str__(self) -> str:
        low, high = float(self.logsnr[0]), float(self.logsnr[-1])
        lines = [
            f"verdict: {self.verdict}",
            f"{self.mean()} or more, over {len(self)} pairs and {self.mixture.slots.shape[1]} candidates (log q, "
            f"log-SNR {low:.2f} to {high:.2f} in {len(self.logsnr) - 1} steps, settled from {self.settled:.2f} on, "
            f"{self.evaluations} evaluations, at most {self.mixture.ceiling:.3f}); about {self.below.value:.3f} lie below",
        ]
        if not bool((self.trust == 1).all()):
            shares = ", ".join(f"{share:.2f}" for share in self.trust.mean(0).tolist())
            lines.append(f"evidence is believed as far as other pairs say, by band from noisy to clean: {shares}")
        return in_short(lines, self.verdict.told)

    # ---- files ----

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Evidence and candidates as tensors, and everything else; for files."""
        tensors, record = self.evidence.packed()
        tensors |= {name: getattr(self.mixture, name) for name in ("slots", "prior", "truth")}
        return tensors, record | {
            "names": list(self.mixture.names),
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "notes": packed_notes(self.notes),
            "nats_below": list(self.below),
        }

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Filtered:
        """From what `packed` gave."""
        names = ("slots", "prior", "truth")
        mixture = Mixture(tuple(record["names"]), *(tensors[name] for name in names))
        rest = {name: value for name, value in tensors.items() if name not in names}
        evidence = CandidateCurve.unpacked(rest, record)
        return cls(evidence, mixture, record["settings"], record["versions"], unpacked_notes(record["notes"]))

    @staticmethod
    def merge(parts: Sequence[Filtered]) -> Filtered:
        """Join filters of different pairs, measured with the same candidates and settings; pairs may differ in how many of the
        candidates are theirs.

        Raises:
            ValueError: for none, for other candidates, levels, settings or versions, or if a pair appears twice.
        """
        first = to_merge(parts, Filtered)
        for other in parts:
            if other.mixture.names != first.mixture.names:
                raise ValueError(
                    f"filters were measured with different candidates: {len(first.mixture.names)} from "
                    f"{shown(first.mixture.names[0])} and {len(other.mixture.names)} from {shown(other.mixture.names[0])}; filter with the "
                    "same ones"
                )
        notes = same_origin(parts, "filter")
        width = max(part.mixture.slots.shape[1] for part in parts)
        mixtures = [part.mixture.padded(width) for part in parts]
        mixture = Mixture(
            first.mixture.names,
            *(torch.cat([getattr(each, name) for each in mixtures]) for name in ("slots", "prior", "truth")),
        )
        evidence = CandidateCurve.merge([part.evidence.padded(width) for part in parts])
        return Filtered(evidence, mixture, first.settings, first.versions, notes)
