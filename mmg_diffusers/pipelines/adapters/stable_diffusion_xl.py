"""Stable Diffusion XL: UNet on VAE latents, two CLIP encoders, sizes in pixels; base, fine-tunes and the refiner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmg_diffusers.checks import shown
from mmg_diffusers.denoisers.conventions import Convention, DiscreteVP
from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.codecs import LatentCodec
from mmg_diffusers.pipelines.adapters.networks import Network, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register

# The aesthetic score of the refiner, in both branches: its pipeline tells 2.5 in the one without a prompt, and a difference
# that is not the prompt's would be taken for information.
_SCORE = 6.0
# The refiner was trained on the cleanest 200 timesteps alone (Podell et al. 2023, arXiv 2307.01952, section 2.5).
_REFINED = 200


class _UNet(Network):
    """The UNet's call, with the image's size in pixels as its original and target size, not cropped.

    Args:
        module: the UNet of diffusers.
        scale: pixels for one latent.
        scored: whether it takes an aesthetic score in place of the target size.
    """

    def __init__(self, module: Any, scale: int, scored: bool) -> None:
        super().__init__(module)
        self.scale, self.scored = scale, scored

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, text_embeds: Tensor) -> Tensor:
        size = [side * self.scale for side in x.shape[-2:]]
        time_ids = x.new_tensor([*size, 0, 0, *([_SCORE] if self.scored else size)]).expand(len(x), -1)
        added = {"text_embeds": text_embeds.to(x.dtype), "time_ids": time_ids}
        states = encoder_hidden_states.to(x.dtype)
        return self.module(x, told(time, x), encoder_hidden_states=states, added_cond_kwargs=added, return_dict=False)[
            0
        ]


class StableDiffusionXLCodec(LatentCodec):
    """VAE latents; token states of both CLIP encoders side by side, and the pooled embedding of the second."""

    denoiser = "unet"
    encoders: ClassVar = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
    normalised = True

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, _, pooled, _ = self.pipe.encode_prompt(
            list(prompts), device=self.device, do_classifier_free_guidance=False
        )
        return {"encoder_hidden_states": states, "text_embeds": pooled}


@register
class StableDiffusionXL(Family):
    """Stable Diffusion XL. The information is that of image and prompt at the image's size, which both branches are told.

    No prompt is zeros if the folder says ``force_zeros_for_empty_prompt`` (as the base does), else the encoded empty prompt;
    ``null="zeros"`` or ``"empty"`` decides otherwise.
    """

    name = "Stable Diffusion XL"
    pipelines = (
        *("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline"),
        *("StableDiffusionXLPAGPipeline", "StableDiffusionXLPAGImg2ImgPipeline", "StableDiffusionXLPAGInpaintPipeline"),
    )
    refused: ClassVar = {
        "StableDiffusionXLInstructPix2PixPipeline": "its UNet is also given the image that is edited; measure a "
        "StableDiffusionXLPipeline, whose UNet is given noise and text"
    }
    parts = ("unet", "vae", "text_encoder_2", "tokenizer_2", "scheduler")

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.unet,)

    def network(self) -> nn.Module:
        return _UNet(self.pipe.unet, self.codec().scale, self._scored)

    def codec(self) -> StableDiffusionXLCodec:
        return StableDiffusionXLCodec(self.pipe)

    def convention(self) -> Convention:
        convention = super().convention()
        if not (self._scored and isinstance(convention, DiscreteVP)):
            return convention
        return replace(convention, levels=convention.levels[:_REFINED], timesteps=convention.timesteps[:_REFINED])

    def nulls(self) -> Mapping[str, str]:
        zeros = {"zeros": "zeros in place of the text's states and of its pooled embedding"}
        empty = {"empty": "the encoded empty prompt"}
        return zeros | empty if self.pipe.config.get("force_zeros_for_empty_prompt", True) else empty | zeros

    def null_training(self) -> str:
        said = self.pipe.config.get("force_zeros_for_empty_prompt")
        told = "says neither" if said is None else f"says force_zeros_for_empty_prompt={said}"
        return f"model_index.json {told}; models of this family are trained with prompts left out"

    def describe(self) -> dict[str, Any]:
        told_too = f", aesthetic score {_SCORE}" if self._scored else ""
        return {**super().describe(), "size": f"the image's own, not cropped{told_too}, told in both branches"}

    def refusal(self) -> str | None:
        pipe, unet = self.pipe, self.pipe.unet
        reason = distilled(pipe, unet) or other_input(unet, pipe.vae.config.latent_channels)
        if reason is not None:
            return reason
        if unet.config.get("addition_embed_type") != "text_time":
            return f"the UNet takes {shown(unet.config.get('addition_embed_type'))} beside text; expected 'text_time', text and sizes"
        texts = [text for text in (pipe.text_encoder, pipe.text_encoder_2) if text is not None]
        width, given = unet.config.cross_attention_dim, sum(text.config.hidden_size for text in texts)
        if pipe.text_encoder_2 is not None and width != given:
            return (
                f"the UNet takes text of width {width} where {len(texts)} text encoder(s) give {given}: one is missing, or "
                "they are parts of different models"
            )
        return None

    @property
    def _scored(self) -> bool:
        return bool(self.pipe.config.get("requires_aesthetics_score", False))
