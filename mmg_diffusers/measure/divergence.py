"""Divergences and interactions, and entropies of version 0.1: other differences of two denoisers along one noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from mmg_diffusers.checks import of_type, shown, warn
from mmg_diffusers.denoisers.base import Condition, Denoiser, TwoDenoisers, check_denoiser_type
from mmg_diffusers.denoisers.references import GaussianReference
from mmg_diffusers.files.records import within
from mmg_diffusers.measure.batches import check_condition
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.estimators import MMG
from mmg_diffusers.measure.measured import Measured, prefixed, to_merge
from mmg_diffusers.measure.quadrature import Quadrature, StratifiedUniform
from mmg_diffusers.measure.value import Labels
from mmg_diffusers.measure.weighing import Contributions

Form = Literal["gap", "orthogonal"]


@dataclass(frozen=True, repr=False)
class Entropy(Measured):
    """The entropy of x in nats, from a denoiser against N(0, sigma^2) (arXiv 2310.09031, eq. 15), as version 0.1 measured it.

    `nats` is the reference's surprise less the log-likelihood ratio that `ratio` holds; its mean over x is the
    (differential) entropy. Of the gap form it is -log p(x) of every x; of the orthogonal one it is that in the mean alone.
    `mmg_diffusers.measure.Density` stands in its place, and says more: what lies beyond the range, among others.
    """

    FORMAT = "mmg_diffusers.Entropy/1"
    KIND = "entropy"

    reference: Tensor
    ratio: Estimate

    def __post_init__(self) -> None:
        if self.reference.shape != (len(self.ratio),):
            raise ValueError(f"the reference is {tuple(self.reference.shape)}; expected {len(self.ratio)} numbers")

    @property
    def pair_ids(self) -> Tensor:
        """`(N,)` int64."""
        return self.ratio.pair_ids

    @property
    def nats(self) -> Tensor:
        """`(N,)` whose mean is the entropy; -log p(x) if the ratio was read by "gap"."""
        return self.reference - self.ratio.nats

    @property
    def stderr(self) -> Tensor:
        """`(N,)` standard error of `nats` from the noise draws."""
        return self.ratio.stderr

    def in_mean(self, cluster: Labels | None = None) -> Contributions:
        """What each x adds to the mean."""
        return self.ratio.in_mean(cluster).map(lambda nats: self.reference - nats)

    def warnings(self) -> tuple[str, ...]:
        """Those of the ratio."""
        return self.ratio.warnings()

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors, by name, and what else there is; for files."""
        tensors, record = self.ratio.packed()
        return prefixed("ratio", tensors) | {"reference": self.reference}, {"ratio": record}

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Entropy:
        """From what `packed` gave."""
        return cls(tensors["reference"], Estimate.unpacked(within(tensors, "ratio"), record["ratio"]))

    @staticmethod
    def merge(parts: Sequence[Entropy]) -> Entropy:
        """Join entropies of different variables.

        Raises:
            ValueError: as `Estimate.merge` does.
        """
        to_merge(parts, Entropy)
        return Entropy(torch.cat([part.reference for part in parts]), Estimate.merge([part.ratio for part in parts]))


@dataclass(frozen=True)
class EntropyEstimator:
    """Entropy of x, or of x given a condition: the mean `surprise` of a `Density`, which stands in its place.

    To be removed with version 0.3.

    Args:
        integrand: ``"gap"``: -log p of each x, as the network tells it; ``"orthogonal"``: MINDE's, whose mean is the
            entropy, and which says nothing of a single x.
        sigma: standard deviation of the reference; choose it near the data's.
        quadrature, draws, antithetic: as in `MMG`.

    Raises:
        ValueError: as `MMG` and `GaussianReference` do.
    """

    integrand: Form = "gap"
    sigma: float = 1.0
    quadrature: Quadrature = field(default_factory=lambda: StratifiedUniform(64))
    draws: int = 1
    antithetic: bool = False

    def __post_init__(self) -> None:
        if self.integrand not in ("gap", "orthogonal"):
            raise ValueError(f"integrand is {shown(self.integrand)}; expected 'gap' or 'orthogonal'")
        GaussianReference(self.sigma)
        _ = self._mmg
        warn(
            "EntropyEstimator goes with version 0.3; use Density(GaussianReference(sigma)), whose surprise is -log p(x)",
            DeprecationWarning,
        )

    @property
    def _mmg(self) -> MMG:
        return MMG(self.integrand, self.quadrature, self.draws, self.antithetic)

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
    ) -> Entropy:
        """Estimate the entropy of x, `(N, *event)`; of x given `cond`, N rows, if there is one."""
        reference = GaussianReference(self.sigma)
        check_denoiser_type(denoiser)
        check_condition(cond, len(x) if isinstance(x, Tensor) else 0, "cond", empty=False)
        ratio = self._mmg(
            TwoDenoisers(reference, denoiser),
            x,
            {} if cond is None else cond,
            seed=seed,
            pair_ids=pair_ids,
            logsnr_range=logsnr_range,
            batch_size=batch_size,
            settings={"reference": self.sigma},
        )
        return Entropy(reference.surprise(x), ratio)


def kl_divergence(
    p: Denoiser,
    q: Denoiser,
    x: Tensor,
    *,
    estimator: MMG | None = None,
    seed: int = 0,
    pair_ids: Tensor | None = None,
    logsnr_range: tuple[float, float] | None = None,
    batch_size: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Estimate:
    """KL(p || q) of two models of one variable, from draws x of p (arXiv 2310.09031, eq. 11).

    Args:
        p: denoiser of the law that x was drawn from.
        q: the other denoiser.
        x: `(N, *event)`.
        estimator: integrand and quadrature; ``MMG("orthogonal")`` by default.
        seed, pair_ids, logsnr_range, batch_size, settings: as in `MMG`; the ids name the noise of x that is measured in
            parts.

    Raises:
        TypeError: for other than denoisers and an estimator.
        ValueError: if the two know no level in common, and as `MMG` does.

    Returns:
        log p(x) / q(x) of every x (gap), or the divergence's integrand at it (orthogonal); the mean is the divergence.
    """
    estimator = estimator or MMG("orthogonal", StratifiedUniform(64))
    check_denoiser_type(p, q)
    of_type(estimator, MMG, "estimator", "one such as MMG('orthogonal')")
    return estimator(
        TwoDenoisers(q, p),
        x,
        {},
        seed=seed,
        pair_ids=pair_ids,
        logsnr_range=logsnr_range,
        batch_size=batch_size,
        settings=settings,
    )


@dataclass(frozen=True, repr=False)
class Interaction(Measured):
    """I(x; y) - I(x; y | c): the information that y and c share about x; negative if they tell more together.

    For the sign: McGill's interaction information is the negative of this in some texts; this is the one of MINDE,
    section F (positive for redundancy).
    """

    FORMAT = "mmg_diffusers.Interaction/1"
    KIND = "interaction"

    alone: Estimate
    conditional: Estimate

    def __post_init__(self) -> None:
        if not torch.equal(self.alone.pair_ids, self.conditional.pair_ids):
            raise ValueError("the two estimates of an interaction are of different pairs")

    @property
    def pair_ids(self) -> Tensor:
        """`(N,)` int64."""
        return self.alone.pair_ids

    @property
    def nats(self) -> Tensor:
        """`(N,)` pointwise."""
        return self.alone.nats - self.conditional.nats

    @property
    def stderr(self) -> Tensor:
        """`(N,)` from the noise draws, as if those of the two were independent (they are shared, so it errs large)."""
        return (self.alone.stderr.square() + self.conditional.stderr.square()).sqrt()

    def in_mean(self, cluster: Labels | None = None) -> Contributions:
        """What each pair adds to the mean; noise that the two share cancels."""
        return self.alone.in_mean(cluster).less(self.conditional.in_mean(cluster))

    def warnings(self) -> tuple[str, ...]:
        """Those of both estimates, each once."""
        return tuple(dict.fromkeys((*self.alone.warnings(), *self.conditional.warnings())))

    def packed(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors, by name, and what else there is; for files."""
        tensors: dict[str, Tensor] = {}
        record: dict[str, Any] = {}
        for name, part in (("alone", self.alone), ("conditional", self.conditional)):
            held, record[name] = part.packed()
            tensors |= prefixed(name, held)
        return tensors, record

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> Interaction:
        """From what `packed` gave."""
        return cls(*(Estimate.unpacked(within(tensors, name), record[name]) for name in ("alone", "conditional")))

    @staticmethod
    def merge(parts: Sequence[Interaction]) -> Interaction:
        """Join interactions of different pairs.

        Raises:
            ValueError: as `Estimate.merge` does.
        """
        to_merge(parts, Interaction)
        return Interaction(
            Estimate.merge([part.alone for part in parts]), Estimate.merge([part.conditional for part in parts])
        )


def interaction_information(
    denoiser: Denoiser,
    x: Tensor,
    y: Condition,
    c: Condition,
    *,
    estimator: MMG | None = None,
    seed: int = 0,
    logsnr_range: tuple[float, float] | None = None,
    batch_size: int | None = None,
) -> Interaction:
    """I(x; y) - I(x; y | c) from one network that takes y, c, both or neither (arXiv 2310.09031, section F).

    Args:
        denoiser: conditions are mappings, so that `{**y, **c}` is both.
        x: `(N, *event)`.
        y, c: N rows each, of different keys.
        estimator: ``MMG("auto")`` on 64 stratified levels by default; both parts share its noise.
        seed, logsnr_range, batch_size: as in `MMG`.

    Raises:
        ValueError: when y and c share a key.
    """
    for name, cond in (("y", y), ("c", c)):
        of_type(cond, Mapping, name, "a condition: tensors by name")
    if y.keys() & c.keys():
        raise ValueError(f"y and c both hold {sorted(y.keys() & c.keys())}; expected different variables")
    estimator = estimator or MMG("auto", StratifiedUniform(64))
    of_type(estimator, MMG, "estimator", "one such as MMG('auto')")
    alone = estimator(denoiser, x, y, seed=seed, logsnr_range=logsnr_range, batch_size=batch_size)
    both = {**y, **c}
    conditional = estimator(denoiser, x, both, c, seed=seed, logsnr_range=logsnr_range, batch_size=batch_size)
    return Interaction(alone, conditional)
