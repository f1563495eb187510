"""How likely images are: log p of each, of each given its prompt, and the Gaussians that they are measured against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch

from mmg_diffusers.checks import shown, whole
from mmg_diffusers.denoisers.references import GaussianReference, check_kind
from mmg_diffusers.measure.density import Density
from mmg_diffusers.measure.likelihood import LogLikelihood
from mmg_diffusers.pairs.likelihood import Likelihood
from mmg_diffusers.pairs.plan import Options, Plan
from mmg_diffusers.pairs.prompts import Prompt
from mmg_diffusers.pairs.videos import VideoLike
from mmg_diffusers.pipelines.comparing import ComparingModel
from mmg_diffusers.pipelines.encoding import one_each

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from mmg_diffusers.denoisers.covariances import Kind


class LikelihoodModel(ComparingModel):
    """A pipeline that says how likely images are."""

    def log_likelihood(
        self,
        images: VideoLike | Sequence[VideoLike],
        prompts: Prompt | Sequence[Prompt] | None = None,
        *,
        reference: GaussianReference | None = None,
        plan: Plan | None = None,
        pair_ids: Sequence[int] | None = None,
        **options: Unpack[Options],
    ) -> LogLikelihood:
        """log p of each image, or of each image given its prompt, in nats (Kong et al., arXiv 2302.03792).

        It is a density of what the network denoises, at the resolution of its cleanest level: of the VAE's latent at its
        posterior mode for latent diffusion, in units of the latent, and not of pixels. `LogLikelihood.versus` compares two of
        them at the same noise, most of which cancels: two prompts, or two models of one variable.

        Args:
            images, plan, pair_ids: as in ``pipe(images, prompts)``. What the plan leaves open is as in `Density`.
            prompts: one for each image, or one for all; ``None`` for the unconditional branch.
            reference: the Gaussian that it is measured against, from `fit_reference` on other images; the nearer to the
                data, the smaller the standard error; and smaller still at the levels of its `pilot`. N(0, 1) by default.

        Raises:
            ValueError: for a model without an unconditional branch, if there is no prompt; for options that belong to mutual
                information, a reference of another shape, and as ``pipe(images, prompts)`` does.
        """
        chosen = Plan.of(plan, **options)
        marginal = Likelihood(GaussianReference() if reference is None else reference, prompts is not None)
        marginal.density(chosen)
        if prompts is None and not self.unconditional:
            raise ValueError(
                f"this {self.family.name} has no unconditional branch: log p(image) cannot be had of it; give prompts= for "
                "log p(image | prompt)"
            )
        self._check_reference(marginal.reference)
        result = self.measure(images, "" if prompts is None else prompts, None, marginal, chosen, pair_ids)
        return cast(LogLikelihood, result)

    def _check_reference(self, reference: GaussianReference) -> None:
        """Raise a ValueError for a reference that is none of what the network denoises, before an image is encoded."""
        event, shape = reference.event, self.codec.describe().get("latent_shape")
        if event is not None and shape is not None and (len(event) != len(shape) or event[0] != shape[0]):
            raise ValueError(
                f"the reference describes {event}, and this model denoises {tuple(shape)} at its own size; expected one that "
                "pipe.fit_reference made of other images"
            )

    @property
    def unconditional(self) -> bool:
        """Whether the network has a branch that is told nothing."""
        # Of the configs alone, so that a refusal comes before a text encoder runs for the null prompt.
        return bool(self.family.nulls()) or not self.family.conditional

    def fit_reference(
        self,
        images: VideoLike | Sequence[VideoLike],
        prompts: Prompt | Sequence[Prompt] | None = None,
        *,
        kind: Kind | None = None,
        rank: int | None = None,
        choose: bool = False,
        pilot: int = 0,
        resize: bool = False,
    ) -> GaussianReference:
        """The Gaussian of some images, as the network sees them; to measure the likelihood of others against.

        Args:
            images: other ones than those that will be measured; the reference knows them again, and results say so.
            prompts: what images of the pilot are told, one for each image, or one for all; ``None`` for the unconditional branch.
            kind, rank: of the covariance, see `GaussianReference.fit`.
            choose: compare kinds of covariance on a part of the images, see `GaussianReference.choose`.
            pilot: how many of the images are kept from the Gaussian, 16 are enough, to find by 80 evaluations of each at which
                levels the network leaves noise, and how much of the Gaussian's own to take off. The reference carries that: a
                likelihood against it then has a smaller standard error at the same cost. 0: the network is not run.
            resize: bring images to the model's own size.

        Raises:
            TypeError, ValueError: for a kind beside `choose`, a pilot of fewer than 8 images or of more than half of them, prompts
                without a pilot or a model that needs them, and as `GaussianReference.fit` does.
        """
        if choose and not (kind is None and rank is None):
            raise ValueError(
                f"kind is {shown(kind)} and rank {shown(rank)} beside choose=True, which finds them; leave them out"
            )
        with self.ready() as bench:
            pictures, noun = bench.encoder.check_images(images, resize), bench.encoder.codec.medium.noun
            self._check_pilot(pilot, prompts is not None, len(pictures), noun)
            check_kind("isotropic" if choose else kind, rank, len(pictures) - pilot, noun)
            told = None if prompts is None else one_each(prompts, len(pictures), "prompts", noun)
            if told is not None:
                bench.encoder.check_prompts(told)
            x = torch.cat([part.cpu() for _, part in bench.encoder.images(list(pictures), resize)])
            # Evenly among the images, which may be in the order of something.
            chosen = torch.zeros(len(x), dtype=torch.bool)
            chosen[torch.linspace(0, len(x) - 1, pilot).round().long()] = True
            fitted = x[~chosen]
            made = GaussianReference.choose(fitted) if choose else GaussianReference.fit(fitted, kind, rank)
            if not pilot:
                return made
            cond = None
            if told is not None:
                cond = bench.encoder.condition([told[place] for place in chosen.nonzero().flatten().tolist()])
            return Density(made).piloted(bench.denoiser, x[chosen], cond).reference

    def _check_pilot(self, pilot: int, told: bool, count: int, noun: str) -> None:
        """Raise a TypeError or ValueError for a pilot that cannot be had of so many images."""
        whole(pilot, "pilot", 0)
        if pilot and not 8 <= pilot <= count // 2:
            raise ValueError(
                f"pilot is {pilot} of {count} {noun}{'s' * (count != 1)}; expected at least 8 and at most half of them, since the Gaussian is fitted to the "
                "others; or 0 for none"
            )
        if told and not pilot:
            raise ValueError("prompts are what the pilot's images are told; give pilot=16, or leave them out")
        if pilot and not told and not self.unconditional:
            raise ValueError(
                f"this {self.family.name} has no unconditional branch; give prompts= that the pilot's images are told"
            )
