"""The front door: mutual information of images and prompts under a text-to-image pipeline of diffusers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from torch import Tensor

from mmg_diffusers.analysis.filtering import Filtered
from mmg_diffusers.analysis.influence import Influence, influence
from mmg_diffusers.checks import shown, two_ends
from mmg_diffusers.measure.batches import range_within
from mmg_diffusers.measure.estimate import Estimate
from mmg_diffusers.measure.likelihood import LogLikelihood
from mmg_diffusers.measure.quadrature import Trapezoid
from mmg_diffusers.measure.weights import trapezoid_within
from mmg_diffusers.pairs.marginals import Marginal, NullPrompt
from mmg_diffusers.pairs.plan import LEVELS, STEPS, Options, Plan
from mmg_diffusers.pairs.prompts import Prompt
from mmg_diffusers.pairs.sources import Source
from mmg_diffusers.pairs.videos import VideoLike
from mmg_diffusers.pipelines.running import run_pairs
from mmg_diffusers.pipelines.uses import UsingModel
from mmg_diffusers.runs.parts import Part
from mmg_diffusers.runs.shards import Outcome

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["LEVELS", "STEPS", "MMGPipeline"]

NULL = NullPrompt()


class MMGPipeline(UsingModel):
    """Measures what prompts say about images, with a pipeline of diffusers.

    Args:
        pipe: a text-to-image pipeline in memory; its weights are shared, not copied. ``from_pretrained`` loads one.

    It stays at hand as ``pipe.pipe``. Its parts are read anew for every measurement, so whatever is switched on, changed or
    replaced there holds: offloading, compilation (``pipe.pipe.unet.compile()``), memory formats, attention backends, adapters,
    another dtype, another network.

    Example::

        pipe = MMGPipeline.from_pretrained("stable-diffusion-v1-5/stable-diffusion-v1-5", torch_dtype=torch.float16)
        out = pipe.to("cuda")(images, prompts)
        out.mean()              # mutual information in nats, with its standard error
        out.nats, out.stderr    # for each pair

    The information is that between the prompt and the variable that the model denoises (for latent diffusion the
    VAE latent), under the model's two branches; `Estimate.warnings` tells when these are not to be trusted.

    Every measurement takes a `Plan`, its options as keywords (``levels=16``, which change the plan's), or neither.

    Raises:
        ValueError: when the pipeline has no adapter, or no honest unconditional branch.
    """

    # ---- measurements ----

    def __call__(
        self,
        images: VideoLike | Sequence[VideoLike],
        prompts: Prompt | Sequence[Prompt],
        *,
        given: Prompt | Sequence[Prompt] | None = None,
        marginal: Marginal = NULL,
        plan: Plan | None = None,
        pair_ids: Sequence[int] | None = None,
        entropy: float | None = None,
        **options: Unpack[Options],
    ) -> Estimate:
        """Mutual information of each image with its prompt.

        Args:
            images: PIL images, arrays `(H, W, 3)`, tensors `(3, H, W)` or paths; floats lie in [0, 1]. Of a model that makes
                videos, videos: lists of frames, arrays `(F, H, W, 3)`, tensors `(F, 3, H, W)`, folders of frames, animations.
                A list of single images is one video.
            prompts: one for each image, or one for all; `Masked` ones among them if the null prompt is the marginal.
            given: contexts, one for each image or one for all, for i(image; prompt | context); the prompt then holds the
                context too ("a red car" given "a car"). `Masked` prompts make it the information of a word.
            marginal: what the prompt is compared with: the null prompt, or the mixture of `Candidates` or `Negatives` along
                one noise path (`filter` says more of that, above all log q, a bound).
            plan: how, see `Plan`; its options may be given as keywords: ``pipe(images, prompts, levels=16, seed=1)``.
            pair_ids: different non-negative integers, by default the pairs' places in the list.
            entropy: H(Y) of prompts that are labels of a known law, nats: the most that an image can tell of them. By default
                that of labels that occur five times or more, as often as they do; an estimate above it is warned of.

        Raises:
            TypeError: for an option that there is not.
            ValueError: for inputs that do not fit, before any network is run where that can be seen.
        """
        chosen = Plan.of(plan, **options)
        compared = marginal if entropy is None else marginal.stating(entropy)
        return _as_estimate(self.measure(images, prompts, given, compared, chosen, pair_ids), chosen)

    def influence(
        self,
        images: VideoLike | Sequence[VideoLike],
        prompts: str | Sequence[str],
        *,
        given: Prompt | Sequence[Prompt] | None = None,
        marginal: Marginal = NULL,
        plan: Plan | None = None,
        pair_ids: Sequence[int] | None = None,
        **options: Unpack[Options],
    ) -> Influence:
        """What each prompt still adds at every noise level: I(image; prompt | noisy image) (MINDE, eq. 29).

        Args:
            images, prompts, given, plan, pair_ids: as in ``pipe(images, prompts)``.
            marginal: what the prompt is compared with. Against candidates the posterior along the noise path is read (log q).

        Raises:
            ValueError: as the measurement does.
        """
        found = self.measure(images, prompts, given, marginal, Plan.of(plan, **options), pair_ids)
        convention = self.family.convention()
        read = influence(found, convention) if isinstance(found, Estimate) else found.influence(convention)
        return replace(read, sampler=self.sampler)

    def pixel_map(
        self,
        images: VideoLike | Sequence[VideoLike],
        prompts: str | Sequence[str],
        *,
        given: Prompt | Sequence[Prompt] | None = None,
        marginal: Marginal = NULL,
        band: tuple[float, float] | None = None,
        plan: Plan | None = None,
        pair_ids: Sequence[int] | None = None,
        **options: Unpack[Options],
    ) -> tuple[Tensor, Tensor]:
        """Where each prompt speaks: nats per image pixel, and standard errors, `(N, H, W)` each; of videos `(N, F, H, W)`.

        A map sums to the pair's value under the same integrand; maps of adjoining bands add up.

        Args:
            images, prompts, given, plan, pair_ids: as in ``pipe(images, prompts)``.
            marginal: what the prompt is compared with.
            integrand: ``"orthogonal"``, the default, is nowhere negative, ``"gap"`` is signed.
            band: of log-SNR, that the map is of. Candidates are followed from the noisy end all the same, which
                `logsnr_range` would not do.

        Raises:
            ValueError: as the measurement does, and for a band outside of its range.
        """
        integrand = options.get("integrand", "orthogonal")
        if integrand != "gap" and integrand != "orthogonal":
            raise ValueError(f"integrand is {shown(integrand)}; maps are of 'gap' or 'orthogonal'")
        chosen = replace(Plan.of(plan, **options), keep="pixel" if band is None else "level")
        if band is not None:
            ends = range_within(self.denoiser, chosen.logsnr_range, Trapezoid(2))
            trapezoid_within(torch.tensor(ends, dtype=torch.float64), *two_ends(band, "band", unbounded=True))
        found = _as_estimate(self.measure(images, prompts, given, marginal, chosen, pair_ids), chosen)
        nats, stderr = found.pixel_map(cast("Literal['gap', 'orthogonal']", integrand), band)
        return self.spread(nats, images, chosen.resize), self.spread(stderr, images, chosen.resize)

    def run(
        self,
        source: str | Path | Iterable[Mapping[str, Any]] | Source,
        output: str | Path | Part,
        *,
        prompt: str | None = None,
        marginal: Marginal = NULL,
        plan: Plan | None = None,
        truncate: bool = True,
        strict: bool = False,
        limit: int | None = None,
        progress: bool = True,
        **options: Unpack[Options],
    ) -> Outcome | None:
        """Measure every pair of a data set; resumable, and sharded over the processes of one launch: of ``torchrun``, or on GPUs
        of ``accelerate launch``.

        OUTPUT gets one file a chunk of pairs as it is done, then ``pairs.parquet`` and ``estimate.safetensors``;
        `Outcome.load` reads what is there at any time. A pair's numbers depend on the model, the settings, the seed and
        its place in the source: not on the number of processes, nor on interruptions (bit for bit on one device type
        with the same number of threads).

        Args:
            source: a folder or table (see `read_pairs`), webdataset shards (``.tar``), a `datasets.Dataset`, map-style or
                streaming, or mappings; see `rows_of_dataset` for the columns, and `Source` for pictures with several captions.
            output: a folder of its own for every combination of data set, model and settings; or a `Part` of a run, see there.
            prompt: for all images, if the source has none.
            marginal: what prompts are compared with. Negatives are drawn over all prompts of the source.
            plan: as in ``pipe(images, prompts)``.
            truncate: whether prompts that are too long are cut, with a note; else they are bad pairs.
            strict: stop at the first bad pair; by default it is recorded with its reason.
            limit: only the first pairs.
            progress: whether the main process shows a bar, which counts the pairs of all processes.

        Returns:
            on the main process, the outcome; ``None`` on the others.

        Raises:
            ValueError: for a folder of another run, or a bad pair if `strict`.
            OSError: when the folder cannot be written to; what was finished is kept.
        """
        return run_pairs(
            self,
            source,
            output,
            prompt=prompt,
            marginal=marginal,
            plan=Plan.of(plan, **options),
            truncate=truncate,
            strict=strict,
            limit=limit,
            progress=progress,
        )


def _as_estimate(found: Estimate | Filtered | LogLikelihood, plan: Plan) -> Estimate:
    """What was measured against candidates, as an estimate against their mixture.

    Raises:
        TypeError: for a likelihood, which is no mutual information.
    """
    if isinstance(found, LogLikelihood):
        raise TypeError(
            "the marginal is Likelihood(...), against which there is no mutual information; use pipe.log_likelihood"
        )
    return found if isinstance(found, Estimate) else found.against_mixture.using(plan.integrand)
