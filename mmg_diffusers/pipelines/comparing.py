"""Candidates compared with each other: the measurements that need no unconditional branch, and what all measurements share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch

from mmg_diffusers.analysis.audit import Audit
from mmg_diffusers.analysis.classification import Calibration, Classification
from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.checks import of_type
from mmg_diffusers.files.identity import Identity
from mmg_diffusers.measure.ceiling import surprise_of_labels
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.likelihood import LogLikelihood
from mmg_diffusers.measure.value import repeated
from mmg_diffusers.pairs.image_pairs import ImagePairs
from mmg_diffusers.pairs.marginals import Candidates, Marginal, check_marginal
from mmg_diffusers.pairs.plan import Options, Plan
from mmg_diffusers.pairs.prompts import Prompt
from mmg_diffusers.pairs.videos import VideoLike
from mmg_diffusers.pipelines.bench import Bench
from mmg_diffusers.pipelines.checking import CheckableModel
from mmg_diffusers.pipelines.encoding import ids_for
from mmg_diffusers.pipelines.precision import Moved, in_float32, is_half

if TYPE_CHECKING:
    from typing_extensions import Unpack


class ComparingModel(CheckableModel):
    """A pipeline that measures images with their prompts, against any marginal, and compares candidates."""

    def filter(
        self,
        images: VideoLike | Sequence[VideoLike],
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
        if not marginal.filters:
            raise ValueError(
                f"{marginal.label} has no posterior, since true prompts are no part of it; use pipe(images, prompts, marginal=...), or filter "
                "by Candidates"
            )
        result = self.measure(images, prompts, None, marginal, Plan.of(plan, **options), pair_ids)
        return cast(Filtered, result)

    def audit(
        self,
        images: VideoLike | Sequence[VideoLike],
        prompts: str | Sequence[str],
        candidates: Sequence[str] | Marginal,
        *,
        plan: Plan | None = None,
        pair_ids: Sequence[int] | None = None,
        **options: Unpack[Options],
    ) -> Audit:
        """How far the null branch is from the mixture of candidates, level by level: is it their marginal?

        Args:
            images, prompts, candidates, plan, pair_ids: as in `filter`, which this is, with the null branch beside it.

        Raises:
            ValueError: for a model without a null, and as `filter` does.
        """
        if not self.family.nulls():
            raise ValueError(
                "the model has no unconditional branch to audit; compare candidates with filter or classify"
            )
        chosen = replace(Plan.of(plan, **options), audit=True)
        return Audit(self.filter(images, prompts, candidates, plan=chosen, pair_ids=pair_ids))

    def classify(
        self,
        images: VideoLike | Sequence[VideoLike],
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
            notes = (*pictures.notes, *bench.encoder.check_prompts(among.prompts, compared=True))
            curve, settings, remarks = bench.against_each_other(
                pictures, ids_for(pair_ids, len(pictures)), among, chosen, notes
            )
        return Classification(
            curve, tuple(among.prompts), among.probability, calibration or Calibration(), settings, notes=remarks
        )

    def measure(
        self,
        images: VideoLike | Sequence[VideoLike],
        prompts: Prompt | Sequence[Prompt],
        given: Prompt | Sequence[Prompt] | None,
        marginal: Marginal,
        plan: Plan,
        pair_ids: Sequence[int] | None = None,
    ) -> Estimate | Filtered | LogLikelihood:
        """Measure pairs against a marginal: an `Estimate` against the null prompt, a `Filtered` against candidates.

        It says so if an image stands in several pairs, which are not independent then, and knows what prompts hold that are
        labels: repeated, and of no context.

        Args:
            images, prompts, given, marginal, plan, pair_ids: as in ``pipe(images, prompts)``.

        Raises:
            ValueError: for inputs that do not fit, before any network is run where that can be seen.
        """
        result, pairs = self.measure_part(images, prompts, given, marginal, plan, pair_ids)
        if isinstance(result, Estimate) and result.ceiling is None and pairs.given is None:
            result = replace(result, ceiling=surprise_of_labels(list(pairs.prompts)))
        note = repeated(pairs.digests, self.codec.medium.noun)
        return result if note is None else replace(result, notes=(*result.notes, note))

    def measure_part(
        self,
        images: VideoLike | Sequence[VideoLike],
        prompts: Prompt | Sequence[Prompt],
        given: Prompt | Sequence[Prompt] | None,
        marginal: Marginal,
        plan: Plan,
        pair_ids: Sequence[int] | None = None,
    ) -> tuple[Estimate | Filtered | LogLikelihood, ImagePairs]:
        """Do the same for some pairs of many, and return these too: what they have in common is for the whole to say.

        Args:
            images, prompts, given, marginal, plan, pair_ids: as in ``pipe(images, prompts)``.

        Raises:
            ValueError: as `measure` does.
        """
        check_marginal(marginal)
        _ = plan.estimator() if marginal.candidates is None else plan.path()
        with self.ready() as bench:
            pairs = bench.pairs(images, prompts, given, pair_ids, plan, marginal)
            result = cast("Estimate | Filtered | LogLikelihood", marginal.measure(bench, pairs, plan))
            note = self._of_half_precision(bench, pairs, marginal, plan, result)
        return result if note is None else replace(result, notes=(*result.notes, note)), pairs

    def _of_half_precision(
        self,
        bench: Bench,
        pairs: ImagePairs,
        marginal: Marginal,
        plan: Plan,
        result: Estimate | Filtered | LogLikelihood,
    ) -> str | None:
        """What half precision did to the first pairs, if that is more than their error."""
        networks, few = self.family.networks(), min(self._compared, len(pairs))
        # Of a few pairs, what needs all of them would be another marginal: negatives, say.
        if few == 0 or marginal.needs_all or not is_half(networks):
            return None
        said = {**bench.settings, **plan.record(candidates=marginal.candidates is not None), **marginal.record()}
        key = Identity.of(repr(sorted(said.items(), key=str))).digest
        if key not in self._moved:
            try:
                with in_float32(networks):
                    wide = cast("Estimate | Filtered | LogLikelihood", marginal.measure(bench, pairs.first(few), plan))
            except torch.OutOfMemoryError:
                return (
                    "half precision was not compared with float32, for which there is no room (set_precision_check(0))"
                )
            self._moved[key] = Moved.between(result.nats[:few], wide.nats)
        return self._moved[key].remark(result)
