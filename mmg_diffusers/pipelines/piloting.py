"""What a few pairs tell of a measurement before it is made: where to look, and what it will cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.measure.cost import Cost
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.quadrature import StratifiedProfile
from mmg_diffusers.pairs.marginals import Marginal, NullPrompt
from mmg_diffusers.pairs.plan import Options, Plan
from mmg_diffusers.pairs.prompts import Prompt
from mmg_diffusers.pairs.videos import VideoLike
from mmg_diffusers.pipelines.fitting import FittingModel

if TYPE_CHECKING:
    from typing_extensions import Unpack

NULL = NullPrompt()


class PilotingModel(FittingModel):
    """A pipeline that plans a measurement from a pilot."""

    def pilot(
        self,
        images: VideoLike | Sequence[VideoLike],
        prompts: Prompt | Sequence[Prompt],
        *,
        given: Prompt | Sequence[Prompt] | None = None,
        nodes: int = 32,
        plan: Plan | None = None,
        **options: Unpack[Options],
    ) -> StratifiedProfile:
        """Where a few pairs have their information: a rule to measure them and others like them with.

        ``pipe(images, prompts, rule=pipe.pilot(images[:16], prompts[:16]))``. It costs 80 evaluations a pair. The rule
        is fixed from then on, so that a pair's numbers do not depend on which others are measured with it.

        Args:
            images, prompts, given: as in ``pipe(images, prompts)``.
            nodes: of the rule.
            plan: of the measurement that follows; range, seed (the pilot draws noise of its own), batch size and resizing
                are taken from it.

        Raises:
            ValueError: as the measurement does.
        """
        chosen = Plan.of(plan, **options)
        with self.ready() as bench:
            return bench.pilot(bench.pairs(images, prompts, given, None, chosen, NULL), nodes, chosen)

    def cost(
        self,
        images: VideoLike | Sequence[VideoLike],
        prompts: Prompt | Sequence[Prompt],
        *,
        given: Prompt | Sequence[Prompt] | None = None,
        marginal: Marginal = NULL,
        plan: Plan | None = None,
        **options: Unpack[Options],
    ) -> Cost:
        """What a standard error will cost, from a pilot measurement of a few pairs.

        ``pipe.cost(images[:8], prompts[:8]).says(0.1, pairs=1000)``. With the null prompt the pilot draws noise twice for each level, to
        tell it from what the pairs differ by; two `draws` or more in the plan are taken as they are.

        Args:
            images, prompts, given, marginal: of two pairs or more, as in ``pipe(images, prompts)``.
            plan: of the measurement that follows; a tolerance is not looked at.

        Raises:
            ValueError: as the measurement does, and for a single pair.
        """
        chosen = replace(Plan.of(plan, **options), tolerance=None, keep="pair")
        if marginal.candidates is None:
            chosen = replace(chosen, draws=max(2, chosen.draws))
        start = time.perf_counter()
        found = cast("Estimate | Filtered", self.measure(images, prompts, given, marginal, chosen))
        seconds = time.perf_counter() - start
        return Cost.of(found, evaluations=found.evaluations, draws=chosen.draws, seconds=seconds)
