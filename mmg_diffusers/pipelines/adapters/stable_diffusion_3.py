"""Stable Diffusion 3 and 3.5: MMDiT on VAE latents, rectified flow, two CLIP encoders and T5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.codecs import LatentCodec
from mmg_diffusers.pipelines.adapters.networks import Network, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register

# Tokens that T5 is given, the default of the pipeline.
_T5_TOKENS = 256


class _Transformer(Network):
    """The transformer's call."""

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, pooled_projections: Tensor) -> Tensor:
        return self.module(
            hidden_states=x,
            timestep=told(time, x),
            encoder_hidden_states=encoder_hidden_states.to(x.dtype),
            pooled_projections=pooled_projections.to(x.dtype),
            return_dict=False,
        )[0]


class StableDiffusion3Codec(LatentCodec):
    """VAE latents, shifted and scaled; token states of CLIP and then of T5, or zeros in T5's place, and CLIP's pooled ones."""

    encoders: ClassVar = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2", "text_encoder_3": "tokenizer_3"}

    @property
    def places(self) -> int | None:
        return self.network.config.pos_embed_max_size

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, _, pooled, _ = self.pipe.encode_prompt(
            list(prompts),
            None,
            None,
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=_T5_TOKENS,
        )
        return {"encoder_hidden_states": states, "pooled_projections": pooled}

    def limits(self) -> dict[str, int]:
        there = super().limits()
        return (
            there | {"tokenizer_3": _T5_TOKENS} if self._t5 else {k: v for k, v in there.items() if k != "tokenizer_3"}
        )

    def text_settings(self) -> dict[str, Any]:
        return {"t5_tokens": _T5_TOKENS if self._t5 else "none (zeros in their place)"}

    @property
    def _t5(self) -> bool:
        pipe = self.pipe
        # Where the first is gone too, they were released, and what T5 said is kept.
        there = pipe.text_encoder_3 is not None or pipe.text_encoder is None
        return there and pipe.tokenizer_3 is not None


@register
class StableDiffusion3(Family):
    """Stable Diffusion 3 and 3.5, with T5 or without. No prompt is the encoded empty prompt."""

    name = "Stable Diffusion 3"
    pipelines = (
        *("StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline"),
        *("StableDiffusion3PAGPipeline", "StableDiffusion3PAGImg2ImgPipeline"),
    )
    parts = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
    flow: ClassVar = {}

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        return _Transformer(self.pipe.transformer)

    def codec(self) -> StableDiffusion3Codec:
        return StableDiffusion3Codec(self.pipe)

    def refusal(self) -> str | None:
        transformer = self.pipe.transformer
        return distilled(self.pipe, transformer) or other_input(transformer, self.pipe.vae.config.latent_channels)
