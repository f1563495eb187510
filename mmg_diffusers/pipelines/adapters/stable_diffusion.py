"""Stable Diffusion 1.x and 2.x: UNet on VAE latents, CLIP text, epsilon or v-prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from mmg_diffusers.checks import finite, shown
from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.codecs import LatentCodec
from mmg_diffusers.pipelines.adapters.networks import Network, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register

# Entries of a UNet's config that are set where it is called with more than a noisy latent, a time and text.
_MORE_INPUTS = ("class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim_type")


class _UNet(Network):
    """The UNet's call, with positional input and time."""

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        states = encoder_hidden_states.to(x.dtype)
        return self.module(x, told(time, x), encoder_hidden_states=states, return_dict=False)[0]


class StableDiffusionCodec(LatentCodec):
    """VAE latents (posterior mode, scaled) and CLIP token states."""

    denoiser = "unet"

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, _ = self.pipe.encode_prompt(list(prompts), self.device, 1, False)
        return {"encoder_hidden_states": states}


@register
class StableDiffusion(Family):
    """Stable Diffusion 1.x and 2.x. Only the training part of the scheduler's config is read.

    Refused are guidance-distilled UNets, which have no unconditional branch, those whose input is more than the noisy latent
    (inpainting, depth, x4 upscaling), and parts that do not fit each other.
    """

    name = "Stable Diffusion 1.x/2.x"
    pipelines = (
        *("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"),
        # Perturbed attention is a matter of sampling: a network is as it was before and after.
        *("StableDiffusionPAGPipeline", "StableDiffusionPAGImg2ImgPipeline", "StableDiffusionPAGInpaintPipeline"),
    )
    parts = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    refused: ClassVar = {
        **dict.fromkeys(
            (
                *("StableDiffusionInstructPix2PixPipeline", "StableDiffusionDepth2ImgPipeline"),
                *("StableDiffusionUpscalePipeline", "StableDiffusionLatentUpscalePipeline"),
            ),
            "its UNet is also given an image or depth; measure a StableDiffusionPipeline, whose UNet is given noise and text",
        ),
        **dict.fromkeys(
            ("StableDiffusionImageVariationPipeline", "StableUnCLIPImg2ImgPipeline", "StableUnCLIPPipeline"),
            "its UNet is given the embedding of an image; measure a StableDiffusionPipeline, whose UNet is given noise and text",
        ),
    }

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.unet,)

    def network(self) -> nn.Module:
        return _UNet(self.pipe.unet)

    def codec(self) -> StableDiffusionCodec:
        return StableDiffusionCodec(self.pipe)

    def refusal(self) -> str | None:
        pipe = self.pipe
        config = pipe.unet.config
        reason = distilled(pipe, pipe.unet) or other_input(pipe.unet, pipe.vae.config.latent_channels)
        if reason is not None:
            return reason
        more = {key: config[key] for key in _MORE_INPUTS if config.get(key) is not None}
        if more:
            return f"the UNet is given more than a noisy latent, a time and text ({more}), which is not supported"
        if not isinstance(config.sample_size, (int, list, tuple)):
            return f"the UNet's config has sample_size {shown(config.sample_size)}; expected the size of its latents"
        if finite(pipe.vae.config.scaling_factor, "the VAE's scaling_factor") <= 0:
            return f"the VAE's scaling_factor is {pipe.vae.config.scaling_factor}; expected a factor above 0"
        return None if pipe.text_encoder is None else self._text_refusal()

    def _text_refusal(self) -> str | None:
        """Why the text encoder fits neither the UNet nor the tokenizer."""
        pipe = self.pipe
        width, given = pipe.unet.config.cross_attention_dim, pipe.text_encoder.config.hidden_size
        if isinstance(width, int) and width != given:
            return f"the UNet takes text of width {width} where the text encoder gives {given}: they are parts of different models"
        known, named = pipe.text_encoder.get_input_embeddings().num_embeddings, len(pipe.tokenizer)
        if named > known:
            return f"the tokenizer names {named} tokens where the text encoder knows {known}: its files are of another model"
        tokens, positions = pipe.tokenizer.model_max_length, pipe.text_encoder.config.max_position_embeddings
        if tokens > positions:
            return (
                f"the tokenizer allows {tokens} tokens where the text encoder has {positions} positions: its files are missing "
                "or of another model"
            )
        return None
