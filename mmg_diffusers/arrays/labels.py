"""Labels compared for variables of one's own: what pipelines do with candidate prompts, for any denoiser and any conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmg_diffusers.analysis.audit import Audit
from mmg_diffusers.analysis.calibration import Calibration
from mmg_diffusers.analysis.classification import Classification
from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.checks import finite, of_type, shown
from mmg_diffusers.denoisers.base import Condition, Denoiser, check_denoiser_type
from mmg_diffusers.denoisers.forwards import memory_notes
from mmg_diffusers.denoisers.precision import widened
from mmg_diffusers.measure.batches import Pairs, check_condition
from mmg_diffusers.measure.candidates import CandidateCurve, NoisePath, measure_candidates
from mmg_diffusers.measure.verdict import of_network
from mmg_diffusers.pairs.mixture import Mixture


@dataclass(frozen=True)
class LabelSet:
    """Conditions that a variable's true one is among: K rows of the network's own condition.

    Args:
        conditions: what the network takes, one row a label: ``{"label": torch.arange(10)}``.
        names: what they are called, all different; by default their numbers.
        prior: their probabilities, uniform by default.

    Raises:
        TypeError: for something else than tensors by name.
        ValueError: for fewer than two labels, or names or a prior that do not fit.
    """

    conditions: Condition
    names: Sequence[str] = ()
    prior: Sequence[float] | None = None

    def __post_init__(self) -> None:
        of_type(
            self.conditions, Mapping, "labels", "a condition: tensors by name, one row a label, such as {'label': ...}"
        )
        if not self.conditions:
            raise ValueError("labels holds no tensor; expected one row a label, such as {'label': torch.arange(10)}")
        count = len(next(iter(self.conditions.values())))
        check_condition(self.conditions, count, "labels")
        if count < 2:
            raise ValueError(f"labels has {count} row; expected two labels or more to compare")
        names = tuple(self.names) or tuple(map(str, range(count)))
        if len(names) != count or len(set(names)) < count:
            raise ValueError(
                f"got {len(names)} names, {len(set(names))} different ones, for {count} labels; expected one each"
            )
        object.__setattr__(self, "names", names)
        if self.prior is not None:
            shares = [finite(share, "a prior probability") for share in self.prior]
            if len(shares) != count or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
                raise ValueError(f"prior is {shown(shares)}; expected {count} positive probabilities that sum to 1")

    @classmethod
    def of(cls, labels: LabelSet | Condition) -> LabelSet:
        """LabelSet as they are, or of conditions alone."""
        return labels if isinstance(labels, LabelSet) else cls(labels)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def probability(self) -> Tensor:
        """`(K,)` float64."""
        return torch.tensor(self.prior or [1 / len(self)] * len(self), dtype=torch.float64)

    def mixture(self, truth: Sequence[int] | Tensor, pairs: int) -> Mixture:
        """The labels of `pairs` variables, and which of them are true, by their rows.

        Raises:
            TypeError: for other than whole numbers.
            ValueError: for another number of them, or one that is no row.
        """
        index = torch.as_tensor(truth)
        if index.is_floating_point() or index.dtype == torch.bool:
            raise TypeError(f"the true labels are {index.dtype}; expected whole numbers, rows of labels")
        index = index.cpu().long()
        if index.shape != (pairs,):
            raise ValueError(
                f"the true labels have shape {tuple(index.shape)}; expected one for each of {pairs} variables"
            )
        outside = index[(index < 0) | (index >= len(self))]
        if len(outside):
            raise ValueError(
                f"a true label is {int(outside[0])}, which is not among the {len(self)} that are compared (rows 0 to {len(self) - 1}); add it"
            )
        return Mixture(
            tuple(self.names),
            torch.arange(len(self)).expand(pairs, -1),
            self.probability.expand(pairs, -1).contiguous(),
            index,
        )


@dataclass(frozen=True)
class _Comparison:
    """What is compared, and how: the call that all three share."""

    denoiser: Denoiser
    x: Tensor
    labels: LabelSet
    path: NoisePath
    seed: int
    batch_size: int | None

    @classmethod
    def of(
        cls,
        denoiser: Denoiser,
        x: Tensor,
        labels: LabelSet | Condition,
        path: NoisePath | None,
        seed: int,
        batch_size: int | None,
    ) -> _Comparison:
        """Checked, with the default path if none is given."""
        check_denoiser_type(denoiser)
        return cls(denoiser, x, LabelSet.of(labels), path or NoisePath(), seed, batch_size)

    def follow(self, truth: Tensor | None = None) -> tuple[CandidateCurve, dict[str, object], tuple[str, ...]]:
        """The evidence, the settings of its record, and what to say of it."""
        pairs = Pairs.of(self.x)
        curve = measure_candidates(
            self.denoiser,
            pairs,
            self.labels.conditions,
            self.path,
            truth=truth,
            prior=self.labels.probability,
            seed=self.seed,
            batch_size=self.batch_size,
        )
        if len(pairs) > 1:
            # All variables are at hand, so that they are held against their mean.
            wide = widened(pairs.x).flatten(1).cpu()
            curve = replace(curve, square=(wide - wide.mean(0)).square().sum(1) * len(wide) / (len(wide) - 1))
        settings = {
            "quadrature": repr(self.path.quadrature),
            "logsnr_range": [float(curve.logsnr[0]), float(curve.logsnr[-1])],
            "draws": self.path.draws,
            "prune": self.path.prune,
            "seed": self.seed,
        }
        notes = (
            *self.denoiser.notes,
            *of_network(self.denoiser),
            *memory_notes(self.denoiser),
        )
        return curve, settings, notes


def classify(
    denoiser: Denoiser,
    x: Tensor,
    labels: LabelSet | Condition,
    *,
    path: NoisePath | None = None,
    calibration: Calibration | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Classification:
    """Compare labels for each variable; no branch without a condition is needed.

    Args:
        denoiser: the network; `Adapted` makes one of yours.
        x: `(N, *event)` variables, as the network was trained on.
        labels: what is compared, one row a label.
        path: along which noise; 64 steps over the network's whole range by default.
        calibration: from `Classification.calibrate` on other variables.
        seed, batch_size: as in `MMG`.

    Raises:
        TypeError, ValueError: for labels, variables or a path that do not fit.
    """
    asked = _Comparison.of(denoiser, x, labels, path, seed, batch_size)
    among, found = asked.labels, calibration or Calibration()
    found.check(len(among))
    curve, settings, notes = asked.follow()
    return Classification(curve, tuple(among.names), among.probability, found, settings, notes=notes)


def filter_labels(
    denoiser: Denoiser,
    x: Tensor,
    labels: LabelSet | Condition,
    truth: Sequence[int] | Tensor,
    *,
    path: NoisePath | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Filtered:
    """Mutual information of each variable with its label, by the posterior along a path of noise: a bound, whatever the network's errors.

    Args:
        denoiser, x, labels, path, seed, batch_size: as in `classify`.
        truth: `(N,)` which row of `labels` is the true one of each variable.

    Raises:
        TypeError, ValueError: as `classify` does, and for true labels that are not among those compared.
    """
    asked = _Comparison.of(denoiser, x, labels, path, seed, batch_size)
    mixture = asked.labels.mixture(truth, len(Pairs.of(x)))
    curve, settings, notes = asked.follow(mixture.truth)
    return Filtered(curve, mixture, settings, notes=notes)


def audit_labels(
    denoiser: Denoiser,
    x: Tensor,
    labels: LabelSet | Condition,
    truth: Sequence[int] | Tensor,
    *,
    path: NoisePath | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Audit:
    """How far the branch without a condition is from the mixture of labels, level by level: is it their marginal?

    Args:
        denoiser, x, labels, truth, path, seed, batch_size: as in `filter_labels`, which this is, with the null branch beside it.

    Raises:
        ValueError: for a network without a null, and as `filter_labels` does.
    """
    check_denoiser_type(denoiser)
    if not denoiser.has_marginal:
        raise ValueError(
            "the denoiser has no unconditional branch to audit; compare labels with filter_labels or classify"
        )
    chosen = replace(path or NoisePath(), null=True)
    return Audit(filter_labels(denoiser, x, labels, truth, path=chosen, seed=seed, batch_size=batch_size))
