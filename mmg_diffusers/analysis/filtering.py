"""The posterior filter: a marginal made of candidates, and what the posterior says level by level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmg_diffusers.analysis.classification import Classification
from mmg_diffusers.analysis.influence import Influence
from mmg_diffusers.checks import needs, of_type
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.files.records import versions
from mmg_diffusers.measure.candidates import CandidateCurve
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.measured import Measured, same_origin, to_merge
from mmg_diffusers.measure.value import Value, mean_over_pairs
from mmg_diffusers.pairs.marginals import Mixture

if TYPE_CHECKING:
    import pandas

# The posterior has settled where its mean information is within this of where it ends, in nats.
SETTLED = 0.005
# Below this, in nats, an error of the step is not worth a warning.
COARSE = 0.05


@dataclass(frozen=True)
class Filtered(Measured):
    """Information of each variable about its true candidate, three ways along one Brownian path of noise.

    `evidence` holds the scores, `mixture` the candidates of every variable. If a variable's candidates share a part,
    all is conditional on that part.

    The headline is log q(y | path) - log p(y): a lower bound in expectation whatever the network's errors, with little
    noise. It starts at the path's noisy end: what the noisy end already tells, `below`, is not in it.
    """

    FORMAT = "mmg_diffusers.Filtered/1"
    KIND = "filter"

    evidence: CandidateCurve
    mixture: Mixture
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        asked, held = tuple(self.mixture.slots.shape), (len(self.evidence.score), self.evidence.score.shape[-1])
        if asked != held:
            raise ValueError(f"the candidates are of {asked} variables and slots, the evidence of {held}")
        of_type(self.settings, Mapping, "settings", "a mapping of names to what JSON can hold")

    @property
    def pair_ids(self) -> Tensor:
        """`(N,)` int64."""
        return self.evidence.pair_ids

    @property
    def logsnr(self) -> Tensor:
        """`(L + 1,)` levels of the path."""
        return self.evidence.logsnr

    @property
    def evaluations(self) -> int:
        """Rows that went through the network."""
        return self.evidence.evaluations

    @cached_property
    def against_mixture(self) -> Estimate:
        """The true candidate against the mixture of all (gap and orthogonal), which needs no unconditional branch."""
        if self.evidence.mixture is None:
            raise ValueError("the evidence was measured without the true candidates; filter with pipe.filter")
        settings = {**self.settings, "base": "the mixture of candidates"}
        return Estimate(self.evidence.mixture, "auto", settings, self.versions, self.notes)

    @cached_property
    def log_posterior(self) -> Tensor:
        """log q(candidate | path up to each level), `(N, D, L + 1, K)`, as it stands (no calibration)."""
        score = self.evidence.score
        start = self.mixture.log_prior[:, None, None].expand(-1, score.shape[1], 1, -1)
        return torch.log_softmax(torch.cat([start, score], 2).cumsum(2), 3)

    def _true(self, log_posterior: Tensor) -> Tensor:
        index = self.mixture.truth.view(-1, 1, 1, 1).expand(*log_posterior.shape[:3], 1)
        return log_posterior.gather(3, index)[..., 0]

    @property
    def by_level(self) -> Tensor:
        """log q(y | path up to each level) - log p(y), `(N, L + 1)`, averaged over draws."""
        return self._true(self.log_posterior).mean(1) - self.mixture.log_prior.gather(1, self.mixture.truth[:, None])

    @property
    def entropy_by_level(self) -> Tensor:
        """H(Y) - H(q at each level), `(N, L + 1)`: the same in expectation if q is calibrated."""
        before = torch.special.entr(self.mixture.prior).sum(1, keepdim=True)
        return before - torch.special.entr(self.log_posterior.exp()).sum(3).mean(1)

    def integrated_by_level(self, form: str = "gap") -> Tensor:
        """The integral of the comparison with the mixture up to each of the first L levels, `(N, L)`."""
        curve = self.against_mixture.curve
        values = getattr(curve, form).mean(1) / 2
        step = curve.logsnr[:, 0].diff(dim=1) * (values[:, 1:] + values[:, :-1]) / 2
        return torch.cat([torch.zeros_like(values[:, :1]), step.cumsum(1)], 1)

    @property
    def nats(self) -> Tensor:
        """`(N,)` pointwise information: log q(y | whole path) - log p(y)."""
        return self.by_level[:, -1]

    @property
    def stderr(self) -> Tensor:
        """`(N,)` standard error over noise draws; not a number if there is one draw."""
        log_q = self._true(self.log_posterior)[..., -1]
        draws = log_q.shape[1]
        return log_q.std(1) / draws**0.5 if draws > 1 else torch.full_like(log_q[:, 0], float("nan"))

    @property
    def below(self) -> Value:
        """Information estimated to lie below the path's noisy end: half of the gap there."""
        return self.against_mixture.using("gap").boundary.low

    @property
    def steadied_by_level(self) -> Tensor:
        """The integral of the gap up to each of the first L levels, steadied, `(N, L)`; NaN without innovations.

        What a small step adds to log q is half of the gap over it and a multiple of its innovation, which no prediction
        knows (Duncan 1968): with it the gap has the expectation that it had, and most of its noise is gone.
        """
        integral = self.integrated_by_level("gap")
        innovation = self.evidence.innovation
        if innovation is None:
            return torch.full_like(integral, float("nan"))
        return integral + torch.cat([torch.zeros_like(integral[:, :1]), innovation.mean(1).cumsum(1)[:, :-1]], 1)

    @property
    def step_error(self) -> Value:
        """What the steadied gap lies above log q at the end: 0 if steps are small enough, whatever the network."""
        difference = self.steadied_by_level[:, -1] - self.by_level[:, -2]
        return mean_over_pairs(difference)

    @property
    def settled(self) -> float:
        """The level from which on the mean information stays where it ends; steps beyond it were not needed."""
        mean = self.by_level.mean(0)
        moved = ((mean - mean[-1]).abs() > SETTLED).nonzero().flatten()
        return float(self.logsnr[int(moved[-1]) + 1]) if len(moved) else float(self.logsnr[0])

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
        true = self.mixture.slots.gather(1, self.mixture.truth[:, None])[:, 0]
        return [self.mixture.names[k] for k in true.tolist()]

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
        said = list(self.notes)
        moved, high = self.settled, float(self.logsnr[-1])
        if moved >= high - 1e-9:
            said.append(
                f"the posterior still moves at the end of the path, log-SNR {high:.2f}: follow it further, or, if that is the "
                "model's clean end, mind that its errors weigh most there"
            )
        off, stderr = self.step_error
        if abs(off) > max(3 * stderr, COARSE):
            said.append(
                f"the {len(self.logsnr) - 1} steps of the path are too large: the gap to the mixture is {off:.3f} +- {stderr:.3f} nats "
                "from log q; take more"
            )
        log_q, entropy = self.by_level[:, -1], self.entropy_by_level[:, -1]
        difference = entropy - log_q
        off, stderr = mean_over_pairs(difference)
        if abs(off) > 3 * stderr:
            said.append(
                f"the posterior claims {off:.3f} +- {stderr:.3f} nats more than it is right about: it is not calibrated"
                if off > 0
                else f"the posterior claims {-off:.3f} +- {stderr:.3f} nats less than it knows: it is not calibrated"
            )
        return tuple(said)

    def influence(self, convention: Convention | None = None) -> Influence:
        """What the condition still adds at each level of the path: I(A; B | X_tau), from log q.

        Args:
            convention: the network's, to tell timesteps by.
        """
        levels = self.by_level
        spread = self._true(self.log_posterior)
        rest = levels[:, -1:] - levels
        draws = spread.shape[1]
        error = (spread[..., -1:] - spread).std(1) / draws**0.5 if draws > 1 else torch.full_like(rest, float("nan"))
        return Influence(self.logsnr, rest, error, convention)

    def __str__(self) -> str:
        low, high = float(self.logsnr[0]), float(self.logsnr[-1])
        lines = [
            f"{self.mean()} or more, over {len(self)} pairs and {self.mixture.slots.shape[1]} candidates (log q, "
            f"log-SNR {low:.2f} to {high:.2f} in {len(self.logsnr) - 1} steps, settled from {self.settled:.2f} on, "
            f"{self.evaluations} evaluations, at most {self.mixture.ceiling:.3f}); about {self.below.value:.3f} lie below"
        ]
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings())])

    # ---- files ----

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Evidence and candidates as tensors, and everything else; for files."""
        tensors, record = self.evidence.packed()
        tensors |= {name: getattr(self.mixture, name) for name in ("slots", "prior", "truth")}
        return tensors, record | {
            "names": list(self.mixture.names),
            "settings": dict(self.settings),
            "versions": dict(self.versions),
            "notes": list(self.notes),
            "nats_below": list(self.below),
        }

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Filtered:
        """From what `packed` gave."""
        names = ("slots", "prior", "truth")
        mixture = Mixture(tuple(record["names"]), *(tensors[name] for name in names))
        rest = {name: value for name, value in tensors.items() if name not in names}
        evidence = CandidateCurve.unpacked(rest, record)
        return cls(evidence, mixture, record["settings"], record["versions"], tuple(record["notes"]))

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
                    f"{first.mixture.names[0]!r} and {len(other.mixture.names)} from {other.mixture.names[0]!r}; filter with the "
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
