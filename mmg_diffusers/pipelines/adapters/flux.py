"""Flux, de-distilled: a transformer on packed VAE latents, rectified flow, pooled CLIP and T5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmg_diffusers.denoisers.conventions import Convention, RectifiedFlow
from mmg_diffusers.pipelines.adapters.base import Family, register
from mmg_diffusers.pipelines.adapters.codecs import LatentCodec
from mmg_diffusers.pipelines.adapters.networks import Network, pack, told, unpack
from mmg_diffusers.pipelines.adapters.refusals import CANDIDATES, distilled

# Tokens that T5 is given, the default of the pipeline.
_T5_TOKENS = 512


class _Transformer(Network):
    """The transformer's call on tokens of 2 x 2 latents, each with its row and column."""

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, pooled_projections: Tensor) -> Tensor:
        rows, columns = (torch.arange(side // 2, device=x.device) for side in x.shape[-2:])
        places = torch.cartesian_prod(torch.zeros_like(rows[:1]), rows, columns)
        tokens = self.module(
            hidden_states=pack(x),
            timestep=told(time, x),
            pooled_projections=pooled_projections.to(x.dtype),
            encoder_hidden_states=encoder_hidden_states.to(x.dtype),
            txt_ids=x.new_zeros(encoder_hidden_states.shape[1], 3),
            img_ids=places.to(x.dtype),
            return_dict=False,
        )[0]
        return unpack(tokens, x)


class FluxCodec(LatentCodec):
    """VAE latents, shifted and scaled; T5 token states and CLIP's pooled one."""

    encoders: ClassVar = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}

    @property
    def patch(self) -> int:
        return 2

    @property
    def native_size(self) -> tuple[int, int]:
        side = self.pipe.default_sample_size * self.scale
        return side, side

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, pooled, _ = self.pipe.encode_prompt(
            list(prompts), None, device=self.device, max_sequence_length=_T5_TOKENS
        )
        return {"encoder_hidden_states": states, "pooled_projections": pooled}

    def limits(self) -> dict[str, int]:
        return {**super().limits(), "tokenizer_2": _T5_TOKENS}

    def describe(self) -> dict[str, Any]:
        said = super().describe()
        return {**said, "latent_shape": [self.pipe.vae.config.latent_channels, *said["latent_shape"][1:]]}


@register
class Flux(Family):
    """Flux that was trained without a prompt too. That is stated with ``null="empty"``: nothing in a folder tells such a model
    from schnell, which was distilled to a few steps. Dev, which is told the guidance, is refused.
    """

    name = "Flux"
    pipelines = ("FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline")
    parts = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        return _Transformer(self.pipe.transformer)

    def codec(self) -> FluxCodec:
        return FluxCodec(self.pipe)

    def convention(self) -> Convention:
        convention = super().convention()
        return replace(convention, time_scale=1.0) if isinstance(convention, RectifiedFlow) else convention

    def refusal(self) -> str | None:
        config, channels = self.pipe.transformer.config, self.pipe.vae.config.latent_channels
        if config.in_channels != 4 * channels:
            return (
                f"the transformer takes {config.in_channels} channels where 2 x 2 latents have {4 * channels}: it is also given "
                "an image or mask (Control, Fill, Depth), which is not supported"
            )
        reason = distilled(self.pipe, self.pipe.transformer)
        if reason is None and self.chosen is None:
            return (
                "nothing in this folder tells whether Flux was distilled to a few steps, as schnell was, or trained without a "
                f'prompt too (de-distilled). If it was, say so with null="empty"; else {CANDIDATES}.'
            )
        return reason
