"""How likely images are, in the place of what prompts say of them: pairs measured against a Gaussian reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mmg_diffusers.checks import of_type, shown
from mmg_diffusers.denoisers.references import GaussianReference
from mmg_diffusers.measure.density import Density
from mmg_diffusers.measure.tolerance import Tolerance
from mmg_diffusers.pairs.image_pairs import ImagePairs
from mmg_diffusers.pairs.marginals import Bench, Marginal
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pairs.prompts import Prompt

if TYPE_CHECKING:
    from mmg_diffusers.measure.likelihood import LogLikelihood


@dataclass(frozen=True)
class Likelihood(Marginal):
    """log p(image | prompt), or log p(image): what a branch of the model knows of an image beyond a Gaussian reference.

    The Gaussian is no marginal of the model, but stands where a marginal does: runs take it, and every pair has a number
    with its error.

    Args:
        reference: fitted on other images, in the units of what the network denoises: `MMGPipeline.fit_reference` makes one,
            with levels that a pilot found if it is asked to.
            By default N(0, 1) in every coordinate, which costs no fit and leaves most noise.
        conditional: whether the network is told the prompt; else the unconditional branch is measured, and prompts are
            labels of the table alone.

    Raises:
        TypeError: for something else than a reference.
    """

    reference: GaussianReference = field(default_factory=GaussianReference)
    conditional: bool = True

    def __post_init__(self) -> None:
        of_type(self.reference, GaussianReference, "reference", "one that MMGPipeline.fit_reference made")

    @property
    def candidates(self) -> None:
        return None

    def record(self) -> dict[str, Any]:
        return {"marginal": self.label, "reference": self.reference.record(), "conditional": self.conditional}

    def check(self, pairs: ImagePairs) -> None:
        if pairs.given is not None:
            raise ValueError(
                "given= belongs to mutual information; log p(image | prompt) has one condition, the prompt: leave it out"
            )

    def texts(self, pairs: ImagePairs) -> Sequence[Prompt]:
        return pairs.texts if self.conditional else []

    def measure(self, bench: Bench, pairs: ImagePairs, plan: Plan) -> LogLikelihood:
        return bench.log_likelihood(pairs, self.density(plan), plan, self.conditional)

    def density(self, plan: Plan) -> Density:
        """How a plan measures a density: by its levels, draws and signs, or where it leaves them open `Density`'s own.

        A number of levels is placed as the reference's pilot found, if it carries one; its control is left out where maps are kept.

        Raises:
            ValueError: for options that belong to mutual information.
        """
        for name, empty in (
            ("tolerance", None),
            ("prune", None),
            ("audit", False),
            ("integrand", "auto"),
        ):
            value = getattr(plan, name)
            if value != empty:
                told = value.stderr if isinstance(value, Tolerance) else shown(value)
                raise ValueError(f"{name} is {told}, which belongs to mutual information; leave it out of a likelihood")
        found = Density.of(self.reference)
        if plan.rule is None and isinstance(plan.levels, int) and self.reference.pilot is not None:
            found = Density.of(self.reference, plan.levels)
        elif plan.rule is not None or plan.levels is not None:
            found = replace(found, quadrature=plan.levels_rule)
        # What a control takes off is known for an image, and not for its pixels.
        control = None if plan.keep == "pixel" else found.control
        return replace(found, control=control, draws=plan.draws, antithetic=bool(plan.antithetic))
