"""Lumina-Next: a transformer of VAE latents, rectified flow told by its signal, Gemma; rotary positions by the image's size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mmg_diffusers.pipelines.adapters.base import Family
from mmg_diffusers.pipelines.adapters.codecs import CleaningCodec, LatentCodec, size_of
from mmg_diffusers.pipelines.adapters.networks import Network, told
from mmg_diffusers.pipelines.adapters.refusals import distilled, other_input
from mmg_diffusers.pipelines.adapters.registry import register

# Places along either axis that the pipeline makes rotary positions for.
_PLACES = 384


@lru_cache(maxsize=4)
def _rotary(width: int, factor: float) -> Tensor:
    """Rotary positions, stretched for images of another area than the native one, as the pipeline does at any level."""
    from diffusers.models.embeddings import get_2d_rotary_pos_embed_lumina

    return get_2d_rotary_pos_embed_lumina(width, _PLACES, _PLACES, linear_factor=factor, ntk_factor=1.0)


class _Transformer(Network):
    """The transformer's call, with attention in proportion to the tokens of the native size."""

    def forward(self, x: Tensor, time: Tensor, encoder_hidden_states: Tensor, encoder_mask: Tensor) -> Tensor:
        height, width = size_of(self.module)
        # Where latents have 8 pixels and tokens 16, as the pipeline takes it.
        tokens = (height // 2) * (width // 2)
        return self.module(
            hidden_states=x,
            timestep=told(time, x),
            encoder_hidden_states=encoder_hidden_states.to(x.dtype),
            encoder_mask=encoder_mask,
            image_rotary_emb=_rotary(self.module.head_dim, math.sqrt(x.shape[-2] * x.shape[-1] / (height * width))),
            cross_attention_kwargs={"base_sequence_length": tokens},
            return_dict=False,
        )[0]


class LuminaCodec(CleaningCodec, LatentCodec):
    """VAE latents, scaled; Gemma's token states with their mask, as long as each prompt is."""

    @property
    def places(self) -> int:
        return _PLACES

    @torch.inference_mode()
    def encode_prompts(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        states, mask, _, _ = self.pipe.encode_prompt(
            list(prompts), False, device=self.device, clean_caption=self.cleans
        )
        return {"encoder_hidden_states": states, "encoder_mask": mask}

    def limits(self) -> dict[str, int]:
        return dict.fromkeys(super().limits(), int(self.pipe.max_sequence_length))

    def text_settings(self) -> dict[str, Any]:
        return {**super().text_settings(), "text_tokens": self.pipe.max_sequence_length}


@register
class Lumina(Family):
    """Lumina-Next. No prompt is the encoded empty prompt; the pipeline fills it up to the prompt's length, which its mask
    takes back.
    """

    name = "Lumina-Next"
    pipelines = ("LuminaPipeline",)
    parts = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")
    flow: ClassVar = {"prediction": "reversed_flow_prediction", "time_scale": 1.0, "told": "signal"}

    @property
    def learned_variance(self) -> bool:  # type: ignore[override]
        return bool(self.pipe.transformer.config.learn_sigma)

    def networks(self) -> tuple[nn.Module, ...]:
        return (self.pipe.transformer,)

    def network(self) -> nn.Module:
        return _Transformer(self.pipe.transformer)

    def codec(self) -> LuminaCodec:
        return LuminaCodec(self.pipe)

    def refusal(self) -> str | None:
        transformer = self.pipe.transformer
        return distilled(self.pipe, transformer) or other_input(transformer, self.pipe.vae.config.latent_channels)
