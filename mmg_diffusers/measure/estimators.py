"""Estimators: an integrand and a quadrature over the loop of `mmg_diffusers.measure.curve`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mmg_diffusers.checks import of_type, whole
from mmg_diffusers.denoisers.base import Adapted, Condition, Denoiser, check_denoiser_type
from mmg_diffusers.denoisers.forwards import memory_notes
from mmg_diffusers.files.records import check_settings
from mmg_diffusers.measure.batches import Pairs, Progress
from mmg_diffusers.measure.ceiling import ceiling_of
from mmg_diffusers.measure.curve import measure_curve
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.judging import NULL_BRANCH
from mmg_diffusers.measure.known import of_unknown_levels
from mmg_diffusers.measure.moments import Integrand, Keep, OutsideNorm, check_integrand, check_keep
from mmg_diffusers.measure.quadrature import Quadrature, StratifiedUniform, Trapezoid
from mmg_diffusers.measure.tolerance import Tolerance
from mmg_diffusers.measure.verdict import of_network


def _is_network(denoiser: Denoiser) -> bool:
    """Whether its branch without a condition is a network's, told so by what stands for none; exact ones have no such branch."""
    return any(isinstance(part, Adapted) for part in denoiser.modules())


@dataclass(frozen=True)
class MMG:
    """Mutual information as half the integrated gap of denoising errors over log-SNR (arXiv 2509.20609).

    Args:
        integrand: ``"gap"`` (unbiased for the two networks' log-likelihood ratio, noisier), ``"orthogonal"`` (little
            noise, counts every disagreement of the two branches as information), or ``"auto"``: orthogonal +
            w (gap - orthogonal), w = max(0, 1 - stderr^2 / difference^2), which leans on gap if the two differ by more
            than their standard error. Each pair has a w of its own, from its own difference and noise, so that its nats
            do not depend on the others; `Estimate.mean` has one w, from the certificate, the mean difference with its
            standard error over pairs. ``"balanced"`` is for branches that were trained together on few pairs: "auto",
            but half of its w in the mean if orthogonal is the larger one there. A conditional branch that errs by noise
            b, which it fitted, and falls short of the true difference by a share k, leaves (1 - k^2) I - |b|^2 of gap
            and (1 - k)^2 I + |b|^2 of orthogonal: the noise cancels in their mean.
        quadrature: where on the log-SNR axis to look.
        draws: noise draws per level and pair. Rules that place their levels at random do so anew for each.
        antithetic: every draw is eps and -eps, averaged.
        tolerance: in place of `draws`, how small the standard error of each pair is to become; `Estimate.reached` says
            for which it did. For "auto" and "balanced" both forms and what is made of them have to be so good.

    Calling it measures ``x`` against ``cond``::

        MMG("gap")(denoiser, x, {"y": y}).mean()

    Raises:
        TypeError: for something other than a rule, or a number of draws that is not whole; by the call, for other
            than tensors.
        ValueError: for an unknown integrand or fewer than one draw; by the call for inputs that do not fit.
    """

    integrand: Integrand = "auto"
    quadrature: Quadrature = field(default_factory=Trapezoid)
    draws: int = 1
    antithetic: bool = False
    tolerance: Tolerance | None = None

    def __post_init__(self) -> None:
        check_integrand(self.integrand)
        of_type(self.quadrature, Quadrature, "quadrature", "a rule such as Trapezoid(64)")
        whole(self.draws, "draws", 1)
        of_type(self.tolerance, (Tolerance, type(None)), "tolerance", "one such as Tolerance(0.1)")
        if self.tolerance is not None and self.draws != 1:
            raise ValueError(
                f"draws={self.draws} and tolerance={self.tolerance.stderr:g} are both given; give one of them: a tolerance says "
                "itself how many draws there are"
            )

    def __call__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        cond: Condition,
        given: Condition | None = None,
        *,
        seed: int = 0,
        keep: Keep = "pair",
        pair_ids: Tensor | None = None,
        logsnr_range: tuple[float, float] | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        settings: Mapping[str, Any] | None = None,
        entropy: float | Tensor | None = None,
    ) -> Estimate:
        """Estimate i(x; cond), or i(x; cond | given) if `cond` holds both.

        Args:
            denoiser: the network.
            x: `(N, *event)`.
            cond: N rows.
            given: N rows, the context that the base branch sees; ``None``: the marginal.
            seed: with a pair's id, names its noise.
            keep: ``"pixel"`` keeps maps as well, ``"level"`` at every level.
            pair_ids: `(N,)` different int64; by default 0, 1, 2, ...
            logsnr_range: a part of the denoiser's range.
            batch_size: rows per forward pass; by default chosen from the event's size.
            progress: called with the number of noisy variables done.
            settings: what else belongs into the record.
            entropy: of a discrete y: H(Y) in nats, or `(N,)` -log p(y) of each pair's y. An estimate above it is warned of.

        Raises:
            ValueError: for an entropy below 0 or not finite, and as `measure_curve` does.
        """
        check_keep(keep)
        check_settings(settings or {})
        ceiling = ceiling_of(entropy, len(x))
        curve = measure_curve(
            denoiser,
            Pairs.of(x, pair_ids),
            cond,
            given=given,
            quadrature=self.quadrature,
            draws=self.draws,
            tolerance=self.tolerance,
            integrand=self.integrand,
            antithetic=self.antithetic,
            seed=seed,
            logsnr_range=logsnr_range,
            batch_size=batch_size,
            keep=keep,
            progress=progress,
        )
        record = {
            **({"base": NULL_BRANCH} if given is None and _is_network(denoiser) else {}),
            **(settings or {}),
            "quadrature": repr(self.quadrature),
            "draws": self.draws,
            "antithetic": self.antithetic,
            "seed": seed,
        }
        unknown = of_unknown_levels(curve, x) if given is None and denoiser.compares == "conditions" else ()
        notes = (*denoiser.notes, *of_network(denoiser), *unknown, *memory_notes(denoiser))
        return Estimate(
            curve,
            self.integrand,
            record,
            notes=notes,
            tolerance=self.tolerance,
            compares=denoiser.compares,
            ceiling=ceiling,
        )


# What the VP-SDE of the paper (beta from 0.1 to 20, T = 1, from t = 1e-3) covers.
MINDE_RANGE = (-10.05, 9.115)


@dataclass(frozen=True)
class MINDE:
    """MINDE (arXiv 2310.09031): the squared difference of two scores, integrated over the paper's own range.

    Its importance sampling of diffusion time is uniform in log-SNR. Over a joint network's `Crossed` view this is
    MINDE-J, over any other denoiser MINDE-C.

    Args:
        sigma: ``None``: the difference inside the norm (eq. 19; 20 for J). A number: outside of it, each score measured
            against that of N(0, sigma^2) (eq. 18; 21 for J); an estimate read so can be read again with another sigma
            by ``estimate.using(OutsideNorm(sigma))``.
        quadrature, draws, antithetic: as in `MMG`.

    Raises:
        ValueError: for a sigma that is not positive.
    """

    sigma: float | None = None
    quadrature: Quadrature = field(default_factory=lambda: StratifiedUniform(64))
    draws: int = 1
    antithetic: bool = False

    def __post_init__(self) -> None:
        _ = self._mmg

    @property
    def _mmg(self) -> MMG:
        integrand: Integrand = "orthogonal" if self.sigma is None else OutsideNorm(self.sigma)
        return MMG(integrand, self.quadrature, self.draws, self.antithetic)

    def __call__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        cond: Condition,
        given: Condition | None = None,
        *,
        seed: int = 0,
        pair_ids: Tensor | None = None,
        batch_size: int | None = None,
        progress: Progress | None = None,
        settings: Mapping[str, Any] | None = None,
        entropy: float | Tensor | None = None,
    ) -> Estimate:
        """Estimate i(x; cond), or i(x; cond | given), as `MMG` does, over the part of the paper's range that is known."""
        check_denoiser_type(denoiser)
        low, high = denoiser.logsnr_range
        return self._mmg(
            denoiser,
            x,
            cond,
            given,
            seed=seed,
            pair_ids=pair_ids,
            logsnr_range=(max(low, MINDE_RANGE[0]), min(high, MINDE_RANGE[1])),
            batch_size=batch_size,
            progress=progress,
            settings=settings,
            entropy=entropy,
        )
