"""Chroma: a transformer of packed latents, rectified flow, T5 with a mask that reaches over the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.codecs import LatentCodec
from mmg_diffusers.pipelines.adapters.networks import Network, grid_ids, pack, told, unpack
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register

# Tokens that T5 is given, the default of the pipeline.
_T5_TOKENS = 512
# Names of variants that were distilled to a few steps.
_FLASH = r"chroma.*-flash\b"


class _Transformer(Network):
    """The transformer's call. The mask of a prompt is made longer by ones, the image's tokens."""

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        tokens, states = pack(x), encoder_hidden_states.to(x.dtype)
        text = attention_mask.to(x.dtype)
        out = self.module(
            hidden_states=tokens,
            timestep=told(time, x),
            encoder_hidden_states=states,
            txt_ids=states.new_zeros(states.shape[1], 3),
            img_ids=grid_ids(x),
            attention_mask=torch.cat([text, text.new_ones(tokens.shape[:2])], 1),
            return_dict=False,
        )[0]
        return unpack(out, x)


class ChromaCodec(LatentCodec):
    """VAE latents, shifted and scaled; T5's token states, and the mask of the text and of one token that fills it up."""

    packed = 2

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, _, mask, *_ = self.pipe.encode_prompt(
            list(prompts), device=self.device, do_classifier_free_guidance=False, max_sequence_length=_T5_TOKENS
        )
        return {"encoder_hidden_states": states, "attention_mask": mask}

    def limits(self) -> dict[str, int]:
        return dict.fromkeys(super().limits(), _T5_TOKENS)

    def text_settings(self) -> dict[str, Any]:
        return {"t5_tokens": _T5_TOKENS}


@register
class Chroma(Family):
    """Chroma, which was trained with prompts left out. No prompt is the encoded empty prompt, with its own mask."""

    name = "Chroma"
    pipelines = ("ChromaPipeline", "ChromaImg2ImgPipeline", "ChromaInpaintPipeline")
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    distilled_names = _FLASH
    flow: ClassVar = {"time_scale": 1.0}

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        return _Transformer(self.pipe.transformer)

    def codec(self) -> ChromaCodec:
        return ChromaCodec(self.pipe)

    def refusal(self) -> str | None:
        transformer = self.pipe.transformer
        return distilled(self.pipe, transformer, self.distilled_names) or other_input(
            transformer, 4 * self.pipe.vae.config.latent_channels
        )
