"""How pairs are measured: the options of a measurement, checked before a network runs and stamped into runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from mmg_diffusers.checks import finite, of_type, shown, two_ends, whole
from mmg_diffusers.measure.batches import Levels, range_within
from mmg_diffusers.measure.candidates import NoisePath
from mmg_diffusers.measure.estimators import MMG
from mmg_diffusers.measure.moments import Integrand, Keep, OutsideNorm, check_integrand, check_keep
from mmg_diffusers.measure.quadrature import AtLevels, Quadrature, Trapezoid
from mmg_diffusers.measure.tolerance import Tolerance

if TYPE_CHECKING:
    from typing_extensions import Unpack

# Chosen by scripts/benchmarks/calls_for_error.py: levels of the trapezoidal rule, each seen with eps and -eps.
LEVELS = 32
# Steps of the path along which candidates are followed, even in log-SNR over the model's whole range.
STEPS = 64
# A candidate whose posterior falls below this is not followed further. What a path's noise rules out too soon is lost to that
# path, so this leaves room.
PRUNE = 1e-9


class Options(TypedDict, total=False):
    """The options of a `Plan` as keywords; see there. ``quadrature`` is another name of ``rule``."""

    integrand: Integrand
    rule: Quadrature | None
    quadrature: Quadrature | None
    levels: int | Sequence[float] | None
    draws: int
    antithetic: bool | None
    tolerance: Tolerance | float | None
    logsnr_range: tuple[float, float] | None
    prune: float | None
    keep: Keep
    seed: int
    batch_size: int | None
    resize: bool
    audit: bool


@dataclass(frozen=True)
class Plan:
    """The options of a measurement. What stays ``None`` is decided by the marginal that a prompt is compared with.

    Args:
        integrand: ``"gap"``, ``"orthogonal"``, ``"auto"`` or ``"balanced"``, see `MMG`. All come from the same evaluations.
        rule: where on the log-SNR axis to look, in place of `levels`: such as one that `MMGPipeline.pilot` fitted. Against
            candidates a fixed grid.
        levels: number of noise levels of the trapezoidal rule, by default 32; against candidates the steps of the noise
            path, even in log-SNR, by default 64; or the levels themselves.
        draws: noise draws per level; against candidates noise paths per image, whose evidence is averaged.
        antithetic: use every draw twice, as eps and as -eps, which leaves less error than twice as many levels would: the
            default with the null prompt. It has no meaning against candidates, whose noise is one path.
        tolerance: in place of `draws`: keep drawing for the pairs that need it, until the noise leaves no more than a
            standard error in nats, ``tolerance=0.1``; `Tolerance` says how many draws at least and at most.
        logsnr_range: a part of the model's range.
        prune: stop following a candidate whose posterior falls below this (1e-9 by default), along a path, and along later
            ones if two paths and the mean of all agree; 0 follows all. Its probability stays as it was.
        keep: ``"pixel"`` keeps maps as well, ``"level"`` at every level, to read off bands of noise.
        seed: names the noise, together with a pair's id.
        batch_size: rows per forward pass, the one memory knob. It changes no number beyond rounding.
        resize: bring images to the model's own size; otherwise a size that it cannot take raises.
        audit: against candidates, run the null branch as well at the same noise, so that `Filtered.audit` says how far it is
            from their mixture. One more evaluation a step.

    Raises:
        TypeError, ValueError: for values that no measurement can have.
    """

    integrand: Integrand = "auto"
    rule: Quadrature | None = None
    levels: int | Sequence[float] | None = None
    draws: int = 1
    antithetic: bool | None = None
    tolerance: Tolerance | float | None = None
    logsnr_range: tuple[float, float] | None = None
    prune: float | None = None
    keep: Keep = "pair"
    seed: int = 0
    batch_size: int | None = None
    resize: bool = False
    audit: bool = False

    def __post_init__(self) -> None:
        check_integrand(self.integrand)
        check_keep(self.keep)
        self._put(seed=whole(self.seed, "seed", 0), draws=whole(self.draws, "draws", 1))
        if self.batch_size is not None:
            self._put(batch_size=whole(self.batch_size, "batch_size", 1))
        if self.rule is not None:
            of_type(self.rule, Quadrature, "the rule (quadrature=)", "one such as Trapezoid(64)")
            if self.levels is not None:
                raise ValueError(f"levels is {shown(self.levels)} beside the rule {shown(self.rule)}; give one of them")
        if isinstance(self.levels, (Sequence, Tensor, np.ndarray)) and not isinstance(self.levels, str):
            self._put(levels=tuple(finite(level, "a level") for level in self.levels))
        elif self.levels is not None:
            self._put(levels=whole(self.levels, "levels", 1))
        for name in ("antithetic", "resize", "audit"):
            of_type(getattr(self, name), (bool, type(None)), name, "True or False")
        self._put(tolerance=Tolerance.of(self.tolerance))
        if self.logsnr_range is not None:
            self._put(logsnr_range=two_ends(self.logsnr_range, "logsnr_range"))
        if self.prune is not None and not 0 <= finite(self.prune, "prune") < 1:
            raise ValueError(f"prune is {self.prune}; expected a probability, at least 0 and below 1")

    def _put(self, **values: object) -> None:
        """Keep what a check made of a value: plain numbers in place of numpy's, a tolerance in place of a number."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, plan: Plan | None, **options: Unpack[Options]) -> Plan:
        """A plan with some of its options changed; without a plan, the default one.

        Raises:
            TypeError: for something else than a plan, or an option that there is not.
        """
        given: dict[str, Any] = dict(options)
        of_type(plan, (Plan, type(None)), "plan", "a Plan(...)")
        names = [field.name for field in fields(cls)]
        for name in given:
            if name not in (*names, "quadrature"):
                near = get_close_matches(name, names, 1)
                hint = f"did you mean {shown(near[0])}?" if near else f"expected one of {', '.join(names)}"
                raise TypeError(f"there is no option {shown(name)}; {hint}")
        if "quadrature" in given:
            rule = given.pop("quadrature")
            if given.get("rule") is not None and rule is not None:
                raise TypeError("quadrature= and rule= are two names of one option; give one of them")
            given["rule"] = rule if rule is not None else given.get("rule")
        return replace(plan or cls(), **given)

    # ---- with the null prompt ----

    @property
    def levels_rule(self) -> Quadrature:
        """The rule of a measurement with the null prompt."""
        if self.rule is not None:
            return self.rule
        if self.levels is None or isinstance(self.levels, int):
            return Trapezoid(LEVELS if self.levels is None else whole(self.levels, "levels", 2))
        return AtLevels(tuple(self.levels))

    def estimator(self) -> MMG:
        """The estimator of a measurement with the null prompt.

        Raises:
            ValueError: for options that belong to candidates.
        """
        if self.prune is not None:
            raise ValueError("prune= belongs to candidates, and the null prompt has none; leave it out")
        if self.audit:
            raise ValueError(
                "audit= holds the null branch against a mixture of candidates; give Candidates as the marginal"
            )
        antithetic = self.antithetic is None or self.antithetic
        return MMG(self.integrand, self.levels_rule, self.draws, antithetic, Tolerance.of(self.tolerance))

    # ---- against candidates ----

    def path(self) -> NoisePath:
        """The noise path along which candidates are followed.

        Raises:
            ValueError: for options that belong to the null prompt, or a rule that draws its levels.
        """
        for name in ("tolerance", "antithetic"):
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name}= belongs to the null prompt; against candidates levels= gives the path, and draws= the number of "
                    "paths"
                )
        if self.rule is not None:
            rule = self.rule
        elif self.levels is None or isinstance(self.levels, int):
            rule = Trapezoid((STEPS if self.levels is None else self.levels) + 1)
        else:
            rule = AtLevels(tuple(self.levels))
        return NoisePath(rule, self.draws, PRUNE if self.prune is None else self.prune, self.logsnr_range, self.audit)

    # ---- before and after ----

    def check(self, model: Levels, *, candidates: int | None = None) -> None:
        """Refuse what nothing can be measured with, before anything is encoded.

        Args:
            model: a denoiser or its convention, which know the levels that there are.
            candidates: how many there are; none with the null prompt.

        Raises:
            ValueError: for a range outside of the model's, a rule whose levels fall together, or options that do not
                belong together.
        """
        if candidates is None:
            rule = self.estimator().quadrature
        else:
            path = self.path()
            path.check(candidates)
            rule = path.quadrature
        low, high = range_within(model, self.logsnr_range, rule)
        rule.place(low, high, model.snap, torch.zeros(1, rule.nodes, dtype=torch.float64))

    def record(self, *, candidates: bool = False) -> dict[str, Any]:
        """What a number depends on, as JSON can hold it: what runs and records are stamped with. The batch size is not in it.

        Args:
            candidates: whether prompts are compared with candidates, which decides what is left open here.
        """
        shared: dict[str, Any] = {
            "integrand": asdict(self.integrand) if isinstance(self.integrand, OutsideNorm) else self.integrand,
            "draws": self.draws,
            "keep": self.keep,
            "seed": self.seed,
            "resize": self.resize,
            "logsnr_range": None if self.logsnr_range is None else list(self.logsnr_range),
        }
        if candidates:
            path = self.path()
            return {**shared, "quadrature": repr(path.quadrature), "prune": path.prune, "audit": path.null}
        estimator = self.estimator()
        tolerance = estimator.tolerance
        return {
            **shared,
            "quadrature": repr(estimator.quadrature),
            "antithetic": estimator.antithetic,
            "tolerance": None if tolerance is None else asdict(tolerance),
        }
