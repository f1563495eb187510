"""AuraFlow: transformer on VAE latents, rectified flow, one T5-like encoder."""

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

# Tokens that the text encoder is given, the default of the pipeline.
_TOKENS = 256


class _Transformer(Network):
    """The transformer's call."""

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor) -> Tensor:
        states = encoder_hidden_states.to(x.dtype)
        return self.module(x, encoder_hidden_states=states, timestep=told(time, x), return_dict=False)[0]


class AuraFlowCodec(LatentCodec):
    """VAE latents; token states, zeros for those that fill a prompt up (the transformer is given no mask)."""

    def limits(self) -> dict[str, int]:
        return {"tokenizer": _TOKENS}

    def text_settings(self) -> dict[str, Any]:
        return {"t5_tokens": _TOKENS}

    @property
    def places(self) -> int:
        return int(self.network.config.pos_embed_max_size**0.5)

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, _, _, _ = self.pipe.encode_prompt(
            prompt=list(prompts),
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=_TOKENS,
        )
        return {"encoder_hidden_states": states}


@register
class AuraFlow(Family):
    """AuraFlow. No prompt is the encoded empty prompt. The network is told the share of noise itself, between 0 and 1."""

    name = "AuraFlow"
    pipelines = ("AuraFlowPipeline",)
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    flow: ClassVar = {"time_scale": 1.0}

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        return _Transformer(self.pipe.transformer)

    def codec(self) -> AuraFlowCodec:
        return AuraFlowCodec(self.pipe)

    def refusal(self) -> str | None:
        pipe, transformer = self.pipe, self.pipe.transformer
        return distilled(pipe, transformer) or other_input(transformer, pipe.vae.config.latent_channels)
