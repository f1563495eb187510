"""A model that is ready to measure: its denoiser and encoder, held still while they are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.checks import shown
from mmg_diffusers.denoisers.base import Denoiser
from mmg_diffusers.denoisers.conventions import Convention
from mmg_diffusers.denoisers.forwards import memory_notes
from mmg_diffusers.measure.batches import Pairs
from mmg_diffusers.measure.candidates import CandidateCurve, NoisePath, measure_candidates
from mmg_diffusers.measure.density import Density
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.likelihood import LogLikelihood
from mmg_diffusers.measure.odds import Odds, measure_odds
from mmg_diffusers.measure.proposals import gap_fitted
from mmg_diffusers.measure.quadrature import StratifiedProfile
from mmg_diffusers.measure.verdict import Finding
from mmg_diffusers.pairs.image_pairs import ImagePairs
from mmg_diffusers.pairs.marginals import Candidates, Marginal
from mmg_diffusers.pairs.mixture import Mixture
from mmg_diffusers.pairs.plan import Plan
from mmg_diffusers.pairs.prompts import Masked, Prompt
from mmg_diffusers.pairs.videos import VideoLike
from mmg_diffusers.pipelines.encoding import Encoder, ids_for, one_each
from mmg_diffusers.pipelines.progress import Moves, bar

# What a model makes of a prompt with masked words, no training has seen.
MASKED = (
    "words are masked, and models are not trained on prompts with masked words: what stands for the context errs by more than a word can "
    "tell; compare candidates that differ in the word, Candidates(..., groups=)"
)
# A path that begins this far above the noisy end, in log-SNR, is remarked on.
LATE = 0.5


@contextmanager
def evaluating(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Put networks into evaluation mode, and back into training where they were: dropout would change the numbers."""
    training = [module for network in networks for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@dataclass(frozen=True)
class Weights:
    """What a model's weights are, and where others are put on them.

    Args:
        networks: gives those that denoise, by what the pipeline calls them.
        fingerprint: computes a digest of all weights.
    """

    networks: Callable[[], Mapping[str, nn.Module]] = dict
    fingerprint: Callable[[], str | None] = lambda: None

    @cached_property
    def digest(self) -> str | None:
        """Of all weights, as they were when it was first asked for."""
        return self.fingerprint()


@dataclass(frozen=True)
class Bench:
    """What a measurement runs on. Made anew for every measurement, from the parts that the pipeline has then.

    Args:
        make: makes the denoiser, which may encode the null prompt, and so run a network.
        convention: of the model, which knows its levels.
        encoder: of its images and prompts.
        settings: what the record says of the model.
        progress: options of the tqdm bar.
        without_null: why nothing can be compared with the unconditional branch, for a model that has none.
        weights: of the model, to put others on.
    """

    make: Callable[[], Denoiser]
    convention: Convention
    encoder: Encoder
    settings: Mapping[str, Any]
    progress: Mapping[str, Any] = field(default_factory=dict)
    without_null: str | None = None
    weights: Weights = field(default_factory=lambda: Weights())

    @cached_property
    def denoiser(self) -> Denoiser:
        """Of the model, made when it is first needed: after everything is checked."""
        return self.make()

    def pairs(
        self,
        images: VideoLike | Sequence[VideoLike],
        prompts: Prompt | Sequence[Prompt],
        given: Prompt | Sequence[Prompt] | None,
        pair_ids: Sequence[int] | None,
        plan: Plan,
        marginal: Marginal,
    ) -> ImagePairs:
        """Checked pictures, a prompt and a context for each, and what the text encoder will not see of them.

        Raises:
            TypeError, ValueError: for what cannot be measured.
        """
        pictures = self.encoder.check_images(images, plan.resize)
        noun = self.encoder.codec.medium.noun
        texts = one_each(prompts, len(pictures), "prompts", noun)
        contexts = None if given is None else one_each(given, len(pictures), "given", noun)
        pairs = ImagePairs(pictures, texts, contexts, ids_for(pair_ids, len(pictures)), digests=pictures.digests)
        marginal.check(pairs)
        if marginal.candidates is None:
            plan.check(self.convention)
        compared = marginal.candidates is not None
        return replace(pairs, notes=(*pictures.notes, *self.encoder.check_prompts(marginal.texts(pairs), compared)))

    def against_null(self, pairs: ImagePairs, plan: Plan) -> Estimate:
        """Compare each prompt with the model's unconditional branch, or with its context; `pairs` has checked the plan.

        Raises:
            ValueError: for a model without that branch, if there are no contexts.
        """
        if pairs.given is None and self.without_null is not None:
            raise ValueError(self.without_null)
        estimator = plan.estimator()
        settings = self._settings(plan)
        masked = _of_masks(pairs)
        if masked:
            settings["given"] = "the prompt with words masked"
        parts: list[Estimate] = []
        each = estimator.quadrature.nodes * estimator.draws * (1 + estimator.antithetic)
        # With a tolerance nobody knows beforehand how much there is to do.
        with self.bar(None if estimator.tolerance is not None else len(pairs) * each, "MMG") as moving:
            for rows, x in self.chunks(pairs.images, plan):
                parts.append(
                    estimator(
                        self.denoiser,
                        x,
                        self.encoder.condition(pairs.prompts[rows]),
                        None if pairs.given is None else self.encoder.condition(pairs.given[rows]),
                        seed=plan.seed,
                        keep=plan.keep,
                        pair_ids=pairs.ids[rows],
                        logsnr_range=plan.logsnr_range,
                        batch_size=plan.batch_size,
                        progress=moving.update,
                        settings=settings,
                    )
                )
        merged = Estimate.merge(parts)
        return replace(merged, notes=(*merged.notes, *pairs.notes, *masked))

    def log_likelihood(self, pairs: ImagePairs, density: Density, plan: Plan, conditional: bool) -> LogLikelihood:
        """Measure log p of each image against the density's reference, given its prompt or told nothing.

        Raises:
            ValueError: for a reference of another shape than what the network denoises.
        """
        parts: list[LogLikelihood] = []
        each = density.quadrature.nodes * density.draws * (1 + density.antithetic)
        with self.bar(len(pairs) * each, "log p") as moving:
            for rows, x in self.chunks(pairs.images, plan):
                parts.append(
                    density(
                        self.denoiser,
                        x,
                        self.encoder.condition(pairs.prompts[rows]) if conditional else None,
                        seed=plan.seed,
                        pair_ids=pairs.ids[rows],
                        logsnr_range=plan.logsnr_range,
                        batch_size=plan.batch_size,
                        progress=moving.update,
                        settings=self._settings(plan),
                        variable=str(self.settings.get("variable", "x")),
                        keep=plan.keep,
                    )
                )
        merged = LogLikelihood.merge(parts)
        return replace(merged, notes=(*merged.notes, *pairs.notes))

    def against_mixture(self, pairs: ImagePairs, mixture: Mixture, plan: Plan, marginal: Marginal) -> Filtered:
        """Follow each pair's candidates along its noise path, and compare the true one with their mixture.

        Raises:
            ValueError: for a plan that does not fit the model or the candidates.
        """
        plan.check(self.convention, candidates=mixture.slots.shape[1])
        names, slots = mixture.used()
        curve = self.follow(pairs.images, pairs.ids, names, mixture.prior, plan, slots, mixture.truth)
        remarks = (
            *_remarks(self.denoiser, plan.path()),
            *pairs.notes,
            *([] if marginal.note is None else [marginal.note]),
        )
        return Filtered(
            curve, mixture, {**self.path_settings(plan, curve.logsnr), "marginal": marginal.label}, notes=remarks
        )

    def against_each_other(
        self, images: Sequence[VideoLike], ids: Tensor, candidates: Candidates, plan: Plan, notes: tuple[str, ...]
    ) -> tuple[CandidateCurve, dict[str, Any], tuple[str, ...]]:
        """Follow the same candidates for every image, none of them known to be true.

        Returns:
            their scores, the settings of the record, and notes.
        """
        plan.check(self.convention, candidates=len(candidates.prompts))
        if plan.keep != "pair":
            raise ValueError(f"keep is {shown(plan.keep)}; maps belong to `filter`, which is told the true prompts")
        curve = self.follow(images, ids, tuple(candidates.prompts), candidates.probability, plan)
        return curve, self.path_settings(plan, curve.logsnr), (*_remarks(self.denoiser, plan.path()), *notes)

    def one_over_other(
        self, images: Sequence[VideoLike], ids: Tensor, one: Sequence[Prompt], other: Sequence[Prompt], plan: Plan
    ) -> tuple[list[Odds], dict[str, Any], tuple[str, ...]]:
        """Follow two prompts of every image along the same noise paths.

        Returns:
            their odds, some images at a time, the settings of the record, and notes.
        """
        plan.check(self.convention, candidates=2)
        path = plan.path()
        parts: list[Odds] = []
        with self.bar(len(images) * (path.quadrature.nodes - 1) * path.draws, "compare") as moving:
            for rows, x in self.chunks(images, plan):
                parts.append(
                    measure_odds(
                        self.denoiser,
                        Pairs.of(x, ids[rows]),
                        self.encoder.condition(one[rows]),
                        self.encoder.condition(other[rows]),
                        path,
                        seed=plan.seed,
                        batch_size=plan.batch_size,
                        pixels=plan.keep != "pair",
                        progress=moving.update,
                    )
                )
        return parts, self.path_settings(plan, parts[0].logsnr), _remarks(self.denoiser, path)

    def pilot(self, pairs: ImagePairs, nodes: int, plan: Plan) -> StratifiedProfile:
        """Where a few pairs have their information; see `MMGPipeline.pilot`."""
        x = torch.cat([part for _, part in self.chunks(pairs.images, plan)])
        return gap_fitted(
            self.denoiser,
            x,
            self.encoder.condition(pairs.prompts),
            None if pairs.given is None else self.encoder.condition(pairs.given),
            nodes=nodes,
            pairs=len(x),
            seed=plan.seed,
            logsnr_range=plan.logsnr_range,
            batch_size=plan.batch_size,
        )

    def follow(
        self,
        images: Sequence[VideoLike],
        ids: Tensor,
        names: Sequence[str],
        prior: Tensor,
        plan: Plan,
        slots: Tensor | None = None,
        truth: Tensor | None = None,
    ) -> CandidateCurve:
        """Follow candidates: those of every image by `slots`, with its true one by `truth`, or all of them for each."""
        path = plan.path()
        condition = self.encoder.condition(names)
        parts: list[CandidateCurve] = []
        with self.bar(len(images) * (path.quadrature.nodes - 1) * path.draws, "classify") as moving:
            for rows, x in self.chunks(images, plan):
                parts.append(
                    measure_candidates(
                        self.denoiser,
                        Pairs.of(x, ids[rows]),
                        condition,
                        path,
                        slots=None if slots is None else slots[rows],
                        truth=None if truth is None else truth[rows],
                        prior=prior if slots is None else prior[rows],
                        seed=plan.seed,
                        batch_size=plan.batch_size,
                        keep=plan.keep,
                        progress=moving.update,
                    )
                )
        return CandidateCurve.merge(parts)

    def chunks(self, images: Sequence[VideoLike], plan: Plan) -> Iterator[tuple[slice, Tensor]]:
        """Encoded images, some at a time, with their places."""
        for start, x in self.encoder.images(list(images), plan.resize):
            yield slice(start, start + len(x)), x

    def _settings(self, plan: Plan) -> dict[str, Any]:
        return {**self.settings, "logsnr_range": plan.logsnr_range and list(plan.logsnr_range), "resized": plan.resize}

    def path_settings(self, plan: Plan, levels: Tensor) -> dict[str, Any]:
        """What the record says of a measurement along a path through these levels."""
        path = plan.path()
        # A path runs between levels that the network knows, which need not be the ends that were asked for.
        ends = None if plan.logsnr_range is None else [float(levels[0]), float(levels[-1])]
        return {
            **self._settings(plan),
            "logsnr_range": ends,
            "quadrature": repr(path.quadrature),
            "draws": path.draws,
            "seed": plan.seed,
            "prune": path.prune,
        }

    def bar(self, total: int | None, name: str) -> AbstractContextManager[Moves]:
        """A progress bar, as the user wants it, or a share of the bar of the whole."""
        return bar(total, name, self.progress)


def _remarks(denoiser: Denoiser, path: NoisePath) -> tuple[str, ...]:
    """What a reader should be told of the model, of memory, and of a path that does not begin at the noisy end."""
    remarks = (*denoiser.notes, *memory_notes(denoiser))
    low, high = denoiser.logsnr_range
    begins = path.quadrature.bounds(*(path.logsnr_range or (low, high)))[0]
    if begins <= low + LATE:
        return remarks
    return (
        *remarks,
        Finding(
            f"the path begins at log-SNR {begins:.2f}, above the noisy end {low:.2f}: the posterior, and the mixture that it "
            "makes, do not know what is told below",
            "range",
        ),
    )


def _of_masks(pairs: ImagePairs) -> tuple[Finding, ...]:
    """What a reader should be told of prompts with masked words."""
    masked = any(isinstance(text, Masked) for text in (*pairs.prompts, *(pairs.given or [])))
    return (Finding(MASKED, "masked words"),) if masked else ()
