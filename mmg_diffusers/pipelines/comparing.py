"""Candidates compared with each other: the measurements that need no unconditional branch, and what all measurements share."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, cast

import torch

from mmg_diffusers.analysis.classification import Calibration, Classification
from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.checks import of_type
from mmg_diffusers.files.identity import Identity
from mmg_diffusers.measure.cost import Cost
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.value import repeated
from mmg_diffusers.pairs.image_pairs import ImagePairs
from mmg_diffusers.pairs.images import ImageLike, as_list, load_image
from mmg_diffusers.pairs.marginals import Candidates, Marginal, Negatives, NullPrompt, check_marginal
from mmg_diffusers.pairs.plan import Options, Plan
from mmg_diffusers.pairs.prompts import Prompt
from mmg_diffusers.pipelines.bench import Bench
from mmg_diffusers.pipelines.encoding import ids_for
from mmg_diffusers.pipelines.model import PipelineModel
from mmg_diffusers.pipelines.precision import Moved, in_float32, is_half

if TYPE_CHECKING:
    from typing_extensions import Unpack


NULL = NullPrompt()
Result = TypeVar("Result", bound="Estimate | Filtered")


class ComparingModel(PipelineModel):
    """A pipeline that measures images with their prompts, against any marginal, and compares candidates."""

    def filter(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompts: str | Sequence[str],
        candidates: Sequence[str] | Marginal,
        *,
        plan: Plan | None = None,
        pair_ids: Sequence[int] | None = None,
        **options: Unpack[Options],
    ) -> Filtered:
        """Mutual information of each image with its prompt against the mixture of candidates, not the null prompt.

        The noise of a pair is one Brownian path; the candidates' posterior along it makes the marginal. It decays at
        the clean end, and log q(prompt | image) is a bound whatever the network's errors.

        Args:
            images, prompts, plan, pair_ids: as in ``pipe(images, prompts)``. The true prompt is known, and always followed.
            candidates: the prompts to compare with, every true one among them; `Candidates` for a prior or groups,
                `Negatives` to sample them from the other pairs.

        Raises:
            ValueError: for prompts that are not among the candidates, and as `classify` does.
        """
        marginal = candidates if isinstance(candidates, Marginal) else Candidates(candidates)
        if marginal.candidates is None:
            raise ValueError(
                f"{marginal.label} has no candidates to filter by; give a list of them, Candidates or Negatives"
            )
        result = self.measure(images, prompts, None, marginal, Plan.of(plan, **options), pair_ids)
        return cast(Filtered, remarked(result, images))

    def classify(
        self,
        images: ImageLike | Sequence[ImageLike],
        candidates: Sequence[str],
        *,
        prior: Sequence[float] | None = None,
        calibration: Calibration | None = None,
        plan: Plan | None = None,
        pair_ids: Sequence[int] | None = None,
        **options: Unpack[Options],
    ) -> Classification:
        """Compare candidate prompts for each image, without the unconditional branch.

        Every candidate is scored along the same noise path; `Classification.posterior` is q(candidate | image), and
        `Classification.bound` a lower bound on the mutual information whatever the network's errors.

        Args:
            images, plan, pair_ids: as in ``pipe(images, prompts)``.
            candidates: K different prompts.
            prior: their probabilities, uniform by default.
            calibration: from `Classification.calibrate` on other pairs.

        Raises:
            ValueError: for fewer than two candidates, duplicates, a prior that does not fit, or bad images.
        """
        chosen, among = Plan.of(plan, **options), Candidates(candidates, prior)
        chosen.path()
        if calibration is not None:
            of_type(calibration, Calibration, "calibration", "what Classification.calibrate returns")
            calibration.check(len(among.prompts))
        with self.ready() as bench:
            pictures = bench.encoder.check_images(images, chosen.resize)
            notes = (*pictures.notes, *bench.encoder.check_prompts(among.prompts))
            curve, settings, remarks = bench.against_each_other(
                pictures, ids_for(pair_ids, len(pictures)), among, chosen, notes
            )
        return Classification(
            curve, tuple(among.prompts), among.probability, calibration or Calibration(), settings, notes=remarks
        )

    def cost(
        self,
        images: ImageLike | Sequence[ImageLike],
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
        found = self.measure(images, prompts, given, marginal, chosen)
        seconds = time.perf_counter() - start
        return Cost.of(found, evaluations=found.evaluations, draws=chosen.draws, seconds=seconds)

    def measure(
        self,
        images: ImageLike | Sequence[ImageLike],
        prompts: Prompt | Sequence[Prompt],
        given: Prompt | Sequence[Prompt] | None,
        marginal: Marginal,
        plan: Plan,
        pair_ids: Sequence[int] | None = None,
    ) -> Estimate | Filtered:
        """Measure pairs against a marginal: an `Estimate` against the null prompt, a `Filtered` against candidates.

        Args:
            images, prompts, given, marginal, plan, pair_ids: as in ``pipe(images, prompts)``.

        Raises:
            ValueError: for inputs that do not fit, before any network is run where that can be seen.
        """
        check_marginal(marginal)
        _ = plan.estimator() if marginal.candidates is None else plan.path()
        with self.ready() as bench:
            pairs = bench.pairs(images, prompts, given, pair_ids, plan, marginal)
            result = cast("Estimate | Filtered", marginal.measure(bench, pairs, plan))
            note = self._of_half_precision(bench, pairs, marginal, plan, result)
        return result if note is None else replace(result, notes=(*result.notes, note))

    def _of_half_precision(
        self, bench: Bench, pairs: ImagePairs, marginal: Marginal, plan: Plan, result: Estimate | Filtered
    ) -> str | None:
        """What half precision did to the first pairs, if that is more than their error."""
        networks, few = self.family.networks(), min(self._compared, len(pairs))
        # Negatives of a few pairs would be other ones.
        if few == 0 or marginal.needs_all or isinstance(marginal, Negatives) or not is_half(networks):
            return None
        said = {**bench.settings, **plan.record(candidates=marginal.candidates is not None), **marginal.record()}
        key = Identity.of(repr(sorted(said.items(), key=str))).digest
        if key not in self._moved:
            try:
                with in_float32(networks):
                    wide = cast("Estimate | Filtered", marginal.measure(bench, pairs.first(few), plan))
            except torch.OutOfMemoryError:
                return (
                    "half precision was not compared with float32, for which there is no room (set_precision_check(0))"
                )
            self._moved[key] = Moved.between(result.nats[:few], wide.nats)
        return self._moved[key].remark(result)


def remarked(result: Result, images: ImageLike | Sequence[ImageLike]) -> Result:
    """A result that says so if an image stands in several of its pairs, which are not independent then."""
    names = [Identity.of(load_image(image, place)).digest for place, image in enumerate(as_list(images))]
    note = repeated(names, "image")
    return result if note is None else replace(result, notes=(*result.notes, note))
