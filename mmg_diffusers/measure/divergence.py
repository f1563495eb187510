"""Entropies, divergences and interactions: other differences of two denoisers along one noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from mmg_diffusers.checks import of_type, shown
from mmg_diffusers.denoisers.base import Condition, Denoiser, Versus, check_denoiser_type
from mmg_diffusers.denoisers.exact import GaussianReference
from mmg_diffusers.measure.estimate import Estimate, Value, mean_over_pairs
from mmg_diffusers.measure.estimators import MMG
from mmg_diffusers.measure.quadrature import Quadrature, StratifiedUniform

Form = Literal["gap", "orthogonal"]


@dataclass(frozen=True)
class Entropy:
    """-log p(x) of every x in nats, from a denoiser against a Gaussian reference (arXiv 2310.09031, eq. 15).

    `nats` is the reference's surprise less the log-likelihood ratio that `ratio` holds; its mean over x is the
    (differential) entropy. Over [low, high] the ratio lacks what lies beyond; `ratio.boundary` estimates it.
    """

    reference: Tensor
    ratio: Estimate

    @property
    def nats(self) -> Tensor:
        """`(N,)` -log p(x)."""
        return self.reference - self.ratio.nats

    @property
    def stderr(self) -> Tensor:
        """`(N,)` standard error of `nats` from the noise draws."""
        return self.ratio.stderr

    def mean(self) -> Value:
        """The entropy, with its standard error over x."""
        return mean_over_pairs(self.nats, self.stderr)


@dataclass(frozen=True)
class EntropyEstimator:
    """Entropy of x, or of x given a condition.

    Args:
        integrand: ``"gap"``: -log p of each x, as the network tells it; ``"orthogonal"``: MINDE's, whose mean is the
            entropy.
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
        """Estimate the entropy of x, `(N, *event)`; of x given `cond`, N rows, where there is one."""
        reference = GaussianReference(self.sigma)
        check_denoiser_type(denoiser)
        ratio = self._mmg(
            Versus(reference, denoiser),
            x,
            cond or {},
            seed=seed,
            pair_ids=pair_ids,
            logsnr_range=logsnr_range,
            batch_size=batch_size,
            settings={"reference": self.sigma},
        )
        return Entropy(reference.surprise(x.cpu()), ratio)


def kl_divergence(
    p: Denoiser,
    q: Denoiser,
    x: Tensor,
    *,
    estimator: MMG | None = None,
    seed: int = 0,
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
        seed, logsnr_range, batch_size, settings: as in `MMG`.

    Returns:
        log p(x) / q(x) of every x (gap), or the divergence's integrand at it (orthogonal); the mean is the divergence.
    """
    estimator = estimator or MMG("orthogonal", StratifiedUniform(64))
    check_denoiser_type(p, q)
    of_type(estimator, MMG, "estimator", "one such as MMG('orthogonal')")
    return estimator(
        Versus(q, p), x, {}, seed=seed, logsnr_range=logsnr_range, batch_size=batch_size, settings=settings
    )  # fmt: skip


@dataclass(frozen=True)
class Interaction:
    """I(x; y) - I(x; y | c): the information that y and c share about x; negative where they tell more together.

    For the sign: McGill's interaction information is the negative of this in some texts; this is the one of MINDE,
    section F (positive for redundancy).
    """

    alone: Estimate
    conditional: Estimate

    @property
    def nats(self) -> Tensor:
        """`(N,)` pointwise."""
        return self.alone.nats - self.conditional.nats

    @property
    def stderr(self) -> Tensor:
        """`(N,)` from the noise draws, as if those of the two were independent (they are shared, so it errs large)."""
        return (self.alone.stderr.square() + self.conditional.stderr.square()).sqrt()

    def mean(self) -> Value:
        """Mean over pairs with its standard error; noise that the two share cancels."""
        return mean_over_pairs(self.nats, self.stderr)


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
