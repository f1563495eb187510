"""Kolors: the UNet of Stable Diffusion XL with one ChatGLM text encoder, epsilon over 1100 levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.codecs import LatentCodec
from mmg_diffusers.pipelines.adapters.networks import Network, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register

# Tokens that the text encoder is given, the default of the pipeline.
_TOKENS = 256


class _UNet(Network):
    """The UNet's call, with the image's size in pixels as its original and target size, not cropped.

    Args:
        module: the UNet of diffusers.
        scale: pixels for one latent.
    """

    def __init__(self, module: Any, scale: int) -> None:
        super().__init__(module)
        self.scale = scale

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, text_embeds: Tensor) -> Tensor:
        size = [side * self.scale for side in x.shape[-2:]]
        time_ids = x.new_tensor([*size, 0, 0, *size]).expand(len(x), -1)
        added = {"text_embeds": text_embeds.to(x.dtype), "time_ids": time_ids}
        states = encoder_hidden_states.to(x.dtype)
        return self.module(x, told(time, x), encoder_hidden_states=states, added_cond_kwargs=added, return_dict=False)[
            0
        ]


class KolorsCodec(LatentCodec):
    """VAE latents; the token states of ChatGLM's last layer but one, and the last token's of its last. No mask is given on."""

    denoiser = "unet"

    def limits(self) -> dict[str, int]:
        return {"tokenizer": _TOKENS}

    def text_settings(self) -> dict[str, Any]:
        return {"glm_tokens": _TOKENS}

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, _, pooled, _ = self.pipe.encode_prompt(
            list(prompts), device=self.device, do_classifier_free_guidance=False, max_sequence_length=_TOKENS
        )
        return {"encoder_hidden_states": states, "text_embeds": pooled}


@register
class Kolors(Family):
    """Kolors. No prompt is the encoded empty prompt; both branches are told the image's own size, not cropped."""

    name = "Kolors"
    pipelines = ("KolorsPipeline", "KolorsImg2ImgPipeline", "KolorsPAGPipeline")
    parts = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.unet,)

    def network(self) -> nn.Module:
        return _UNet(self.pipe.unet, self.codec().scale)

    def codec(self) -> KolorsCodec:
        return KolorsCodec(self.pipe)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "size": "the image's own, not cropped, told in both branches"}

    def refusal(self) -> str | None:
        unet = self.pipe.unet
        return distilled(self.pipe, unet) or other_input(unet, self.pipe.vae.config.latent_channels)
